"""What `SearchLoop` takes from Lightning's private parts; when this fails, compare its `run` with the new version's."""

import lightning.pytorch as pl
import torch
from lightning.pytorch.loops.prediction_loop import _PredictionLoop
from lightning.pytorch.trainer import call
from torch.utils.data import DataLoader

from lightning_ltts.trainer import SearchLoop, Trainer


def test_private_names_are_still_there() -> None:
    names = {"setup_data", "skip", "reset", "on_run_start", "on_run_end", "run"}
    assert names <= set(dir(_PredictionLoop))
    assert {"_data_fetcher", "batch_progress"} <= vars(
        SearchLoop(Trainer(accelerator="cpu", logger=False))
    ).keys()
    assert callable(call._call_callback_hooks)
    assert callable(call._call_strategy_hook)


class Doubler(pl.LightningModule):
    """A module that knows nothing of packing."""

    def predict_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        return batch * 2


def test_other_modules_go_through_lightnings_loop() -> None:
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    outputs = trainer.predict(Doubler(), DataLoader(torch.arange(5.0), batch_size=2))
    assert [output.tolist() for output in outputs] == [[0, 2], [4, 6], [8]]
