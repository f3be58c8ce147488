"""An error of one process of a distributed run ends all of them, in seconds and with one sentence."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SAMPLER = """
import os
from lightning_ltts.errors import ConfigError
from lightning_ltts.sampling import GaussianNoise

class Failing(GaussianNoise):
    "Noise that one of the processes cannot make."
    def __init__(self, std: float = 0.5, rank: int = 0, bug: bool = False):
        super().__init__(std)
        self.rank, self.bug = rank, bug

    def perturb(self, thought, *, keys, step, spread=None):
        if int(os.environ.get("LOCAL_RANK", "0")) == self.rank:
            if self.bug:
                raise RuntimeError("nobody expected this")
            raise ConfigError("there is no noise here; use another sampler")
        return super().perturb(thought, keys=keys, step=step)
"""
MINE = [
    "mine", "experiment=demo/latent_rm", "trainer.accelerator=cpu", "trainer.devices=2",
    "trainer.strategy=ddp", "trainer.enable_progress_bar=false", "sampler.class_path=failing.Failing",
    "data.init_args.train.init_args.size=64", "data.init_args.val.init_args.size=8",
    "data.init_args.shard_size=8", "data.init_args.informative=null",
]  # fmt: skip


def run(folder: Path, *launch: str, options: list[str]) -> tuple[int, str, float]:
    (folder / "failing.py").write_text(SAMPLER)
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{folder}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launch, "-m", "lightning_ltts", *MINE, *options]
    began = time.monotonic()
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=400
    )
    return done.returncode, done.stderr, time.monotonic() - began


@pytest.mark.processes
@pytest.mark.parametrize("rank", [0, 1])
def test_a_mistake_is_told_once(rank: int, reasoner_file: Path, tmp_path: Path) -> None:
    options = [f"reasoner={reasoner_file}", f"sampler.init_args.rank={rank}"]
    code, said, _ = run(tmp_path, options=options)
    assert code == 2, said
    assert said.count("error: there is no noise here; use another sampler") == 1, said
    assert "Traceback" not in said


@pytest.mark.processes
def test_a_bug_keeps_its_traceback(reasoner_file: Path, tmp_path: Path) -> None:
    options = [
        f"reasoner={reasoner_file}",
        "sampler.init_args.rank=1",
        "sampler.init_args.bug=true",
    ]
    code, said, _ = run(tmp_path, options=options)
    assert code == 1, said
    assert said.count("RuntimeError: nobody expected this") == 1, said
