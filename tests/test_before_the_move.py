"""What the commit before the modules moved wrote still loads, goes on and is known to be finished.

`fixtures/before_the_move` holds it; `make.py` there says how it was made. What is imported below is
where it is now; old names stand only in the files.
"""

import importlib
import json
import logging
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch import LightningModule

from lightning_ltts import Curriculum, Lora, Start, cli, load_latent_rm, load_reasoner
from lightning_ltts.analysis.predictions import read_rows
from lightning_ltts.analysis.summary import summarize
from lightning_ltts.analysis.thought_store import read_thoughts
from lightning_ltts.data.problems import Problem
from lightning_ltts.data.word_problems import WordProblems
from lightning_ltts.mining.store import TrajectoryStore
from lightning_ltts.models.latent_lm import fingerprint

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parent / "fixtures/before_the_move"
EXPECTED = json.loads((FOLDER / "expected.json").read_text())
CHECKPOINTS = sorted(EXPECTED["fingerprints"])
FILES = sorted(str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*.yaml"))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of all the files, as the working directory: the paths in them are relative."""
    shutil.copytree(FOLDER, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def old_problems(monkeypatch: pytest.MonkeyPatch) -> None:
    """The built-in task's problems of that time: by now it makes others of the same seed."""
    rows = json.loads((FOLDER / "word_problems.json").read_text())

    def load(source: WordProblems) -> list[Problem]:
        return [Problem(**{**row, "steps": tuple(row["steps"])}) for row in rows[source.split]]

    monkeypatch.setattr(WordProblems, "load", load)


def ltts(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    """`ltts ARGUMENTS` in this process."""
    monkeypatch.setattr(sys, "argv", ["ltts", *arguments])
    cli.main()


def read(path: str | Path) -> dict[str, Any]:
    """A checkpoint as it is loaded everywhere: nothing but admitted classes is made."""
    return torch.load(path, weights_only=True)


def class_paths(tree: Any) -> Iterator[str]:
    """Every class path in a configuration or in hyper-parameters."""
    if isinstance(tree, dict):
        yield from (tree[key] for key in ("class_path", "_class_path") if key in tree)
        for value in tree.values():
            yield from class_paths(value)
    elif isinstance(tree, list):
        for item in tree:
            yield from class_paths(item)


def import_class(class_path: str) -> Any:
    """What a class path names."""
    module, _, name = class_path.rpartition(".")
    return getattr(importlib.import_module(module), name)


@pytest.mark.parametrize("path", CHECKPOINTS)
def test_checkpoints_load(path: str) -> None:
    load = load_latent_rm if "latent_rm" in path else load_reasoner
    assert fingerprint(load(FOLDER / path)) == EXPECTED["fingerprints"][path]


@pytest.mark.parametrize("tokenizer", ["WordTokenizer", "BPETokenizer"])
def test_hyper_parameters_of_a_training_in_python(tokenizer: str) -> None:
    """They hold objects, whose classes PyTorch's weights-only mode must admit by the old names."""
    hyper_parameters = read(FOLDER / f"python/{tokenizer}.ckpt")["hyper_parameters"]
    start = hyper_parameters["start"]
    assert type(start) is Start
    assert type(start.tokenizer).__name__ == tokenizer
    assert start.lora == Lora(rank=1, alpha=2.0, dropout=0.0, targets=("c_attn",))
    assert hyper_parameters["curriculum"] == Curriculum(1, (1,), thoughts_per_step=2)


@pytest.mark.parametrize("path", CHECKPOINTS)
def test_modules_load_from_checkpoints(path: str, here: Path) -> None:
    """Lightning's own way: hyper-parameters make the module, those of `ltts` by class paths."""
    name = read(path)["hyper_parameters"].get("_class_path")
    module = import_class(name or "lightning_ltts.training.coconut.CoconutModule")
    assert isinstance(module.load_from_checkpoint(path, weights_only=True), LightningModule)


def test_stores_open() -> None:
    for split, labels in EXPECTED["labels"].items():
        store = TrajectoryStore(FOLDER / "logs/latent_rm/trajectories" / split)
        assert [str(store[i].labels[0].tolist()) for i in range(len(store))] == labels


def test_predictions_are_read() -> None:
    rows = read_rows(FOLDER / "logs/search")
    accuracies = {line.name: line.accuracy for line in summarize(rows).lines}
    assert accuracies.pop("greedy_majority@4") == 1 / 8  # a method that there was not then
    assert accuracies == EXPECTED["accuracies"]
    kept = [thoughts.id for thoughts in read_thoughts(FOLDER / "logs/search")]
    assert kept == [row["id"] for row in rows][:2]


@pytest.mark.parametrize("path", FILES)
def test_class_paths_of_a_file(path: str) -> None:
    names = set(class_paths(yaml.safe_load((FOLDER / path).read_text())))
    assert names
    assert all(isinstance(import_class(name), type) for name in names)


@pytest.mark.parametrize("name", EXPECTED["shipped_class_paths"])
def test_class_paths_of_the_shipped_configurations(name: str) -> None:
    assert isinstance(import_class(name), type)


@pytest.mark.parametrize("name", ["reasoner", "adapters", "latent_rm"])
def test_trainings_go_on(
    name: str, here: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """One more epoch of two steps; the LatentRM's on the old trajectories."""
    if name == "latent_rm":
        request.getfixturevalue("old_problems")
    run = here / "logs" / name
    last = str(run / "checkpoints/last.ckpt")
    old, manifests = read(last), sorted(path.read_bytes() for path in run.rglob("manifest.json"))
    options = ["--trainer.max_epochs", str(old["epoch"] + 2), "--trainer.limit_train_batches", "2"]
    if name == "reasoner":  # no more than there are by now
        options += ["--data.init_args.train.init_args.size", "1000"]
    ltts(monkeypatch, "fit", "--config", str(run / "fit.yaml"), "--ckpt_path", last, *options)
    new = read(last)
    assert new["epoch"] == old["epoch"] + 1
    assert new["global_step"] == old["global_step"] + 2
    assert new["callbacks"].keys() >= old["callbacks"].keys()
    assert new["lightning_ltts"].keys() == old["lightning_ltts"].keys()
    weights = new["state_dict"].items()
    assert any(not torch.equal(weight, old["state_dict"][key]) for key, weight in weights)
    assert sorted(path.read_bytes() for path in run.rglob("manifest.json")) == manifests


def test_mining_is_finished(
    here: Path, old_problems: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = here / "logs/latent_rm/trajectories"
    before = {path: path.read_bytes() for path in store.rglob("*.*")}
    ltts(monkeypatch, "mine", "--config", "logs/latent_rm/mine.yaml")
    assert {path: path.read_bytes() for path in store.rglob("*.*")} == before


def test_prediction_is_finished(
    here: Path,
    old_problems: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = (here / "logs/search/predictions.jsonl").read_text()
    logger = logging.getLogger("lightning.pytorch")
    monkeypatch.setattr(logger, "handlers", [*logger.handlers, caplog.handler])
    ltts(monkeypatch, "predict", "--config", "logs/search/predict.yaml")
    assert f"{len(before.splitlines())} problems were predicted before and are kept" in caplog.text
    assert (here / "logs/search/predictions.jsonl").read_text() == before
