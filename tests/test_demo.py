"""The demo: which commands it runs, and that processes share a training without changing it."""

import subprocess
from pathlib import Path
from typing import Any

import hydra
import pytest

from lightning_ltts import demo
from lightning_ltts.cli.choices import config_folder


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[list[str], str]]:
    """The command line and the threads of every stage, none of which is run."""
    lines: list[tuple[list[str], str]] = []

    def run(line: list[str], check: bool, env: dict[str, str]) -> None:
        assert check, "a stage that fails must end the demo"
        lines.append((line[3:], env["OMP_NUM_THREADS"]))

    monkeypatch.chdir(tmp_path)
    demo.FOLDER.mkdir(parents=True)
    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(demo, "summarize_demo", lambda seconds: {"bought": "", "seconds": seconds})
    return lines


def value(line: list[str], key: str) -> str:
    (found,) = [part.partition("=")[2] for part in line if part.partition("=")[0] == key]
    return found


def test_the_five_commands_in_their_order(ran: list[Any]) -> None:
    demo.main([])
    assert [line[:2] for line, _ in ran] == [text.split() for text in demo.COMMANDS.values()]
    assert {threads for _, threads in ran} == {"1"}
    assert ran[-1][0] == ["report", "logs/demo/search"]


@pytest.mark.parametrize("processes", [1, 2])
def test_a_batch_of_a_training_has_the_size_that_its_experiment_names(
    ran: list[Any], processes: int
) -> None:
    """A batch of 64 is 64 of one process, or 32 of each of two."""
    demo.main(["--processes", str(processes), "--threads", "3"])
    assert {threads for _, threads in ran} == {"3"}
    for (line, _), whole in zip((ran[0], ran[2]), demo.BATCHES.values(), strict=True):
        assert value(line, "trainer.devices") == str(processes)
        if processes > 1:
            size = int(value(line, "data.init_args.batch_size"))
            assert size * processes == whole
            assert value(line, "trainer.strategy") == "ddp"
        else:
            assert not [part for part in line if "batch_size" in part or "strategy" in part]


def test_batches_are_those_of_the_experiments() -> None:
    with hydra.initialize_config_dir(str(config_folder()), version_base="1.3"):
        for stage, whole in demo.BATCHES.items():
            data = hydra.compose("config", [f"experiment=demo/{stage}"]).data
            assert data.init_args.batch_size == whole


def test_another_seed_has_other_weights_problems_and_samples_and_the_same_test(
    ran: list[Any],
) -> None:
    demo.main(["--seed", "2", "trainer.log_every_n_steps=1"])
    reasoner, mine, latent_rm, search, report = [line for line, _ in ran]
    key = "data.init_args.train.init_args.seed"
    assert value(reasoner, key) == "200"
    assert value(mine, key) == value(latent_rm, key) == "201"  # what the reasoner has not seen
    assert value(search, "model.init_args.seed") == "2"
    assert not [part for part in search if part.startswith("data")]
    for line in (reasoner, mine, latent_rm, search):
        assert value(line, "trainer.log_every_n_steps") == "1"
    assert report == ["report", "logs/demo/search"]
