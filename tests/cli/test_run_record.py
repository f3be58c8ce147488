from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lightning_ltts.cli.run_record import RunRecord, flat_values
from lightning_ltts.monitoring.run_logger import RunLogger


def test_flat_values() -> None:
    config = {
        "class_path": "package.module.Model",
        "init_args": {
            "lr": 0.1,
            "start": {"pretrained": None, "backbone": {"n_embd": 8}},
            "sampler": {"class_path": "package.Noise", "init_args": {"std": 0.5}},
            "stages": [1, 2],
        },
    }
    assert flat_values(config, "model") == {
        "model": "Model",
        "model.lr": 0.1,
        "model.start.backbone.n_embd": 8,
        "model.sampler": "Noise",
        "model.sampler.std": 0.5,
    }
    assert flat_values(None, "data") == {}


def trainer_with(logger: RunLogger, checkpoint: ModelCheckpoint) -> Any:
    """What the record needs of a Trainer."""
    return SimpleNamespace(
        loggers=[logger],
        checkpoint_callbacks=[checkpoint],
        callback_metrics={},
        state=SimpleNamespace(fn="fit"),
        is_global_zero=True,
        sanity_checking=False,
        global_step=0,
    )


def test_the_board_has_curves_and_no_charts_of_one_dot(tmp_path: Path) -> None:
    """The best value so far is a curve; hyper-parameters refer to curves that there are."""
    logger = RunLogger(str(tmp_path), version="run")
    checkpoint = ModelCheckpoint(monitor="val/score", mode="max")
    config = SimpleNamespace(
        as_dict=lambda: {"model": {"class_path": "a.M", "init_args": {"lr": 1.0}}}
    )
    record, trainer = RunRecord(None, config), trainer_with(logger, checkpoint)
    for step, score in enumerate([0.5, 0.75, 0.25], start=1):
        trainer.global_step = step
        trainer.callback_metrics = {"val/score": torch.tensor(score)}
        logger.log_metrics({"val/score": score}, step)
        record.on_validation_end(trainer, None)
        checkpoint.best_model_score = torch.tensor(max(0.5, score, 0.75 * (step > 1)))
    record.on_fit_end(trainer, None)
    board = EventAccumulator(str(tmp_path / "tensorboard/run")).Reload()
    assert set(board.Tags()["scalars"]) == {"val/score", "val/score_best"}
    assert [event.value for event in board.Scalars("val/score")] == [0.5, 0.75, 0.25]
    assert [event.value for event in board.Scalars("val/score_best")] == [0.5, 0.75, 0.75]
    assert b"val/score_best" in board.SummaryMetadata("_hparams_/experiment").plugin_data.content
    started = board.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    assert b"model.lr" in started
