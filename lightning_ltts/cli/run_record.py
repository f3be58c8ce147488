"""What was set and what came of it: the configuration as a file, and both in the loggers."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import yaml
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import SaveConfigCallback
from lightning_utilities.core.enums import StrEnum

from lightning_ltts.analysis.method_names import PASS
from lightning_ltts.monitoring.boards import boards
from lightning_ltts.prediction.writer import PredictionWriter

SCORE, ACCURACY = "val/score", "val/accuracy"
# defaults of Lightning's classes, such as Timer's, may be of these texts, which YAML must write
yaml.SafeDumper.add_multi_representer(
    StrEnum, lambda dumper, value: dumper.represent_str(str(value.value))
)


class RunRecord(SaveConfigCallback):
    """Saves the configuration when a run starts.

    At the end it logs the configuration's single values with the final metrics (HPARAMS tab).
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.accuracy_of: dict[float, float] = {}  # val/score -> val/accuracy of that validation

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Saves it in the logger's folder, where the logger has one (a data base has none)."""
        self.save_to_log_dir = trainer.log_dir is not None
        super().setup(trainer, pl_module, stage)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run shall still know."""
        return {"accuracy_of": dict(self.accuracy_of)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up what the run knew before."""
        self.accuracy_of = dict(state_dict.get("accuracy_of", {}))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remembers the accuracy that belongs to a score, and logs the best values so far."""
        metrics = trainer.callback_metrics
        if SCORE in metrics and ACCURACY in metrics:
            self.accuracy_of[float(metrics[SCORE])] = float(metrics[ACCURACY])
        best = _best_so_far(trainer)
        if best and trainer.state.fn == "fit" and not trainer.sanity_checking:
            for logger in trainer.loggers:
                logger.log_metrics(best, trainer.global_step)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Logs the last value of every metric, and the best of those that choose checkpoints."""
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self._log(trainer, metrics | _best_so_far(trainer))

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Logs the accuracy of every method of the table."""
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, PredictionWriter) and callback.summary is not None:
                lines = callback.summary.lines
                metrics = {f"predict/{x.method}": x.accuracy for x in lines if x.method != PASS}
                self._log(trainer, metrics)

    def _log(self, trainer: pl.Trainer, metrics: dict[str, float]) -> None:
        """Adds a line to the HPARAMS tab, whose metrics are curves that there are already."""
        config = self.config.as_dict()
        values = {
            name: value
            for part in ("model", "data")
            for name, value in flat_values(config.get(part), part).items()
        }
        for board in boards(trainer.loggers) if trainer.is_global_zero else ():
            board.hyper_parameters(values, metrics, trainer.global_step)
            board.flush()


def _best_so_far(trainer: pl.Trainer) -> dict[str, float]:
    """The best value of each metric that checkpoints are chosen by, the latest included."""
    found = {}
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, ModelCheckpoint) and callback.monitor:
            # Lightning's checkpoints look at a validation after all other callbacks
            values = [callback.best_model_score, trainer.callback_metrics.get(callback.monitor)]
            known = [float(value) for value in values if value is not None]
            if known:
                found[f"{callback.monitor}_best"] = (max if callback.mode == "max" else min)(known)
    return found


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


def best_metric(trainer: pl.Trainer, best: ModelCheckpoint) -> tuple[str, float] | None:
    """Name and value of the metric that tells how good the best checkpoint is, where it is known.

    It is the monitored metric; for a reasoner's score, which may count more, the accuracy.
    """
    if best.best_model_score is None or best.monitor is None:
        return None
    value = float(best.best_model_score)
    records = [c for c in trainer.callbacks if isinstance(c, RunRecord)]  # type: ignore[attr-defined]
    if best.monitor == SCORE and records and value in records[0].accuracy_of:
        return ACCURACY, records[0].accuracy_of[value]
    return best.monitor, value


def shown_path(best: ModelCheckpoint) -> Path:
    """Where the best checkpoint is, from the working directory.

    After a resume elsewhere the callback may still name the folder where the run began.
    """
    path = Path(best.best_model_path)
    if best.dirpath and not path.exists() and (Path(best.dirpath) / path.name).exists():
        path = Path(best.dirpath) / path.name
    path = path.absolute()
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
