"""Each module on two gloo processes: replicated weights (DDP), sharded ones (FSDP2)."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lightning_ltts import load_reasoner

ROOT = Path(__file__).parents[2]
SCRIPT = "tests.training.in_two_processes"


def train(folder: Path, strategy: str, method: str) -> subprocess.CompletedProcess[str]:
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone", "--local_addr=localhost"]
    return subprocess.run(
        [*launch, "-m", SCRIPT, str(folder / strategy / method), strategy, method],
        capture_output=True, text=True, cwd=ROOT, timeout=300,
    )  # fmt: skip


@pytest.mark.parametrize("method", ["coconut", "codi", "colar"])
def test_sharded_weights_end_as_replicated_ones(method: str, tmp_path: Path) -> None:
    """Also after validations, in which the processes generate for different times."""
    ends = []
    for strategy in ("ddp", "fsdp"):
        done = train(tmp_path, strategy, method)
        assert done.returncode == 0, done.stderr[-2000:]
        assert "effective batch 32" in done.stderr
        ends.append(load_reasoner(tmp_path / strategy / method / "last.ckpt"))
    for (name, one), (_, other) in zip(ends[0].named_parameters(), ends[1].named_parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-5), name


def test_reinforcement(tmp_path: Path) -> None:
    """It trains on replicated weights, which change, and refuses sharded ones."""
    for method in ("colar", "colar_grpo"):
        done = train(tmp_path, "ddp", method)
        assert done.returncode == 0, done.stderr[-2000:]
    before, after = (load_reasoner(tmp_path / "ddp" / x / "last.ckpt").state_dict() for x in ("colar", "colar_grpo"))
    assert max(float((before[name] - after[name]).abs().max()) for name in before) > 1e-4
    (tmp_path / "fsdp").mkdir()
    (tmp_path / "ddp/colar").rename(tmp_path / "fsdp/colar")
    done = train(tmp_path, "fsdp", "colar_grpo")
    assert done.returncode != 0
    assert "reinforcement does not train sharded weights" in done.stderr
