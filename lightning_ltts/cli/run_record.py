"""What was set and what came of it: the configuration as a file, and both in TensorBoard."""

from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import SaveConfigCallback

from lightning_ltts.prediction.writer import PredictionWriter


class RunRecord(SaveConfigCallback):
    """Saves the configuration when a run starts.

    At the end it logs the configuration's single values with the final metrics (HPARAMS tab).
    """

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Logs the last value of every metric, and the best of those that choose checkpoints."""
        metrics = {
            f"final/{name}": float(value) for name, value in trainer.callback_metrics.items()
        }
        for callback in trainer.checkpoint_callbacks:
            if (
                isinstance(callback, ModelCheckpoint)
                and callback.best_model_score is not None
                and callback.monitor
            ):
                metrics[f"best/{callback.monitor}"] = float(callback.best_model_score)
        self._log(trainer, metrics)

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Logs the accuracy of every method of the table."""
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, PredictionWriter) and callback.summary is not None:
                self._log(
                    trainer,
                    {f"final/{line.name}": line.accuracy for line in callback.summary.lines},
                )

    def _log(self, trainer: pl.Trainer, metrics: dict[str, float]) -> None:
        config = self.config.as_dict()
        values = {
            name: value
            for part in ("model", "data")
            for name, value in flat_values(config.get(part), part).items()
        }
        for logger in trainer.loggers:
            if isinstance(logger, pl.loggers.TensorBoardLogger):
                logger.log_hyperparams(values, metrics, trainer.global_step)
                logger.experiment.flush()


def flat_values(config: Any, name: str) -> dict[str, str | int | float | bool]:
    """The single values of a nested configuration, named like `model.start.backbone.n_embd`.

    A class stands under its parent's name, without its package; lists and what is not set are
    left out.
    """
    if isinstance(config, dict):
        found = {}
        for key, value in config.items():
            if key == "class_path":
                found[name] = value.rsplit(".", 1)[-1]
            else:
                found |= flat_values(value, name if key == "init_args" else f"{name}.{key}")
        return found
    return {name: config} if isinstance(config, str | int | float | bool) else {}
