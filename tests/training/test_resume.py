"""A training that was killed goes on as if it had not been."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lightning_ltts import cli, load_reasoner

pytestmark = pytest.mark.slow

SMALL = (
    "experiment=methods/codi", "trainer.max_epochs=4", "trainer.accelerator=cpu", "trainer.log_every_n_steps=1",
    "data.init_args.train.init_args.size=96", "data.init_args.val.init_args.size=8", "data.init_args.batch_size=16",
    "callbacks.flat_accuracy=null", "trainer.enable_progress_bar=false",
)  # fmt: skip


def fit(folder: Path, monkeypatch: pytest.MonkeyPatch, *overrides: str) -> None:
    """A run to its end, in this process."""
    folder.mkdir(exist_ok=True)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["ltts", "fit", *SMALL, "name=run", *overrides])
    cli.main()


def fit_until_killed(folder: Path, file: Path) -> None:
    """A run in a process of its own, which is killed (SIGKILL) when the file is there."""
    folder.mkdir()
    command = [sys.executable, "-W", "ignore", "-m", "lightning_ltts", "fit", *SMALL, "name=run"]
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while not file.exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it ended before it could be killed"


def losses(folder: Path) -> dict[int, float]:
    """Step -> loss; where a run was begun again, what it says later counts."""
    curve: dict[int, float] = {}
    for run in sorted((folder / "logs/run/tensorboard/fit").iterdir()):  # names sort by time
        events = EventAccumulator(str(run))
        events.Reload()
        if "train/loss" in events.Tags()["scalars"]:
            curve |= {event.step: event.value for event in events.Scalars("train/loss")}
    return curve


@pytest.mark.processes
def test_same_curve_and_weights_after_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in the epoch after the first checkpoint, then begun again from it."""
    last = tmp_path / "killed/logs/run/checkpoints/last.ckpt"
    fit_until_killed(tmp_path / "killed", last)
    fit(tmp_path / "killed", monkeypatch, f"ckpt_path={last}")
    fit(tmp_path / "whole", monkeypatch)
    one, other = losses(tmp_path / "whole"), losses(tmp_path / "killed")
    assert len(one) == 24
    assert one == other
    ends = [
        load_reasoner(tmp_path / name / "logs/run/checkpoints/last.ckpt")
        for name in ("whole", "killed")
    ]
    assert all(torch.equal(a, b) for a, b in zip(*(end.parameters() for end in ends), strict=True))
