"""Folders of runs that must be refused: predictions, stores, manifests; and places not to write."""

import json
import math
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from lightning_ltts import cli
from lightning_ltts.cli.run_guard import RunGuard
from lightning_ltts.files import sha256_of
from lightning_ltts.mining.shard_files import shard_name
from lightning_ltts.mining.store import StoreWriter, TrajectoryStore
from lightning_ltts.models.folders import import_model
from lightning_ltts.prediction.row_files import open_folder
from lightning_ltts.run_folder import FIT_MANIFEST, FolderLock
from tests.malformed.case import Case, Place
from tests.mining.test_store import fill

NAN = math.nan


# -- predictions, which `ltts report` reads


def row(number: int = 0) -> dict[str, Any]:
    """A sound prediction."""
    return {
        "id": f"q{number}",
        "question": "How many?",
        "answer": "3",
        "greedy": {"answer": "3"},
        "samples": [{"answer": "3", "scores": [0.5, 1.0]}, {"answer": "4", "scores": [0.1, 0.2]}],
        "temperature": 1.0,
        "agreement": 0.5,
        "beam": {"budget": 2, "beams": [{"answer": "3", "scores": [0.5, 1.0]}]},
        "cost": {"sampling": {"token_forwards": 10, "tree_nodes": 10}},
    }


def report(*options: str) -> Callable[[Place], object]:
    """`ltts report bad`."""

    def use(place: Place) -> None:
        sys.argv = ["ltts", "report", "bad", *options]
        cli.main()

    return use


def rows(content: bytes | str, *words: str) -> Case:
    """A predictions file with this content."""

    def make(place: Place) -> None:
        Path("bad").mkdir()
        raw = content.encode() if isinstance(content, str) else content
        Path("bad/predictions.jsonl").write_bytes(raw)

    return Case(report(), ("bad/predictions.jsonl", *words), make)


def changed(change: Callable[[dict[str, Any]], Any], *words: str) -> Case:
    """A sound row, and one with something changed."""
    second = row(1)
    change(second)
    return rows(f"{json.dumps(row())}\n{json.dumps(second)}\n", "line 2", *words)


SOUND = json.dumps(row()) + "\n"
PREDICTIONS = {
    "empty": rows("", "no predictions"),
    "not JSON": rows("{'id': 1}\n", "line 1", "JSON"),
    "cut in the middle": rows(SOUND[:50] + "\n" + SOUND, "line 1", "JSON"),
    "not UTF-8": rows(SOUND.encode() + b'{"id": "caf\xe9"}\n', "line 2", "UTF-8"),
    "UTF-16": rows(SOUND.encode("utf-16"), "line 1", "UTF-8"),
    "zeros": rows(bytes(100) + b"\n", "line 1", "JSON"),
    "nested deeply": rows("[" * 100_000 + "\n", "line 1", "nested"),
    "number of 10,000 digits": rows('{"id": ' + "9" * 10_000 + "}\n", "line 1"),
    "same problem twice": rows(SOUND * 2, "line 2", "'q0'"),
    "a number": rows("5\n", "line 1"),
    "a list": rows("[1]\n", "line 1"),
    **{
        f"without {name}": changed(lambda r, name=name: r.pop(name), name)
        for name in ("id", "answer", "greedy", "samples")
    },
    "id is a list": changed(lambda r: r.update(id=[1]), "id"),
    "id is null": changed(lambda r: r.update(id=None), "id"),
    "answer is a list": changed(lambda r: r.update(answer=[3]), "answer"),
    "answer is a number": changed(lambda r: r.update(answer=3), "answer"),
    "greedy is a text": changed(lambda r: r.update(greedy="3"), "greedy"),
    "greedy is null": changed(lambda r: r.update(greedy=None), "greedy"),
    "greedy without an answer": changed(lambda r: r.update(greedy={}), "greedy"),
    "samples are an object": changed(lambda r: r.update(samples={}), "samples"),
    "samples are null": changed(lambda r: r.update(samples=None), "samples"),
    "no samples": changed(lambda r: r.update(samples=[]), "samples"),
    "samples are texts": changed(lambda r: r.update(samples=["3", "4"]), "samples"),
    "sample without an answer": changed(lambda r: r["samples"][1].pop("answer"), "samples"),
    "sample's answer is a number": changed(lambda r: r["samples"][1].update(answer=4), "samples"),
    "sample's answer is a list": changed(lambda r: r["samples"][1].update(answer=[]), "samples"),
    "scores are a number": changed(lambda r: r["samples"][0].update(scores=1), "scores"),
    "scores are texts": changed(lambda r: r["samples"][0].update(scores=["a"]), "scores"),
    "scores are NaN": changed(lambda r: r["samples"][0].update(scores=[NAN]), "scores"),
    "scores are lists": changed(lambda r: r["samples"][0].update(scores=[[1]]), "scores"),
    "score of an answer is NaN": changed(
        lambda r: r["samples"][0].update(answer_score=NAN), "answer_score"
    ),
    "log-probability is NaN": changed(lambda r: r["samples"][0].update(log_prob=NAN), "log_prob"),
    "score of an answer is a text": changed(
        lambda r: r["samples"][0].update(answer_score="x"), "answer_score"
    ),
    "temperature is NaN": changed(lambda r: r.update(temperature=NAN), "temperature"),
    "temperature is 0": changed(lambda r: r.update(temperature=0), "temperature"),
    "temperature is a text": changed(lambda r: r.update(temperature="x"), "temperature"),
    "agreement is negative": changed(lambda r: r.update(agreement=-1), "agreement"),
    "fitted is a list": changed(lambda r: r.update(fitted=[1]), "fitted"),
    "fitted is NaN": changed(lambda r: r.update(fitted={"temperature": NAN}), "temperature=nan"),
    "cost is a list": changed(lambda r: r.update(cost=[]), "cost"),
    "cost of a part is a number": changed(lambda r: r.update(cost={"sampling": 5}), "cost"),
    "cost is negative": changed(
        lambda r: r["cost"]["sampling"].update(token_forwards=-1), "token_forwards"
    ),
    "cost is NaN": changed(
        lambda r: r["cost"]["sampling"].update(token_forwards=NAN), "token_forwards"
    ),
    "beams are null": changed(lambda r: r["beam"].update(beams=None), "beam.beams"),
    "beams are numbers": changed(lambda r: r["beam"].update(beams=[1]), "beam.beams"),
    "budget is a text": changed(lambda r: r["beam"].update(budget="x"), "beam.budget"),
    "question is a list": changed(lambda r: r.update(question=[]), "question"),
}


