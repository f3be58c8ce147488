"""A training that early stopping ended says so, and why."""

from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping

from lightning_ltts.cli.early_end import why_it_ended


def trainer_with(callback: EarlyStopping, epoch: int, accuracy: float) -> SimpleNamespace:
    """What early stopping needs of a Trainer that has just validated."""
    metrics = {"val/accuracy": torch.tensor(accuracy)}
    strategy = SimpleNamespace(reduce_boolean_decision=lambda stop, all: stop)
    parts = {"callback_metrics": metrics, "strategy": strategy, "should_stop": False}
    return SimpleNamespace(
        callbacks=[callback], current_epoch=epoch, fast_dev_run=False, world_size=1, **parts
    )


def test_patience() -> None:
    callback = EarlyStopping("val/accuracy", mode="max", patience=2)
    for epoch, accuracy in enumerate([0.5, 0.75, 0.75, 0.7]):
        trainer = trainer_with(callback, epoch, accuracy)
        assert why_it_ended(trainer) is None
        callback._run_early_stopping_check(trainer)
    assert trainer.should_stop
    assert why_it_ended(trainer) == (
        "stopped early after epoch 3: val/accuracy was not better than 0.75 in 2 validations "
        "(patience=2)"
    )


@pytest.mark.parametrize(
    ("options", "accuracy"),
    [({"stopping_threshold": 0.9}, 0.95), ({"divergence_threshold": 0.1}, 0.05), ({}, torch.nan)],
)
def test_thresholds(options: dict, accuracy: float) -> None:
    callback = EarlyStopping("val/accuracy", mode="max", patience=2, **options)
    for epoch, value in enumerate([0.5, accuracy]):
        trainer = trainer_with(callback, epoch, value)
        callback._run_early_stopping_check(trainer)
    said = why_it_ended(trainer)
    assert said is not None
    assert said.startswith("stopped early after epoch 1: ")
    assert "Signaling" not in said


def test_a_training_that_ran_to_its_end() -> None:
    callback = EarlyStopping("val/accuracy", mode="max", patience=2)
    assert why_it_ended(trainer_with(callback, 9, 1.0)) is None
    assert why_it_ended(SimpleNamespace(callbacks=[])) is None
