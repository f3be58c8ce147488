"""Trajectories on disk: one folder per mined set, in shards, with a manifest.

    manifest.json             settings, counts, per-shard checksums and numbers of questions;
                              `complete` once all is there
    shard-00000.safetensors   tensors of some questions (see `TENSORS`)

Shards are memory-mapped when read, and checked before. A shard is written under a temporary name
and renamed, so a killed run leaves nothing that a later one would trust by mistake; a checksum
inside of it finds bytes that change later.
"""

import json
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import Dataset

from lightning_ltts.errors import StoreError
from lightning_ltts.files import atomic, check_same_settings, read_json, sha256_of, write_json
from lightning_ltts.mining.integrity import digest_of, manifest_fault, senseless, wrong_alone
from lightning_ltts.mining.questions import MinedQuestions
from lightning_ltts.mining.shard_files import (
    TENSORS,
    check_shard,
    columns_of,
    questions_in,
    read_counts,
    shard_name,
    shard_tensors,
)
from lightning_ltts.run_folder import LOCK

MANIFEST = "manifest.json"
MAPPED = 256  # shards of a store that are mapped at once while single questions are read


class StoreWriter:
    """Fills a store, shard by shard; several processes can write different shards of one store.

    Args:
        folder: where the store is.
        settings: all that determines the trajectories; an existing store with other settings is
            refused.
        num_shards: how many shards make it complete.
        older: forms in which an earlier version wrote some of the settings, see
            `check_same_settings`.
    """

    def __init__(
        self,
        folder: str | Path,
        settings: dict[str, Any],
        num_shards: int,
        older: dict[str, Any] | None = None,
    ):
        self.folder = Path(folder)
        self.settings = json.loads(json.dumps(settings))
        self.num_shards = num_shards
        self.older = older

    def open(self) -> None:
        """Creates the store, or checks that the one there has the same settings.

        Call it on one process, before any `write`.

        Raises:
            StoreError: the store there was mined with other settings; the message says which.
        """
        path = self.folder / MANIFEST
        if path.exists() and any(self.folder.glob("shard-*.safetensors")):
            theirs = read_manifest(self.folder)["settings"]
            check_same_settings(self.folder, theirs, self.settings, self.older)
            return
        found = list(self.folder.iterdir()) if self.folder.exists() else []
        if any(path.name not in (MANIFEST, LOCK) and path.suffix != ".tmp" for path in found):
            raise StoreError(
                f"{self.folder} holds files but no {MANIFEST}; give an empty folder for the store"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(path, {"settings": self.settings, "complete": False})

    @property
    def complete(self) -> bool:
        """Whether the manifest says that nothing is missing."""
        manifest = self.folder / MANIFEST
        return manifest.exists() and bool(read_manifest(self.folder)["complete"])

    def has(self, number: int) -> bool:
        """Whether a shard is there in full."""
        return (self.folder / shard_name(number)).exists()

    def write(self, number: int, questions: MinedQuestions, counts: dict[str, float]) -> None:
        """Writes one shard at once or not at all; `counts` are summed over shards in the end.

        Raises:
            StoreError: what was mined are no numbers.
        """
        path, tensors, about = (
            self.folder / shard_name(number),
            shard_tensors(questions),
            json.dumps(counts),
        )
        fault = senseless(tensors)
        if fault is not None:
            raise StoreError(
                f"{path} would hold numbers without sense ({fault}); look at the sampler's options"
            )
        metadata = {"counts": about, "sha256": digest_of(tensors, about)}
        with atomic(path) as temporary:
            save_file(tensors, temporary, metadata=metadata)

    def shards_with(self, enough: int) -> int | None:
        """How many shards, from the first on and without a gap, hold `enough` kept questions.

        Returns none where there are too few as yet.
        """
        kept = 0.0
        for number in range(self.num_shards):
            if not self.has(number):
                return None
            kept += read_counts(self.folder / shard_name(number), verify=False)["kept"]
            if kept >= enough:
                return number + 1
        return None

    def close(self, extra: dict[str, Any], enough: int | None = None) -> dict[str, Any]:
        """Writes the final manifest, with `extra` entries, once all shards are there.

        Call it on one process. Where so many kept questions are `enough`, the first shards that
        hold them are the store, and others are removed: which these are depends on the questions
        alone, and not on how many processes mined them.

        Raises:
            StoreError: a shard is damaged, or the store's settings have changed meanwhile.
        """
        theirs = read_manifest(self.folder)["settings"]
        check_same_settings(self.folder, theirs, self.settings, self.older)
        shards: dict[str, str] = {}
        sizes: dict[str, int] = {}
        totals: dict[str, float] = {}
        last = self.num_shards if enough is None else self.shards_with(enough) or self.num_shards
        for number in range(last, self.num_shards):
            (self.folder / shard_name(number)).unlink(missing_ok=True)
        for number in range(last):
            path = self.folder / shard_name(number)
            shards[path.name] = sha256_of(path)
            for name, count in read_counts(path).items():
                totals[name] = totals.get(name, 0) + count
            sizes[path.name] = questions_in(path)
        manifest = {
            "settings": self.settings,
            "complete": True,
            "counts": totals,
            "shards": shards,
            "sizes": sizes,
            **extra,
        }
        write_json(self.folder / MANIFEST, manifest)
        for leftover in self.folder.glob("*.tmp"):
            leftover.unlink()
        return manifest


class TrajectoryStore(Dataset[MinedQuestions]):
    """A finished store, memory-mapped; item i is one question (Q = 1) with its trajectories.

    It is indexed by its manifest. A shard is checked when something of it is read for the first
    time: its bytes by their checksum, and that its numbers make sense.

    Args:
        folder: where it is.
        verify: check every shard now, which reads everything once.

    Raises:
        StoreError: it is missing, unfinished or damaged.
    """

    def __init__(self, folder: str | Path, verify: bool = False):
        self.folder = Path(folder)
        self.manifest = read_manifest(self.folder)
        if not self.manifest["complete"]:
            raise StoreError(
                f"the trajectory store {folder} is unfinished; run the same 'ltts mine' again to complete it"
            )
        self._paths = [self.folder / name for name in self.manifest["shards"]]
        for path in self._paths:
            if not path.exists():
                raise StoreError(
                    f"{path} is missing or does not match its checksum; delete the store and mine it again"
                )
        # of a store from before there were sizes, by the headers of its shards
        sizes = self.manifest.get("sizes") or {p.name: questions_in(p) for p in self._paths}
        self._sizes = [sizes[path.name] for path in self._paths]
        self._ends = np.cumsum(self._sizes, dtype=np.int64)
        self._checked = set[int]()
        self._mapped: OrderedDict[int, _Shard] = OrderedDict()  # the latest that were read
        if verify:
            self.verify()

    def verify(self) -> None:
        """Checks every shard that was not read yet.

        Raises:
            StoreError: one is damaged.
        """
        for number in range(len(self._paths)):
            self._check(number)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, i: int) -> MinedQuestions:
        number, row = self._place(i)
        return self._shard(number).question(row)

    def in_order(self, indices: Iterable[int]) -> Iterator[MinedQuestions]:
        """The questions of these ascending indices, of which one shard is mapped at a time.

        What is kept of a question must be copied, or all of its shard is kept.
        """
        for number, places in groupby(map(self._place, indices), lambda place: place[0]):
            shard = _Shard(self._load(number))
            yield from (shard.question(row) for _, row in places)

    def question_indices(self, problems: int) -> Tensor:
        """Of every question (Q,): which of so many problems that were mined it is."""
        found = [torch.zeros(0, dtype=torch.int64)]
        for number, shard in enumerate(self.columns("question_index")):
            if (shard["question_index"] >= problems).any():
                self._check(number)
            found.append(shard["question_index"])
        return torch.cat(found)

    def columns(self, *names: str) -> Iterator[dict[str, Tensor]]:
        """These tensors of every shard, see `TENSORS`, of which nothing else is read.

        So a shard is not checked, but where its numbers make no sense by themselves.
        """
        for number, path in enumerate(self._paths):
            tensors = columns_of(path, names)
            if any(wrong_alone(name, tensor) for name, tensor in tensors.items()):
                self._check(number)
            yield tensors

    def _place(self, i: int) -> tuple[int, int]:
        """The shard that a question is in, and its row there."""
        i = range(len(self))[i]
        number = int(np.searchsorted(self._ends, i, side="right"))
        return number, i - (int(self._ends[number - 1]) if number else 0)

    def _shard(self, number: int) -> "_Shard":
        """A shard, memory-mapped; the one that was not read for longest makes room for others."""
        if number not in self._mapped:
            if len(self._mapped) == MAPPED:
                self._mapped.popitem(last=False)
            self._mapped[number] = _Shard(self._load(number))
        self._mapped.move_to_end(number)
        return self._mapped[number]

    def _load(self, number: int) -> dict[str, Tensor]:
        """A shard's tensors, mapped anew, since what was read to check them would stay in memory."""
        self._check(number)
        return load_file(self._paths[number])

    def _check(self, number: int) -> None:
        """Checks a shard, once."""
        if number not in self._checked:
            path = self._paths[number]
            check_shard(path, self.manifest["shards"][path.name], self._sizes[number])
            self._checked.add(number)


