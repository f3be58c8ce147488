"""Mining and prediction of tiny models by an engine, and what must be the same afterwards."""

import json
import pickle
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open
from safetensors.torch import load_file

from lightning_ltts.analysis.prediction_files import PREDICTIONS
from lightning_ltts.cluster.engine import Done, Engine, Place, Work
from lightning_ltts.data.word_problems import WordProblems
from lightning_ltts.mining.data import MiningData
from lightning_ltts.mining.store import read_manifest
from lightning_ltts.prediction.data import PredictionData
from lightning_ltts.prediction.module import LatentSearch
from lightning_ltts.prediction.writer import PredictionWriter
from lightning_ltts.sampling import GaussianNoise
from lightning_ltts.search.beam import BeamSearch
from lightning_ltts.trainer import Trainer
from lightning_ltts.training.latent_rm import LatentRMModule


class Backwards(Engine):
    """Stands in for a cluster: workers of this process that finish shards in another order.

    Args:
        ahead: shards that are taken at once.
        most: shards after which whoever calls is stopped.
    """

    def __init__(self, ahead: int = 3, most: int = 1000):
        self.ahead, self.most = ahead, most

    def run(self, work: Work, shards: Iterable[tuple[int, Any]], precision: str) -> Iterator[Done]:
        own = pickle.loads(pickle.dumps(work))
        own.settle(Place.alone("cpu", precision))
        waiting, done = iter(shards), 0
        while taken := list(islice(waiting, self.ahead)):
            for number, shard in reversed(taken):
                if done == self.most:
                    raise KeyboardInterrupt
                result = own.do(pickle.loads(pickle.dumps(shard)))
                done += 1
                yield Done(number, pickle.loads(pickle.dumps(result)), f"w{number % 2}", 0.5)


def make_trainer(**options: Any) -> Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return Trainer(accelerator="cpu", devices=1, **quiet | options)


def mine(folder: Path, reasoner: Path, engine: Engine | None = None, **options: Any) -> None:
    defaults = {
        "train": WordProblems("train", 24),
        "val": WordProblems("valid", 6),
        "num_samples": 3,
        "num_rollouts": 2,
        "val_num_samples": 4,
        "shard_size": 4,
        "token_budget": 400,
        "keep_uninformative": True,
    }
    data = MiningData(str(reasoner), GaussianNoise(0.8), store=str(folder), **defaults | options)
    make_trainer().mine(LatentRMModule(str(reasoner)), data, engine)


def store(folder: Path) -> dict[str, Any]:
    """All of the two stores of a folder but the seconds that mining took."""
    found = shards_of(folder)
    for split in ("train", "val"):
        manifest = read_manifest(folder / split)
        counts = {k: v for k, v in manifest["counts"].items() if k != "seconds"}
        found[split] = (manifest["settings"], counts, manifest["complete"])
    return found


def shards_of(folder: Path) -> dict[str, Any]:
    """The bytes of all tensors of the two stores of a folder."""
    found: dict[str, Any] = {}
    for split in ("train", "val"):
        for path in sorted((folder / split).glob("*.safetensors")):
            tensors = load_file(path)
            found[f"{split}/{path.name}"] = {
                name: (x.dtype, tuple(x.shape), x.numpy().tobytes()) for name, x in tensors.items()
            }
    return found


def predict(
    folder: Path,
    reasoner: Path,
    latent_rm: Path,
    engine: Engine | None = None,
    size: int = 14,
    **options: Any,
) -> None:
    module = LatentSearch(
        str(reasoner), GaussianNoise(0.5), str(latent_rm), 4, BeamSearch(2, 2), token_budget=160
    )
    trainer = make_trainer(callbacks=[PredictionWriter(str(folder), keep_thoughts=3)], **options)
    data = PredictionData(WordProblems("test", size))
    trainer.predict(module, datamodule=data, return_predictions=False, engine=engine)


def predictions(folder: Path) -> dict[str, Any]:
    """The bytes of what a prediction run leaves, without the time it took."""
    names = (PREDICTIONS, "summary.json", "predictions.manifest.json")
    found: dict[str, Any] = {name: (folder / name).read_bytes() for name in names}
    for path in sorted((folder / "thoughts").iterdir()):
        with safe_open(path, "np") as file:  # whose metadata are in no order
            tensors = {name: file.get_tensor(name).tobytes() for name in file.keys()}  # noqa: SIM118
            found[path.name] = (tensors, file.metadata())
    return found


def rows(folder: Path) -> list[dict[str, Any]]:
    """The predictions without what they cost, which is a share of the pass that they were made in."""
    found = [json.loads(line) for line in (folder / PREDICTIONS).read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "cost"} for row in found]


def close(one: Any, two: Any) -> bool:
    """Whether values are the same but for the rounding of other passes."""
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(close(one[name], two[name]) for name in one)
    if isinstance(one, list):
        return len(one) == len(two) and all(map(close, one, two))
    return one == (pytest.approx(two, abs=1e-3) if isinstance(one, float) else two)
