"""What `SearchLoop` takes from Lightning's private parts; when this fails, compare its `run` with the new version's."""

from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.loops.prediction_loop import _PredictionLoop
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.trainer import call
from torch.utils.data import DataLoader

from lightning_ltts.data.word_problems import WordProblems
from lightning_ltts.errors import ConfigError
from lightning_ltts.mining.data import MiningData
from lightning_ltts.prediction import LatentSearch, PredictionData
from lightning_ltts.sampling import GaussianNoise
from lightning_ltts.trainer import SearchLoop, Trainer
from lightning_ltts.training.latent_rm import LatentRMModule


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


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("gradient_clip_val", float("nan")),
        ("gradient_clip_val", -1.0),
        ("accumulate_grad_batches", 0),
        ("check_val_every_n_epoch", 0),
        ("val_check_interval", 0),
        ("val_check_interval", float("nan")),
        ("log_every_n_steps", -1),
        ("reload_dataloaders_every_n_epochs", -1),
    ],
)
def test_numbers_that_lightning_does_not_look_at(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"{name}={value} of the trainer must be a"):
        Trainer(accelerator="cpu", **{name: value})


@pytest.fixture
def sharding() -> Trainer:
    """Whose devices would shard weights."""
    strategy = ModelParallelStrategy(data_parallel_size=2, tensor_parallel_size=1)
    return Trainer(accelerator="cpu", devices=2, strategy=strategy, logger=False)


def test_a_search_refuses_sharded_weights(sharding: Trainer, reasoner_file: Path) -> None:
    """Before any other process is started."""
    search = LatentSearch(str(reasoner_file), GaussianNoise(0.1))
    with pytest.raises(ConfigError, match=r"^ModelParallelStrategy shards weights, which a search"):
        sharding.predict(search, datamodule=PredictionData(WordProblems("test", 4)))


def mining(reasoner: Path, folder: Path) -> MiningData:
    problems = (WordProblems("train", 4), WordProblems("valid", 4))
    return MiningData(str(reasoner), GaussianNoise(0.1), *problems, store=str(folder))


def test_mining_refuses_sharded_weights(
    sharding: Trainer, reasoner_file: Path, tmp_path: Path
) -> None:
    """Likewise."""
    with pytest.raises(ConfigError, match=r"^ModelParallelStrategy shards weights, which mining "):
        sharding.mine(LatentRMModule(str(reasoner_file)), mining(reasoner_file, tmp_path))


def test_training_a_latent_rm_refuses_sharded_weights(
    sharding: Trainer, reasoner_file: Path, tmp_path: Path
) -> None:
    """Before anything is mined for it."""
    data = mining(reasoner_file, tmp_path)
    data.trainer = sharding
    with pytest.raises(ConfigError, match=r"which mining \(and so a LatentRM's training\) cannot"):
        data.setup("fit")
    assert not any(tmp_path.iterdir())
