"""Two processes of one machine that torchrun starts end with the results of one."""

import os
import random
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from lightning_ltts.models.weights import read_pickle
from tests.cluster.commands import (
    FIT,
    LTTS,
    RUN,
    TORCHRUN,
    TWO,
    finish,
    printed,
    start,
    torchrun_of_two_nodes,
)
from tests.cluster.helpers import close, rows, shards_of

pytestmark = pytest.mark.processes
KILLS = int(os.environ.get("LTTS_KILLS", "2"))  # of ranks, for each command


def by_torchrun(folder: Path, arguments: list[str]) -> Path:
    """Runs what a command prints of its configuration; the folder of the results."""
    file = printed(folder, [*arguments, *TWO])
    finish(start(folder, [*TORCHRUN, arguments[0], "--config", file]))
    return folder / RUN


def test_mining(mine_command: list[str], mined: dict[str, Any], tmp_path: Path) -> None:
    assert shards_of(by_torchrun(tmp_path, mine_command) / "trajectories") == mined


def test_predictions(predict_command: list[str], predicted: Path, tmp_path: Path) -> None:
    assert close(rows(by_torchrun(tmp_path, predict_command)), rows(predicted))


def test_training(tmp_path: Path) -> None:
    """Ends with the weights of two processes that Lightning starts."""
    finish(start(tmp_path / "lightning", [*LTTS, *FIT, *TWO]))
    expected = weights(tmp_path / "lightning" / RUN)
    found = weights(by_torchrun(tmp_path / "torchrun", FIT))
    assert found == expected


def test_two_nodes(mine_command: list[str], mined: dict[str, Any], tmp_path: Path) -> None:
    """Two launchers that meet at an address, as on two machines with a common file system."""
    nodes = ["trainer.num_nodes=2", "trainer.devices=1", "trainer.strategy=ddp"]
    command = [*torchrun_of_two_nodes(), *mine_command, *nodes]
    finish(start(tmp_path, command), start(tmp_path, command))
    assert shards_of(tmp_path / RUN / "trajectories") == mined


def weights(folder: Path) -> dict[str, bytes]:
    """The bytes of each tensor of the last epoch."""
    tensors = read_pickle(folder / "checkpoints/last.ckpt")["state_dict"]
    return {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}


def has_killed(process: subprocess.Popen[str], chance: random.Random) -> bool:
    """Kills one of the two processes soon after they have met; whether that ended the run."""
    assert process.stdout is not None
    for line in process.stdout:
        if "Starting with 2 processes" in line:
            break
    time.sleep(chance.uniform(0, 2))
    ranks = psutil.Process(process.pid).children() if process.poll() is None else []
    if ranks:
        with suppress(ProcessLookupError):  # it has ended meanwhile
            os.kill(chance.choice(ranks).pid, signal.SIGKILL)
    said, _ = process.communicate(timeout=450)
    assert process.returncode == 0 or "SIGKILL" in said, said[-3000:]
    return process.returncode != 0


@pytest.mark.crash
@pytest.mark.parametrize("verb", ["mine", "predict"])
def test_killed_ranks(
    verb: str,
    mine_command: list[str],
    mined: dict[str, Any],
    predict_command: list[str],
    predicted: Path,
    tmp_path: Path,
) -> None:
    """The same command goes on, as often as it takes; a run that is over starts in a new folder."""
    arguments = mine_command if verb == "mine" else predict_command
    command = [*TORCHRUN, *arguments, *TWO]
    chance, kills, runs = random.Random(verb), 0, 0
    while kills < KILLS:
        runs += 1
        assert runs < 5 * KILLS, "most runs were over before a process could be killed"
        folder = tmp_path / str(runs)
        while kills < KILLS and has_killed(start(folder, command), chance):
            kills += 1
        if kills == KILLS:
            finish(start(folder, command))
        if verb == "mine":
            assert shards_of(folder / RUN / "trajectories") == mined
        else:
            assert close(rows(folder / RUN), rows(predicted))
