"""Slurm: jobs of one node end with the results of one process, as do two processes told what it tells."""

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lightning_ltts.models.weights import read_pickle
from tests.cluster.commands import (
    FIT,
    LTTS,
    ROOT,
    RUN,
    TWO,
    finish,
    free_port,
    printed,
    start,
    surrounding,
)
from tests.cluster.helpers import close, rows, shards_of
from tests.cluster.kills import in_folder, kill_and_go_on
from tests.cluster.slurm import NOT_THERE, missing, slurm

pytestmark = pytest.mark.processes
STEP = "srun --kill-on-bad-exit=1"  # as docs/scale.md has it
JOB = """#!/bin/bash
#SBATCH --nodes=1 --ntasks-per-node=2 --signal=SIGTERM@120 --time=10 --output=said
{step} {command}
"""
LAUNCHER = ["-m", "hydra/launcher=slurm"]
SMALL = [f"hydra.launcher.{x}" for x in ("gpus_per_node=null", "mem_gb=null", "cpus_per_task=1")]


@pytest.fixture(scope="module")
def cluster() -> Iterator[dict[str, str]]:
    """What to add to the environment to reach a Slurm that ends with these tests."""
    if lacking := missing():
        pytest.skip(NOT_THERE.format(lacking[0]))
    with slurm() as environment:
        yield {"SLURM_CONF": environment["SLURM_CONF"]}


def test_without_slurm_the_script_says_so(tmp_path: Path) -> None:
    """Whatever this machine has: it finds no commands."""
    command = [sys.executable, str(ROOT / "tests/cluster/slurm.py"), "srun", "hostname"]
    nowhere = surrounding(PATH=str(tmp_path))
    done = subprocess.run(command, env=nowhere, capture_output=True, text=True)
    assert done.returncode == 1
    expected = re.escape(NOT_THERE).replace(r"\{\}", r"\w+")
    assert re.fullmatch(f"error: {expected}\n", done.stderr), done.stderr


def script(folder: Path, arguments: list[str]) -> str:
    """The name of a job's script, which does a command in two processes."""
    command = [*LTTS, arguments[0], "--config", printed(folder, [*arguments, *TWO])]
    (folder / "job.sh").write_text(JOB.format(step=STEP, command=" ".join(command)))
    return "job.sh"


def test_srun(
    cluster: dict[str, str], mine_command: list[str], mined: dict[str, Any], tmp_path: Path
) -> None:
    file = printed(tmp_path, [*mine_command, *TWO])
    step = [*STEP.split(), "--ntasks-per-node=2"]
    finish(start(tmp_path, [*step, *LTTS, "mine", "--config", file], **cluster))
    assert shards_of(tmp_path / RUN / "trajectories") == mined


def test_sbatch(
    cluster: dict[str, str], predict_command: list[str], predicted: Path, tmp_path: Path
) -> None:
    finish(start(tmp_path, ["sbatch", "--wait", script(tmp_path, predict_command)], **cluster))
    assert close(rows(tmp_path / RUN), rows(predicted))


def test_a_job_that_is_told_to_end_goes_on(
    cluster: dict[str, str], mine_command: list[str], mined: dict[str, Any], tmp_path: Path
) -> None:
    """By the same script; its processes stop at once, and say how to go on."""
    job, store = script(tmp_path, mine_command), tmp_path / RUN / "trajectories"
    name = finish(start(tmp_path, ["sbatch", "--parsable", job], **cluster)).strip()
    while not list(store.glob("train/*.safetensors")):
        time.sleep(0.05)
    finish(start(tmp_path, ["scancel", "--signal=TERM", name], **cluster))
    while finish(start(tmp_path, ["squeue", "--noheader", "--jobs", name], **cluster)).strip():
        time.sleep(0.2)
    assert (tmp_path / "said").read_text().count("stopped by SIGTERM; ") == 1
    assert len(shards_of(store)) < len(mined)
    finish(start(tmp_path, ["sbatch", "--wait", job], **cluster))
    assert shards_of(store) == mined


@pytest.mark.crash
def test_killed_tasks(
    cluster: dict[str, str], killed: tuple[list[str], Callable[[Path], None]], tmp_path: Path
) -> None:
    arguments, check = killed
    step = [*STEP.split(), "--ntasks-per-node=2"]
    kill_and_go_on([*step, *LTTS, *arguments, *TWO], in_folder, check, tmp_path, **cluster)


def need_launcher() -> None:
    reason = "the launcher is not installed (pip install 'lightning-ltts[slurm]')"
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason=reason)


def test_a_sweep(cluster: dict[str, str], tmp_path: Path) -> None:
    """Its jobs train as one process does, one after another."""
    need_launcher()
    ends = {}
    for name, options in (("one", ["-m"]), ("jobs", [*LAUNCHER, *SMALL])):
        command = [*LTTS, *FIT, *options, "seed_everything=0,1"]
        finish(start(tmp_path / name, command, **cluster))
        checkpoints = sorted((tmp_path / name / "logs").rglob("last.ckpt"))
        ends[name] = [read_pickle(path)["state_dict"] for path in checkpoints]
    assert len(ends["one"]) == len(ends["jobs"]) == 2
    for one, other in zip(ends["one"], ends["jobs"], strict=True):
        assert all(one[key].equal(other[key]) for key in one)


def test_a_sweep_on_two_devices(cluster: dict[str, str], tmp_path: Path) -> None:
    """Every job has a task for each, and trains as two processes that Lightning starts."""
    need_launcher()
    tasks = [*LAUNCHER, *SMALL, "hydra.launcher.tasks_per_node=2"]
    ends = []
    for name, options in (("lightning", []), ("job", tasks)):
        finish(start(tmp_path / name, [*LTTS, *FIT, *TWO, *options], **cluster))
        (last,) = (tmp_path / name / "logs").rglob("last.ckpt")
        ends.append(read_pickle(last)["state_dict"])
    assert all(ends[0][key].equal(ends[1][key]) for key in ends[0])


def test_two_processes_told_what_srun_tells(
    mine_command: list[str], mined: dict[str, Any], tmp_path: Path
) -> None:
    """Without a Slurm."""
    names = {
        "JOB_ID": "1", "JOB_NAME": "mine", "NTASKS": "2", "NTASKS_PER_NODE": "2", "NNODES": "1",
        "NODEID": "0", "NODELIST": "localhost", "JOB_NODELIST": "localhost",
    }  # fmt: skip
    told = {f"SLURM_{name}": value for name, value in names.items()} | {
        "MASTER_PORT": str(free_port())
    }
    command = [*LTTS, *mine_command, *TWO]
    ranks = ({"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)} for rank in range(2))
    finish(*[start(tmp_path, command, **told, **rank) for rank in ranks])
    assert shards_of(tmp_path / RUN / "trajectories") == mined