class _Shard:
    """The tensors of a shard, and where its prompts begin."""

    def __init__(self, tensors: dict[str, Tensor]):
        self.tensors = tensors
        self._starts = tensors["prompt_lengths"].cumsum(0) - tensors["prompt_lengths"]

    def question(self, row: int) -> MinedQuestions:
        """One question (Q = 1); its tensors are parts of the shard's."""
        start, length = int(self._starts[row]), int(self.tensors["prompt_lengths"][row])
        prompt = self.tensors["prompt_ids"][None, start : start + length]
        tensors = {n: self.tensors[n][row : row + 1] for n in TENSORS if n != "prompt_ids"}
        tensors |= {"input_ids": prompt.long(), "attention_mask": torch.ones_like(prompt).long()}
        return MinedQuestions.from_tensors(tensors)


def collate(
    items: list[MinedQuestions], like: Dataset[MinedQuestions] | None = None
) -> dict[str, Tensor]:
    """Items of a store -> one batch, as the tensors of `MinedQuestions.tensors`.

    Args:
        items: of one store.
        like: what a batch without items, a device's last in a validation, is shaped like.
    """
    if not items and like is not None:
        return {name: tensor[:0] for name, tensor in collate([like[0]]).items()}
    return MinedQuestions.join(items).tensors()


def read_manifest(folder: Path) -> dict[str, Any]:
    """A store's manifest.

    Raises:
        StoreError: there is none, or it cannot be read.
    """
    path = folder / MANIFEST
    if not path.exists():
        raise StoreError(
            f"{folder} is not a trajectory store: it has no {MANIFEST}; mine it first with 'ltts mine'"
        )
    advice = "delete the store and mine it again"
    manifest = read_json(path, advice, ("settings", "complete"))
    parts = ("settings", "counts", "shards") if manifest["complete"] else ("settings",)
    for part in parts:
        if not isinstance(manifest.get(part), dict):
            raise StoreError(f"{path} is damaged ('{part}' is missing or no object); {advice}")
    fault = manifest_fault(manifest)
    if fault is not None:
        raise StoreError(f"{path} is damaged ({fault}); {advice}")
    return manifest