# -- stores, which training and mining open


def store(change: Callable[[Path], Any], *words: str) -> Case:
    """A finished store with something changed, which is opened and checked."""

    def make(place: Place) -> None:
        fill(Path("bad")).close({})
        change(Path("bad"))

    return Case(lambda place: TrajectoryStore("bad", verify=True), ("bad", *words), make)


def manifest(change: Callable[[dict[str, Any]], Any], *words: str) -> Case:
    """One with something changed in its manifest."""

    def apply(folder: Path) -> None:
        path = folder / "manifest.json"
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return store(apply, "manifest.json", *words)


def tensor(name: str, value: float, *words: str) -> Case:
    """One whose checksums agree, and whose numbers make no sense."""

    def apply(folder: Path) -> None:
        path = folder / shard_name(1)
        tensors = {key: each.clone() for key, each in load_file(path).items()}
        tensors[name].view(-1)[0] = value
        _save(folder, tensors)

    return store(apply, shard_name(1), "without sense", *words)


def without(name: str) -> Case:
    """One in whose shard a tensor is missing."""

    def apply(folder: Path) -> None:
        _save(folder, {k: t for k, t in load_file(folder / shard_name(1)).items() if k != name})

    return store(apply, shard_name(1))


def _save(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Writes the second shard anew, with its checksum in the manifest."""
    path = folder / shard_name(1)
    save_file(tensors, path, metadata={"counts": "{}"})
    content = json.loads((folder / "manifest.json").read_text())
    content["shards"][path.name] = sha256_of(path)
    (folder / "manifest.json").write_text(json.dumps(content))


def raw(name: str, content: bytes) -> Callable[[Path], object]:
    """Replaces a file."""
    return lambda folder: (folder / name).write_bytes(content)


STORES = {
    "no manifest": store(lambda f: (f / "manifest.json").unlink(), "manifest.json"),
    "manifest is cut": store(raw("manifest.json", b'{"settings": {'), "manifest.json"),
    "manifest is not UTF-8": store(raw("manifest.json", b'{"a": "\xe9"}'), "manifest.json"),
    "manifest is a list": store(raw("manifest.json", b"[]"), "manifest.json"),
    "manifest is empty": store(raw("manifest.json", b""), "manifest.json"),
    "manifest is nested": store(raw("manifest.json", b"[" * 100_000), "manifest.json"),
    **{
        f"manifest without {name}": manifest(lambda m, name=name: m.pop(name), name)
        for name in ("settings", "complete", "counts", "shards")
    },
    "settings are a text": manifest(lambda m: m.update(settings="x"), "settings"),
    "shards are a list": manifest(lambda m: m.update(shards=[]), "shards"),
    "complete is a text": manifest(lambda m: m.update(complete="yes"), "complete"),
    "counts are texts": manifest(lambda m: m["counts"].update(questions="x"), "counts"),
    "counts are NaN": manifest(lambda m: m["counts"].update(questions=NAN), "counts"),
    "counts are negative": manifest(lambda m: m["counts"].update(questions=-4), "counts"),
    "shard above the folder": manifest(lambda m: m["shards"].update({"../x": "1"}), "../x"),
    "shard's checksum is a number": manifest(
        lambda m: m["shards"].update({shard_name(0): 5}), "shards"
    ),
    "sizes are a list": manifest(lambda m: m.update(sizes=[2, 2]), "sizes"),
    "sizes of other shards": manifest(lambda m: m["sizes"].popitem(), "sizes"),
    "size is a text": manifest(lambda m: m["sizes"].update({shard_name(0): "2"}), "sizes"),
    "size is negative": manifest(lambda m: m["sizes"].update({shard_name(0): -2}), "sizes"),
    "unfinished": store(
        lambda f: (f / "manifest.json").write_text('{"settings": {}, "complete": false}'),
        "unfinished",
    ),
    "shard is missing": store(lambda f: (f / shard_name(0)).unlink(), shard_name(0)),
    "shard is cut": store(
        lambda f: (f / shard_name(0)).write_bytes((f / shard_name(0)).read_bytes()[:99]),
        shard_name(0), "checksum",
    ),
    "shard is a folder": store(
        lambda f: ((f / shard_name(0)).unlink(), (f / shard_name(0)).mkdir()), shard_name(0)
    ),
    **{f"shard without {name}": without(name) for name in ("labels", "thoughts", "votes")},
    "thoughts are NaN": tensor("thoughts", NAN),
    "thoughts are infinite": tensor("reference", math.inf),
    "labels are NaN": tensor("labels", NAN),
    "labels are above 1": tensor("labels", 1.5),
    "prompt lengths are negative": tensor("prompt_lengths", -1),
    "prompt lengths do not add up": tensor("prompt_lengths", 9),
    "thought counts are negative": tensor("thought_counts", -1),
    "thought counts are too many": tensor("thought_counts", 99),
    "votes are out of range": tensor("votes", 99),
    "question numbers are negative": tensor("question_index", -5),
    "a file where the store should be": Case(
        lambda place: TrajectoryStore("bad"), ("bad", "manifest.json"),
        lambda place: Path("bad").write_text("x"),
    ),
}  # fmt: skip


# -- folders that a command is to write into


def afile(place: Place) -> None:
    """A file where a folder should be."""
    Path("bad").write_text("x")


def config(folder: str) -> dict[str, Any]:
    """What the guard of `ltts fit` looks at."""
    callback = {
        "class_path": "lightning.pytorch.callbacks.ModelCheckpoint",
        "init_args": {"dirpath": f"{folder}/checkpoints"},
    }
    return {"seed_everything": 0, "trainer": {"callbacks": [callback]}, "ckpt_path": None}


def fit(place: Place) -> None:
    """What `ltts fit` does before anything is made."""
    with RunGuard() as guard:
        guard.check("fit", config("bad"))


def fitted(content: str | bytes | None) -> Callable[[Place], None]:
    """A folder with a checkpoint and this manifest."""

    def make(place: Place) -> None:
        Path("bad/checkpoints").mkdir(parents=True)
        Path("bad/checkpoints/last.ckpt").write_bytes(b"x")
        if content is not None:
            data = content.encode() if isinstance(content, str) else content
            Path("bad", FIT_MANIFEST).write_bytes(data)

    return make


def predicted(content: bytes | None, lines: bytes = SOUND.encode()) -> Callable[[Place], None]:
    """A folder with rows and this manifest."""

    def make(place: Place) -> None:
        Path("bad").mkdir()
        Path("bad/predictions.jsonl").write_bytes(lines)
        if content is not None:
            Path("bad/predictions.manifest.json").write_bytes(content)

    return make


def read_only(place: Place) -> None:
    """A folder that even the system's administrator cannot write."""
    os.symlink("/proc/self", "bad")


def predict(place: Place) -> None:
    """What `ltts predict` does with its folder."""
    open_folder(Path("bad"), {"seed": 0})


def export(place: Place) -> object:
    """`ltts export` into the folder."""
    return import_model(place.reasoner, "bad")


def blocked(place: Place) -> None:
    """Sound predictions, and a file where the report is to be written."""
    predicted(b'{"seed": 0}')(place)
    Path("x").write_text("x")


SETTINGS = b'{"seed": 0}'
WRITING = {
    "fit: a file": Case(fit, ("bad", "cannot be written"), afile),
    "fit: read-only": Case(fit, ("bad", "cannot be written"), read_only),
    "fit: checkpoints without a manifest": Case(fit, ("bad", "--overwrite"), fitted(None)),
    "fit: manifest is cut": Case(fit, (FIT_MANIFEST, "damaged"), fitted('{"settings"')),
    "fit: manifest is not UTF-8": Case(fit, (FIT_MANIFEST, "damaged"), fitted(b"\xff")),
    "fit: manifest is a list": Case(fit, (FIT_MANIFEST, "damaged"), fitted("[]")),
    "fit: manifest without settings": Case(fit, ("settings",), fitted('{"finished": null}')),
    "fit: manifest without an end": Case(fit, ("finished",), fitted('{"settings": {}}')),
    "fit: settings are a text": Case(
        fit, ("settings",), fitted('{"settings": "x", "finished": null}')
    ),
    "fit: other settings": Case(
        fit, ("bad", "--overwrite"), fitted('{"settings": {"seed_everything": 5}, "finished": null}')
    ),
    "mine: a file": Case(lambda place: FolderLock("bad").acquire(), ("bad", "written"), afile),
    "mine: read-only": Case(
        lambda place: FolderLock("bad").acquire(), ("bad", "written"), read_only
    ),
    "mine: files of others": Case(
        lambda place: StoreWriter("bad", {}, 1).open(), ("bad", "manifest.json"),
        lambda place: (Path("bad").mkdir(), Path("bad/notes.txt").write_text("x")),
    ),
    "mine: other settings": Case(
        lambda place: StoreWriter("bad", {"seed": 1}, 2).open(), ("bad", "seed=0"),
        lambda place: fill(Path("bad")),
    ),
    "predict: rows without a manifest": Case(
        predict, ("bad", "predictions.manifest.json"), predicted(None)
    ),
    "predict: manifest is cut": Case(
        predict, ("predictions.manifest.json", "damaged"), predicted(b'{"seed')
    ),
    "predict: manifest is not UTF-8": Case(
        predict, ("predictions.manifest.json", "damaged"), predicted(b'{"a": "\xe9"}')
    ),
    "predict: manifest is a list": Case(
        predict, ("predictions.manifest.json", "damaged"), predicted(b"[1]")
    ),
    "predict: other settings": Case(predict, ("seed=1",), predicted(b'{"seed": 1}')),
    "predict: rows of nobody": Case(predict, ("line 1", "damaged"), predicted(SETTINGS, b"{}\n")),
    "predict: rows are not UTF-8": Case(
        predict, ("line 1", "damaged"), predicted(SETTINGS, b'{"id": "\xe9"}\n')
    ),
    "predict: id is a list": Case(
        predict, ("line 1", "damaged"), predicted(SETTINGS, b'{"id": [1]}\n')
    ),
    "predict: two rows of a problem": Case(
        predict, ("line 2", "'q0'"), predicted(SETTINGS, (SOUND + SOUND.replace("4", "5")).encode())
    ),
    "export: a file": Case(export, ("bad", "another target"), afile),
    "export: not empty": Case(
        export, ("bad", "another target"),
        lambda place: (Path("bad").mkdir(), Path("bad/x").write_text("x")),
    ),
    "export: read-only": Case(export, ("bad", "another target"), read_only),
    "report: page below a file": Case(report("-o", "x/y.html"), ("x", "another path"), blocked),
    "report: tables into a file": Case(report("--csv", "x"), ("x", "another path"), blocked),
    "report: images into a file": Case(report("--png", "x"), ("x", "another path"), blocked),
    "report: manifest is cut": Case(
        report("-o", "page.html"), ("predictions.manifest.json",), predicted(b'{"seed')
    ),
}  # fmt: skip
CASES: Mapping[str, Case] = {
    f"{kind}: {name}": case
    for kind, cases in (("predictions", PREDICTIONS), ("store", STORES), ("place", WRITING))
    for name, case in cases.items()
}
