"""Two processes of one machine that torchrun starts end with the results of one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

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
from tests.cluster.kills import children, kill_and_go_on

pytestmark = pytest.mark.processes


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


@pytest.mark.crash
def test_killed_ranks(killed: tuple[list[str], Callable[[Path], None]], tmp_path: Path) -> None:
    arguments, check = killed
    kill_and_go_on([*TORCHRUN, *arguments, *TWO], children, check, tmp_path)
