"""What validation and tests find does not depend on the number of devices."""

import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest

from lightning_ltts.data.word_problems import WordProblems
from lightning_ltts.models.latent_lm import LatentReasoner
from tests.helpers import save_reasoner

ROOT = Path(__file__).parents[2]
LAUNCH = [
    "-m",
    "torch.distributed.run",
    "--nproc_per_node=2",
    "--standalone",
    "--local_addr=localhost",
]


@pytest.mark.processes
def test_every_problem_counts_once(gpt2: LatentReasoner, tmp_path: Path) -> None:
    """65 and 7 problems on one process and on two, of which one has a last step without any."""
    save_reasoner(gpt2, tmp_path / "reasoner.ckpt")
    for devices, launch in ((1, []), (2, LAUNCH)):
        done = subprocess.run(
            [sys.executable, *launch, "-m", "tests.training.validation_in_two_processes", str(tmp_path), str(devices)],
            capture_output=True, text=True, cwd=ROOT, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
    one, two = (json.loads((tmp_path / f"{devices}.json").read_text()) for devices in (1, 2))
    for size in (65, 7):
        right = sum(
            len(problem.question) % 2 == 0 for problem in WordProblems("valid", size).load()
        )
        assert 0 < right < size
        assert one[f"val/accuracy of {size}"] == pytest.approx(float(Fraction(right, size)))
    assert {"val/weighted_vote", "val/recall@1", "test/accuracy of 65"} <= one.keys()
    assert two == pytest.approx(one, nan_ok=True)  # recall of no mixed question
