"""SIGTERM and Ctrl-C: exit code, one sentence, and what was finished is there."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lightning_ltts.models.weights import read_pickle
from lightning_ltts.run_folder import FIT_MANIFEST, LOCK
from tests.crash.victims import ROOT, Zygote, start
from tests.helpers import save_latent_rm, save_reasoner

pytestmark = pytest.mark.processes

ENDLESS = [
    "trainer.accelerator=cpu",
    "trainer.enable_progress_bar=false",
    "trainer.max_epochs=9999",
]
FIT = [
    "fit", "experiment=demo/reasoner", *ENDLESS, "model.init_args.start.backbone.n_embd=16",
    "data.init_args.train.init_args.size=64", "data.init_args.val.init_args.size=8",
    "data.init_args.batch_size=16", "callbacks.flat_accuracy=null",
]  # fmt: skip
STORE = [
    "experiment=demo/latent_rm", "reasoner=r.ckpt", *ENDLESS, "data.init_args.shard_size=8",
    "data.init_args.token_budget=2000", "data.init_args.train.init_args.size=999",
]  # fmt: skip
PREDICT = [
    "predict", "experiment=demo/search", "reasoner=r.ckpt", "latent_rm=rm.ckpt", *ENDLESS[:2],
    "data.init_args.problems.init_args.size=999", "model.init_args.token_budget=2000",
]  # fmt: skip


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    made = Zygote()
    yield made
    made.close()


@pytest.fixture
def here(gpt2, latent_rm, tmp_path: Path) -> Path:
    save_reasoner(gpt2, tmp_path / "r.ckpt")
    save_latent_rm(latent_rm, tmp_path / "rm.ckpt")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "begun", "number", "kept"),
    [
        (FIT, "reasoner/checkpoints/last.ckpt", signal.SIGTERM, "the last whole epoch is kept in "),
        (FIT, "reasoner/checkpoints/last.ckpt", signal.SIGINT, "the last whole epoch is kept in "),
        (
            ["fit", *STORE],
            "latent_rm/trajectories/train/shard-00000.safetensors",
            signal.SIGTERM,
            "no epoch had ended yet",
        ),
        (
            ["mine", *STORE],
            "latent_rm/trajectories/train/shard-00000.safetensors",
            signal.SIGINT,
            "the shards mined so far are kept, and this goes on: ",
        ),
        (
            PREDICT,
            "search/predictions.rank0.jsonl",
            signal.SIGTERM,
            "the problems predicted so far are kept, and this goes on: ",
        ),
    ],
    ids=["fit-term", "fit-int", "fit-while-mining", "mine", "predict"],
)
def test_a_signal_stops_at_once(
    zygote: Zygote, here: Path, arguments: list[str], begun: str, number: int, kept: str
) -> None:
    victim = start(zygote, here, arguments)
    victim.wait_for(here / "logs/demo" / begun)
    began = time.monotonic()
    assert victim.kill(number) == 128 + number, victim.output.read_text()
    assert time.monotonic() - began < 20  # a second on an idle machine
    lines = victim.output.read_text().splitlines()
    (said,) = [line for line in lines if line.startswith("stopped by")]
    assert said.startswith(
        f"stopped by {'SIGTERM' if number == signal.SIGTERM else 'Ctrl-C'}; {kept}"
    )
    assert said.endswith(f": ltts {' '.join(arguments)}")
    assert not any("Traceback" in line for line in lines)
    assert not list(here.rglob(LOCK)), "the lock is given back"
    assert not list(here.rglob("*.tmp"))
    last = here / "logs/demo/reasoner/checkpoints/last.ckpt"
    if arguments is FIT:
        assert read_pickle(last)["epoch"] >= 0
        assert (
            json.loads((here / "logs/demo/reasoner" / FIT_MANIFEST).read_text())["finished"] is None
        )


def test_overwrite_is_not_part_of_the_command_that_goes_on(zygote: Zygote, here: Path) -> None:
    victim = start(zygote, here, [*FIT, "--overwrite"])
    victim.wait_for(here / "logs/demo/reasoner/checkpoints/last.ckpt")
    victim.kill(signal.SIGTERM)
    (said,) = [x for x in victim.output.read_text().splitlines() if x.startswith("stopped by")]
    assert said.endswith(f"this goes on: ltts {' '.join(FIT)}")


def test_a_second_run_in_the_folder_is_refused(zygote: Zygote, here: Path) -> None:
    """Also with other settings, of which the first run never hears."""
    for arguments, begun in (
        (FIT, "reasoner/checkpoints/last.ckpt"),
        (["mine", *STORE], "latent_rm/trajectories/train/shard-00000.safetensors"),
        (PREDICT, "search/predictions.rank0.jsonl"),
    ):
        first = start(zygote, here, arguments)
        first.wait_for(here / "logs/demo" / begun)
        second = start(zygote, here, [*arguments, "seed_everything=9"])
        second.output = here / "output.txt"
        assert second.wait() == 2, second.output.read_text()
        assert f"is in use by process {first.pid} on" in second.output.read_text()
        assert first.kill(signal.SIGKILL) == -signal.SIGKILL


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_two_processes_end_together(tmp_path: Path, number: int) -> None:
    """The signal goes to the first process alone."""
    arguments = [*FIT, "trainer.devices=2", "trainer.strategy=ddp"]
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "lightning_ltts", *arguments],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    last = tmp_path / "logs/demo/reasoner/checkpoints/last.ckpt"
    while not last.exists() and process.poll() is None:
        time.sleep(0.1)
    (child,) = children_of(process.pid)
    process.send_signal(number)
    _, said = process.communicate()
    assert process.returncode == (143 if number == signal.SIGTERM else -number)
    assert said.count("stopped by SIGTERM; the last whole epoch is kept") == (
        number == signal.SIGTERM
    )
    for _ in range(300):
        if state_of(child) in ("", "Z"):
            break
        time.sleep(0.1)
    assert state_of(child) in ("", "Z")
    read_pickle(last)


def children_of(process: int) -> list[int]:
    return [int(x) for x in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def state_of(process: int) -> str:
    """Of /proc: Z for one that has ended and that nobody has asked about; nothing for none."""
    path = Path(f"/proc/{process}/stat")
    return path.read_text().split()[2] if path.exists() else ""
