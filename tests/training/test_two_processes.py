"""Each module on two gloo processes: replicated weights (DDP), sharded ones (FSDP2)."""

import copy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lightning_ltts import load_reasoner
from lightning_ltts.training.reinforcement import ReinforcementModule
from lightning_ltts.training.start import Start
from tests.training.helpers import make_data, make_trainer
from tests.training.in_two_processes import SUPERVISED, make_grpo, make_noise

pytestmark = pytest.mark.processes

ROOT = Path(__file__).parents[2]
SCRIPT = "tests.training.in_two_processes"
REINFORCED = ["ColarGrpoModule", "GrpoModule", "NoiseModule"]


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
    runs = [(strategy, name) for strategy in ("ddp", "fsdp") for name in SUPERVISED]
    runs += [("ddp", name) for name in REINFORCED]
    assert all(said.count(f"{strategy} {name} accuracy") == 1 for strategy, name in runs)
    assert said.count("effective batch 32") == len(runs)
    assert "sync_dist" not in said  # Lightning's warning of a number that is one process's alone


def test_reinforcement(folder: Path) -> None:
    """It trains on replicated weights, which change, and refuses sharded ones."""
    before, after = (
        load_reasoner(folder / "ddp" / x / "last.ckpt").state_dict()
        for x in ("ColarModule", "ColarGrpoModule")
    )
    assert max(float((before[name] - after[name]).abs().max()) for name in before) > 1e-4
    said = (folder / "said").read_text()
    for name in REINFORCED:
        assert f"fsdp {name} refused: reinforcement does not train sharded weights" in said
        assert not (folder / "fsdp" / name).exists()


@pytest.mark.parametrize(("name", "make"), [("GrpoModule", make_grpo), ("NoiseModule", make_noise)])
def test_two_processes_learn_as_one_does(
    name: str, make: Callable[[Start], ReinforcementModule], folder: Path, tmp_path: Path
) -> None:
    """Each with half of the questions of a batch."""
    module = make(Start(str(folder / "ddp/CoconutModule/last.ckpt")))
    before = copy.deepcopy(module.state_dict())
    make_trainer(tmp_path, default_root_dir=tmp_path).fit(module, make_data(32, batch_size=32))
    one = module.state_dict()
    two = torch.load(folder / "ddp" / name / "last.ckpt", weights_only=True)["state_dict"]
    assert all(torch.allclose(one[key], two[key], atol=1e-5) for key in one)
    assert any(not torch.allclose(one[key], before[key], atol=1e-3) for key in one)
