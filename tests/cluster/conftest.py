"""What one process makes of the commands, for the tests to compare with."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.commands import FIT, LTTS, MINE, PREDICT, RUN, finish, start
from tests.cluster.helpers import close, rows, shards_of


@pytest.fixture(scope="session")
def mine_command(reasoner_file: Path) -> list[str]:
    """Mines a few questions."""
    return [*MINE, f"reasoner={reasoner_file}"]


@pytest.fixture(scope="session")
def predict_command(reasoner_file: Path, latent_rm_file: Path) -> list[str]:
    """Predicts a few questions."""
    return [*PREDICT, f"reasoner={reasoner_file}", f"latent_rm={latent_rm_file}"]


@pytest.fixture(scope="session")
def failing(mine_command: list[str], predict_command: list[str]) -> dict[str, list[str]]:
    """Commands that end as the others do, unless a process fails (`tests/cluster/failing.py`)."""
    noise = ["sampler.class_path=tests.cluster.failing.Noise"]
    steps = ["callbacks.failing.class_path=tests.cluster.failing.Steps"]
    return {"mine": mine_command + noise, "predict": predict_command + noise, "fit": FIT + steps}


@pytest.fixture(scope="session")
def mined(mine_command: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The store that one process mines."""
    folder = tmp_path_factory.mktemp("mined")
    finish(start(folder, [*LTTS, *mine_command]))
    return shards_of(folder / RUN / "trajectories")


@pytest.fixture(scope="session")
def predicted(predict_command: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the predictions of one process."""
    folder = tmp_path_factory.mktemp("predicted")
    finish(start(folder, [*LTTS, *predict_command]))
    return folder / RUN


@pytest.fixture(params=["mine", "predict"])
def killed(
    request: pytest.FixtureRequest,
    mine_command: list[str],
    mined: dict[str, Any],
    predict_command: list[str],
    predicted: Path,
) -> tuple[list[str], Callable[[Path], None]]:
    """A command, and what checks a folder of its run: nothing is lost, and nothing there twice."""

    def check_store(folder: Path) -> None:
        assert shards_of(folder / RUN / "trajectories") == mined

    def check_predictions(folder: Path) -> None:
        assert close(rows(folder / RUN), rows(predicted))

    if request.param == "mine":
        return mine_command, check_store
    return predict_command, check_predictions
