"""A run that was killed half way goes on with another number of devices."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from lightning_ltts.models.weights import read_pickle
from lightning_ltts.run_folder import FIT_MANIFEST
from tests.cluster.commands import LTTS, RUN, TWO, finish, start
from tests.cluster.helpers import close, rows, shards_of

pytestmark = pytest.mark.processes
ONE = ["trainer.devices=1"]


@pytest.fixture(params=[(TWO, ONE), (ONE, TWO)], ids=["2-to-1", "1-to-2"])
def devices(request: pytest.FixtureRequest) -> tuple[list[str], list[str]]:
    """Those of the run that is killed, and of the one that goes on."""
    return request.param


def kill(folder: Path, command: list[str], after: int) -> None:
    """Runs a command whose first process is killed after so many steps; the others end with it."""
    process = start(folder, [*LTTS, *command], FAIL=f"0 kill {after}")
    said, _ = process.communicate(timeout=450)
    assert process.returncode == -signal.SIGKILL, said[-3000:]


def test_mining(
    devices: tuple[list[str], list[str]],
    failing: dict[str, list[str]],
    mined: dict[str, Any],
    tmp_path: Path,
) -> None:
    killed, goes_on = ([*failing["mine"], *some] for some in devices)
    kill(tmp_path, killed, after=16)
    store = tmp_path / RUN / "trajectories"
    times = {path: path.stat().st_mtime_ns for path in store.glob("*/*.safetensors")}
    assert 0 < len(times) < len(mined)
    finish(start(tmp_path, [*LTTS, *goes_on]))
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert shards_of(store) == mined


def test_predictions(
    devices: tuple[list[str], list[str]],
    failing: dict[str, list[str]],
    predicted: Path,
    tmp_path: Path,
) -> None:
    small = "model.init_args.token_budget=100"  # two questions a pass
    killed, goes_on = ([*failing["predict"], small, *some] for some in devices)
    kill(tmp_path, killed, after=20)  # in the second pass
    parts = list((tmp_path / RUN).glob("predictions.rank*.jsonl"))
    assert 0 < sum(len(path.read_text().splitlines()) for path in parts) < len(rows(predicted))
    finish(start(tmp_path, [*LTTS, *goes_on]))
    assert close(rows(tmp_path / RUN), rows(predicted))


def test_training(
    devices: tuple[list[str], list[str]], failing: dict[str, list[str]], tmp_path: Path
) -> None:
    """Killed in its second epoch of two, which is then done, with as many questions a device."""
    killed, goes_on = ([*failing["fit"], *some] for some in devices)
    kill(tmp_path, killed, after=4 // (1 + (devices[0] == TWO)))
    last = tmp_path / RUN / "checkpoints/last.ckpt"
    assert read_pickle(last)["epoch"] == 0
    said = finish(start(tmp_path, [*LTTS, *goes_on]))
    assert said.count("goes on from ") == 1
    assert read_pickle(last)["epoch"] == 1
    finished = json.loads((tmp_path / RUN / FIT_MANIFEST).read_text())["finished"]
    assert (finished["epochs"], finished["steps"]) == (2, 4 + 2)
