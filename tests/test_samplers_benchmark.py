"""The comparison of samplers: what lies between two strengths, and that every sampler is one."""

from pathlib import Path
from pkgutil import resolve_name

import hydra
import pytest
import samplers

from lightning_ltts.cli.choices import config_folder
from lightning_ltts.sampling.learned_noise import NoiseHead

LINES = [
    {"greedy": 0.8, "pass": 0.8, "majority": 0.8, "coverage": 0.82, "diversity": 0.0},
    {"greedy": 0.8, "pass": 0.76, "majority": 0.82, "coverage": 0.9, "diversity": 0.2},
    {"greedy": 0.8, "pass": 0.6, "majority": 0.7, "coverage": 0.95, "diversity": 0.5},
]


def test_between_two_strengths() -> None:
    """A sample at 0.78 is half of the way from the first to the second line; at 0.5, beyond all."""
    assert samplers.at(LINES, "pass", 0.78, "coverage") == pytest.approx(0.86)
    assert samplers.at(LINES, "diversity", 0.3, "majority") == pytest.approx(0.82 - 0.12 / 3)
    assert samplers.at(LINES, "pass", 0.5, "coverage") is None


def test_a_row() -> None:
    """1, 3 and 6 points below greedy: 0.79, 0.77, 0.74."""
    (row,) = samplers.rows_of({"one": LINES})
    assert row == [
        "one", "84.0 / 80.5", "88.0 / 81.5", "90.6 / 80.5",
        "86.0 / 81.0", "90.0 / 82.0", "91.7 / 78.0",
    ]  # fmt: skip


def test_the_noise_is_trained_on_the_task_that_is_compared_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its command composes, and its problems are of that task and not those of the comparison."""
    monkeypatch.chdir(tmp_path)
    commands: list[list[str]] = []
    monkeypatch.setattr("subprocess.run", lambda command, **options: commands.append(command))
    samplers.train_noise("best.ckpt", ["data=search_graph_problems", "model.init_args.seed=1"])
    (command,) = commands
    assert "model.init_args.seed=1" not in command
    with hydra.initialize_config_dir(str(config_folder()), version_base="1.3"):
        options = [x for x in command[command.index("fit") + 1 :] if x not in samplers.CPU]
        train = hydra.compose("config", options).data.init_args.train
    problems = resolve_name(train.class_path)(**train.init_args)
    assert (type(problems).__name__, problems.split) == ("GraphProblems", "mine")


@pytest.mark.slow
@pytest.mark.parametrize("name", samplers.all_samplers("x"))
def test_every_sampler_composes(name: str, tmp_path: Path) -> None:
    NoiseHead(8).save(learned := tmp_path / "noise.safetensors")
    overrides = samplers.all_samplers(str(learned))[name]
    with hydra.initialize_config_dir(str(config_folder()), version_base="1.3"):
        options = ["experiment=demo/tune", "task=tune", *overrides]
        chosen = hydra.compose("config", options).sampler
    sampler = resolve_name(chosen.class_path)(**chosen.init_args)
    assert sampler.scaled(0.5).settings() != sampler.settings()
