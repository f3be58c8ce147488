"""An error of one process of a distributed run ends all of them, in seconds and with one sentence."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.cluster.commands import FIT, LTTS, ROOT, TORCHRUN, TWO, start

pytestmark = pytest.mark.processes
# far below the half hour after which torch gives a communication up, on a busy machine too
IN_TIME = 120
FAILING = """
import os
import signal
import lightning.pytorch as pl
from lightning_ltts.errors import ConfigError
from lightning_ltts.sampling import GaussianNoise

def fail(rank, how):
    if int(os.environ.get("LOCAL_RANK", "0")) == rank:
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "bug":
            raise RuntimeError("nobody expected this")
        raise ConfigError("this cannot be done here; do something else")

class Noise(GaussianNoise):
    "Noise that one of the processes cannot make."
    def __init__(self, std: float = 0.5, rank: int = 0, how: str = "mistake"):
        super().__init__(std)
        self.rank, self.how = rank, how

    def perturb(self, thought, *, keys, step, spread=None):
        fail(self.rank, self.how)
        return super().perturb(thought, keys=keys, step=step)

class Steps(pl.Callback):
    "Steps of a training of which one of the processes cannot do the second."
    def __init__(self, rank: int = 0, how: str = "mistake"):
        self.rank, self.how = rank, how

    def on_train_batch_start(self, trainer, module, batch, index):
        if index:
            fail(self.rank, self.how)
"""
LAUNCHERS = {"lightning": LTTS, "torchrun": TORCHRUN}


@pytest.fixture(params=LAUNCHERS)
def launcher(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def commands(mine_command: list[str], predict_command: list[str]) -> dict[str, list[str]]:
    """Each with what fails in it."""
    noise = ["sampler.class_path=failing.Noise"]
    steps = ["callbacks.failing.class_path=failing.Steps"]
    return {"mine": mine_command + noise, "predict": predict_command + noise, "fit": FIT + steps}


def run(folder: Path, launcher: str, command: list[str], rank: int, how: str) -> tuple[int, str]:
    """What a command ends with, in time, and says, where a process fails in some way."""
    (folder / "failing.py").write_text(FAILING)
    part = "callbacks.failing" if command[0] == "fit" else "sampler"
    options = [f"{part}.init_args.rank={rank}", f"{part}.init_args.how={how}"]
    path = os.pathsep.join((str(ROOT), str(folder)))
    process = start(folder, [*LAUNCHERS[launcher], *command, *TWO, *options], PYTHONPATH=path)
    try:
        said, _ = process.communicate(timeout=IN_TIME)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return process.returncode, said


def tracebacks(said: str, launcher: str) -> int:
    """Those of ranks; torchrun ends in one of its own."""
    return said.count("Traceback (most recent call last)") - (launcher == "torchrun")


@pytest.mark.parametrize(
    ("verb", "rank"), [("mine", 0), ("mine", 1), ("predict", 1), ("fit", 0), ("fit", 1)]
)
def test_a_mistake_is_told_once(
    verb: str, rank: int, launcher: str, commands: dict[str, list[str]], tmp_path: Path
) -> None:
    code, said = run(tmp_path, launcher, commands[verb], rank, "mistake")
    assert code == (2 if launcher == "lightning" else 1), said
    assert said.count("error: this cannot be done here; do something else") == 1, said
    assert said.count("error: ") == 1, said
    assert tracebacks(said, launcher) == 0, said


def test_a_bug_keeps_its_traceback(
    launcher: str, commands: dict[str, list[str]], tmp_path: Path
) -> None:
    """It alone: the process that waits for the other one says nothing."""
    code, said = run(tmp_path, launcher, commands["mine"], 1, "bug")
    assert code == 1, said
    assert said.count("RuntimeError: nobody expected this") == 1, said
    assert tracebacks(said, launcher) == 1, said


def test_a_killed_process_ends_the_other(
    launcher: str, commands: dict[str, list[str]], tmp_path: Path
) -> None:
    """Where torchrun has started them, it says so."""
    code, said = run(tmp_path, launcher, commands["mine"], 1, "kill")
    assert code == (128 + signal.SIGKILL if launcher == "lightning" else 1), said
    told = "error: another process of this run was ended by SIGKILL; "
    assert said.count(told if launcher == "lightning" else "Signal 9 (SIGKILL)") >= 1, said
    assert tracebacks(said, launcher) == 0, said
