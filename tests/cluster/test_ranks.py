"""An error of one process of a distributed run ends all of them, in seconds and with one sentence."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.cluster.commands import LTTS, TORCHRUN, TWO, start

pytestmark = pytest.mark.processes
# far below the half hour after which torch gives a communication up, on a busy machine too
IN_TIME = 120
LAUNCHERS = {"lightning": LTTS, "torchrun": TORCHRUN}


@pytest.fixture(params=LAUNCHERS)
def launcher(request: pytest.FixtureRequest) -> str:
    return request.param


def run(folder: Path, launcher: str, command: list[str], rank: int, how: str) -> tuple[int, str]:
    """What a command ends with, in time, and says, where a process fails in some way."""
    # a training at its second step
    told = {"FAIL": f"{rank} {how} {int(command[0] == 'fit')}"}
    process = start(folder, [*LAUNCHERS[launcher], *command, *TWO], **told)
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
    verb: str, rank: int, launcher: str, failing: dict[str, list[str]], tmp_path: Path
) -> None:
    code, said = run(tmp_path, launcher, failing[verb], rank, "mistake")
    assert code == (2 if launcher == "lightning" else 1), said
    assert said.count("error: this cannot be done here; do something else") == 1, said
    assert said.count("error: ") == 1, said
    assert tracebacks(said, launcher) == 0, said


def test_a_bug_keeps_its_traceback(
    launcher: str, failing: dict[str, list[str]], tmp_path: Path
) -> None:
    """It alone: the process that waits for the other one says nothing."""
    code, said = run(tmp_path, launcher, failing["mine"], 1, "bug")
    assert code == 1, said
    assert said.count("RuntimeError: nobody expected this") == 1, said
    assert tracebacks(said, launcher) == 1, said


def test_a_killed_process_ends_the_other(
    launcher: str, failing: dict[str, list[str]], tmp_path: Path
) -> None:
    """Where torchrun has started them, it says so."""
    code, said = run(tmp_path, launcher, failing["mine"], 1, "kill")
    assert code == (128 + signal.SIGKILL if launcher == "lightning" else 1), said
    told = "error: another process of this run was ended by SIGKILL; "
    assert said.count(told if launcher == "lightning" else "Signal 9 (SIGKILL)") >= 1, said
    assert tracebacks(said, launcher) == 0, said
