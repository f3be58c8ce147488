"""Each module on two gloo processes: replicated weights (DDP), sharded ones (FSDP2)."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lightning_ltts import load_reasoner

pytestmark = pytest.mark.processes

ROOT = Path(__file__).parents[2]
SCRIPT = "tests.training.in_two_processes"
SUPERVISED = ["CoconutModule", "CodiModule", "ColarModule"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where two processes have trained everything; `said` holds what they wrote."""
    folder = tmp_path_factory.mktemp("runs")
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc_per_node=2",
        "--standalone",
        "--local_addr=localhost",
    ]
    done = subprocess.run(
        [*launch, "-m", SCRIPT, str(folder)], capture_output=True, text=True, cwd=ROOT, timeout=600
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (folder / "said").write_text(done.stdout + done.stderr)
    return folder


@pytest.mark.parametrize("method", SUPERVISED)
def test_sharded_weights_end_as_replicated_ones(method: str, folder: Path) -> None:
    """Also after validations, in which the processes generate for different times."""
    ends = [load_reasoner(folder / strategy / method / "last.ckpt") for strategy in ("ddp", "fsdp")]
    for (name, one), (_, other) in zip(
        ends[0].named_parameters(), ends[1].named_parameters(), strict=True
    ):
        assert torch.allclose(one, other, atol=1e-5), name


def test_what_is_said(folder: Path) -> None:
    """The batch of both processes together, once for each run."""
    said = (folder / "said").read_text()
    runs = [(strategy, method) for strategy in ("ddp", "fsdp") for method in SUPERVISED] + [
        ("ddp", "ColarGrpoModule")
    ]
    assert all(said.count(f"{strategy} {method} accuracy") == 1 for strategy, method in runs)
    assert said.count("effective batch 32") == len(runs)
    assert "sync_dist" not in said  # Lightning's warning of a number that is one process's alone


def test_reinforcement(folder: Path) -> None:
    """It trains on replicated weights, which change, and refuses sharded ones."""
    before, after = (
        load_reasoner(folder / "ddp" / x / "last.ckpt").state_dict()
        for x in ("ColarModule", "ColarGrpoModule")
    )
    assert max(float((before[name] - after[name]).abs().max()) for name in before) > 1e-4
    assert (
        "fsdp refused: reinforcement does not train sharded weights"
        in (folder / "said").read_text()
    )
    assert not (folder / "fsdp/ColarGrpoModule").exists()
