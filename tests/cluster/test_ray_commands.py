"""Commands with engine=ray: on a cluster of their own or one that is there, and what Ctrl-C keeps."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lightning_ltts.analysis.prediction_files import PREDICTIONS
from tests.cluster.commands import LTTS, RUN, finish, start
from tests.cluster.helpers import predictions, shards_of

pytest.importorskip("ray", reason="Ray is not installed (pip install 'lightning-ltts[ray]')")
psutil = pytest.importorskip("psutil", reason="psutil is not installed (pip install psutil)")
pytestmark = pytest.mark.processes
BY_RAY = ["engine=ray", "engine.init_args.workers=2"]
HEAD = [
    sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--port=0",
    "--num-cpus=2", "--include-dashboard=false", "--disable-usage-stats",
]  # fmt: skip
STORE = f"{RUN}/trajectories"


@pytest.fixture
def place() -> Iterator[dict[str, str]]:
    """The environment in which Ray keeps its files apart, so that `auto` finds no other cluster."""
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder:
        yield {"RAY_TMPDIR": folder}


def await_file(process: subprocess.Popen[str], folder: Path, pattern: str) -> None:
    """Waits until a command has written something into a file."""
    while not any(path.stat().st_size for path in folder.glob(pattern)):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)


def started_by(process: subprocess.Popen[str]) -> list[Any]:
    """The processes of Ray that a command has started: workers, and what looks after them."""
    found = psutil.Process(process.pid).children(recursive=True)
    assert len(found) > 2
    return found


def left_of(processes: list[Any]) -> list[Any]:
    """Those that have not ended in some seconds."""
    return psutil.wait_procs(processes, timeout=30)[1]


def test_mining_on_a_cluster_of_its_own(
    place: dict[str, str], mine_command: list[str], mined: dict[str, Any], tmp_path: Path
) -> None:
    """One for both stores, which ends with the command."""
    process = start(tmp_path, [*LTTS, *mine_command, *BY_RAY], **place)
    await_file(process, tmp_path / STORE, "train/*.safetensors")
    others = started_by(process)
    assert "questions/s" in finish(process)
    assert left_of(others) == []
    assert len(list(Path(place["RAY_TMPDIR"]).glob("**/session_2*/logs/raylet.out"))) == 1
    assert shards_of(tmp_path / STORE) == mined


def test_a_cluster_that_is_there(
    place: dict[str, str],
    mine_command: list[str],
    mined: dict[str, Any],
    predict_command: list[str],
    predicted: Path,
    tmp_path: Path,
) -> None:
    """Both commands join it, and leave it as it was."""
    head = start(tmp_path, HEAD, **place)
    try:
        await_file(head, Path(place["RAY_TMPDIR"]), "**/ray_current_cluster")
        for command in (mine_command, predict_command):
            joining = [*LTTS, *command, *BY_RAY, "ray_address=auto"]
            finish(start(tmp_path / command[0], joining, **place))
        assert head.poll() is None
        others = started_by(head)
    finally:
        head.terminate()
        head.communicate(timeout=60)
    assert left_of(others) == []
    assert shards_of(tmp_path / "mine" / STORE) == mined
    assert predictions(tmp_path / "predict" / RUN) == predictions(predicted)


def stop(folder: Path, command: list[str], place: dict[str, str], pattern: str) -> None:
    """Sends Ctrl-C to all processes of a command, as a terminal does, once it has left a file."""
    process = start(folder, command, **place)
    await_file(process, folder / RUN, pattern)
    others = started_by(process)
    os.killpg(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert said.count("stopped by Ctrl-C; ") == 1
    assert "Traceback" not in said, said
    assert left_of(others) == []


def test_ctrl_c_keeps_what_is_mined(
    place: dict[str, str], mine_command: list[str], mined: dict[str, Any], tmp_path: Path
) -> None:
    """The same command goes on."""
    command = [*LTTS, *mine_command, *BY_RAY]
    stop(tmp_path, command, place, "trajectories/train/*.safetensors")
    times = {path: path.stat().st_mtime_ns for path in tmp_path.glob(f"{STORE}/*/*.safetensors")}
    assert 0 < len(times) < len(mined)
    finish(start(tmp_path, command, **place))
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert shards_of(tmp_path / STORE) == mined


def test_ctrl_c_keeps_what_is_predicted(
    place: dict[str, str], predict_command: list[str], tmp_path: Path
) -> None:
    """Likewise; of more questions, so that it comes half way."""
    more = ["data.init_args.problems.init_args.size=300", "model.init_args.token_budget=100"]
    command = [*LTTS, *predict_command, *more]
    stop(tmp_path / "ray", [*command, *BY_RAY], place, "predictions.rank0.jsonl")
    kept = (tmp_path / "ray" / RUN / "predictions.rank0.jsonl").read_bytes().splitlines(True)
    assert 0 < len(kept) < 300
    finish(start(tmp_path / "one", command), start(tmp_path / "ray", [*command, *BY_RAY], **place))
    assert predictions(tmp_path / "ray" / RUN) == predictions(tmp_path / "one" / RUN)
    assert {*kept} <= {*(tmp_path / "ray" / RUN / PREDICTIONS).read_bytes().splitlines(True)}
