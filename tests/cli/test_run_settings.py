import copy
from pathlib import Path
from typing import Any

import pytest

from lightning_ltts.cli.run_settings import fit_settings


def make_config(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "train.json").write_text("[]")
    return {
        "seed_everything": 0,
        "trainer": {
            "max_epochs": 3,
            "precision": "32-true",
            "devices": 1,
            "callbacks": [
                {
                    "class_path": "lightning.pytorch.callbacks.ModelCheckpoint",
                    "init_args": {"dirpath": "a", "mode": "max"},
                },
                {
                    "class_path": "lightning.pytorch.callbacks.ModelCheckpoint",
                    "init_args": {"dirpath": "a", "mode": "min"},
                },
                {
                    "class_path": "lightning.pytorch.callbacks.EarlyStopping",
                    "init_args": {"patience": 4},
                },
                {
                    "class_path": "lightning.pytorch.callbacks.LearningRateMonitor",
                    "init_args": {"logging_interval": None},
                },
            ],
        },
        "model": {
            "class_path": "package.Model",
            "init_args": {"lr": 0.1, "start": {"backbone": {"n_embd": 8}}},
        },
        "data": {
            "class_path": "package.Data",
            "init_args": {
                "train": {
                    "class_path": "p.ProblemFiles",
                    "init_args": {"files": [str(tmp_path / "train.json")]},
                },
                "test": None,
                "batch_size": 4,
                "store": "logs/a/trajectories",
                "token_budget": None,
            },
        },
        "ckpt_path": None,
    }


def changed(config: dict[str, Any], name: str, value: Any) -> dict[str, Any]:
    """The configuration with one value changed; numbers in the name are entries of lists."""
    config = copy.deepcopy(config)
    place: Any = config
    *path, last = name.split(".")
    for key in path:
        place = place[int(key)] if isinstance(place, list) else place[key]
    place[last] = value
    return config


@pytest.mark.parametrize(
    ("name", "value", "setting"),
    [
        ("seed_everything", 1, "seed_everything"),
        ("trainer.max_epochs", 4, "trainer.max_epochs"),
        ("trainer.precision", "bf16-mixed", "trainer.precision"),
        ("trainer.accumulate_grad_batches", 2, "trainer.accumulate_grad_batches"),
        ("trainer.gradient_clip_val", 0.5, "trainer.gradient_clip_val"),
        ("trainer.limit_train_batches", 5, "trainer.limit_train_batches"),
        (
            "trainer.callbacks.1.init_args.mode",
            "max",
            "trainer.callbacks.ModelCheckpoint.2.init_args.mode",
        ),
        (
            "trainer.callbacks.2.init_args.patience",
            5,
            "trainer.callbacks.EarlyStopping.init_args.patience",
        ),
        ("model.class_path", "package.Other", "model.class_path"),
        ("model.init_args.lr", 0.2, "model.init_args.lr"),
        ("model.init_args.start.backbone.n_embd", 16, "model.init_args.start.backbone.n_embd"),
        ("data.init_args.batch_size", 8, "data.init_args.batch_size"),
        (
            "data.init_args.train.init_args.files",
            ["gsm8k"],
            "data.init_args.train.init_args.files.0",
        ),
    ],
)
def test_what_changes_the_result_counts(
    tmp_path: Path, name: str, value: Any, setting: str
) -> None:
    config = make_config(tmp_path)
    one, two = fit_settings(config), fit_settings(changed(config, name, value))
    assert {key for key in one.keys() | two.keys() if one.get(key) != two.get(key)} == {setting}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("trainer.devices", 2),
        ("trainer.strategy", "ddp"),
        ("trainer.logger", False),
        ("trainer.enable_progress_bar", False),
        ("trainer.max_time", "00:01:00:00"),
        ("trainer.callbacks.0.init_args.dirpath", "b"),
        ("trainer.callbacks.3.init_args.logging_interval", "step"),
        ("model.class_path", "moved.package.Model"),
        ("data.init_args.store", "elsewhere"),
        ("data.init_args.token_budget", 100),
        ("data.init_args.train.init_args.streaming", True),
        ("data.init_args.test", {"class_path": "p.ProblemFiles", "init_args": {"files": []}}),
        ("ckpt_path", "last"),
    ],
)
def test_what_does_not_change_it_does_not_count(tmp_path: Path, name: str, value: Any) -> None:
    config = make_config(tmp_path)
    assert fit_settings(config) == fit_settings(changed(config, name, value))


def test_other_problems_in_the_same_file_count(tmp_path: Path) -> None:
    before = fit_settings(make_config(tmp_path))
    config = make_config(tmp_path)
    (tmp_path / "train.json").write_text('[{"question": "?", "answer": 1}]')
    assert fit_settings(config) != before
