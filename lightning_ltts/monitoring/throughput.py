"""Questions per second in training."""

import time
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback


class Throughput(Callback):
    """Logs `train/questions_per_second` of every epoch.

    It is over all devices, without validation and data loading.
    """

    def __init__(self) -> None:
        self.questions, self.seconds, self._began = 0, 0.0, 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts anew."""
        self.questions, self.seconds = 0, 0.0

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Starts the clock."""
        self._began = time.perf_counter()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Stops it; the length of a batch is its number of questions."""
        self.seconds += time.perf_counter() - self._began
        self.questions += len(batch)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Logs the rate."""
        if self.seconds:
            rate = trainer.world_size * self.questions / self.seconds
            pl_module.log("train/questions_per_second", rate, sync_dist=True)  # a mean of devices
