"""Ends a training that leads nowhere."""

from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from lightning_ltts.data.ranges import require_number, require_whole
from lightning_ltts.errors import TrainingError


class FlatAccuracy(Callback):
    """Ends a training whose validation accuracy stays where it began.

    Args:
        epochs: number of validations after which it is decided.
        above: share of right answers that the best validation must exceed by then.
    """

    def __init__(self, epochs: int = 10, above: float = 0.0):
        require_whole("FlatAccuracy", "epochs", epochs, 1)
        require_number("FlatAccuracy", "above", above, 0, 1)
        self.epochs = epochs
        self.above = above
        self.best, self.seen = 0.0, 0

    def state_dict(self) -> dict[str, Any]:
        """What has been seen so far, so that a resumed run ends where this one would."""
        return {"best": self.best, "seen": self.seen}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from what a checkpoint says."""
        self.best, self.seen = state_dict["best"], state_dict["seen"]

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Counts this validation, and ends the run where it is one too many.

        Raises:
            TrainingError: the accuracy is flat.
        """
        accuracy = trainer.callback_metrics.get("val/accuracy")
        if trainer.sanity_checking or accuracy is None:
            return
        self.best, self.seen = max(self.best, float(accuracy)), self.seen + 1
        if self.seen >= self.epochs and self.best <= self.above:
            raise TrainingError(
                f"after {self.seen} validations the best accuracy is {self.best:.1%}, so that "
                "training leads nowhere; look at train/loss, the learning rate and the answer format "
                "(callbacks.flat_accuracy=null turns this check off)"
            )
