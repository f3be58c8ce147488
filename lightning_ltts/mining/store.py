"""Trajectories on disk: one folder per mined set, in shards that are complete or absent, with a manifest.

    manifest.json             settings, counts, per-shard checksums; `complete` once every shard is there
    shard-00000.safetensors   tensors of the questions START..STOP of the problem list (see `Shard`)

Shards are memory-mapped when read. A shard is written under a temporary name and renamed, so a killed run leaves nothing
that a later one would trust by mistake.
"""

import json
import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypedDict

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import Dataset

from lightning_ltts.errors import StoreError
from lightning_ltts.files import check_same_settings, sha256_of, write_json
from lightning_ltts.models.latent_lm import left_pad

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Shard:
    """Mined trajectories of some questions."""

    prompt_ids: Tensor  # (total,) int32: prompts one after the other
    prompt_lengths: Tensor  # (Q,)
    question_index: Tensor  # (Q,): index in the problem list
    thoughts: Tensor  # (Q, N, T, d) float32: what was fed back, zeros beyond a trajectory's own
    clean: Tensor  # (Q, N, T, d) float32: the same before noise; (Q, N, 0, d) where that is not kept
    thought_counts: Tensor  # (Q, N) int64
    labels: Tensor  # (Q, N, T) float32: thought labels y_t; from the last thought on, the trajectory's own correctness
    votes: Tensor  # (Q, N) int64: samples of one question with the same number gave the same answer; -1 gave none
    answers: Tensor  # (Q, N, A) int32: answer tokens, padded
    reference: Tensor  # (Q, T, d) float32: thoughts of the deterministic trajectory
    reference_counts: Tensor  # (Q,) int64
    reference_answers: Tensor  # (Q, A) int32


@dataclass(frozen=True)
class Example:
    """One question's trajectories, as LatentRM training uses them."""

    prompt: list[int]
    thoughts: Tensor  # (N, T, d)
    clean: Tensor  # (N, T, d) or (N, 0, d)
    thought_counts: Tensor  # (N,)
    labels: Tensor  # (N, T)
    votes: Tensor  # (N,)
    answers: Tensor  # (N, A)
    reference: Tensor  # (T, d)
    reference_counts: Tensor  # ()
    reference_answers: Tensor  # (A,)


class StoreWriter:
    """Fills a store, shard by shard; several processes can write different shards of one store.

    Args:
        folder: where the store is.
        settings: all that determines the trajectories; an existing store with other settings is refused.
        num_shards: how many shards make it complete.
    """

    def __init__(self, folder: str | Path, settings: dict[str, Any], num_shards: int):
        self.folder = Path(folder)
        self.settings = json.loads(json.dumps(settings))
        self.num_shards = num_shards

    def open(self) -> None:
        """Creates the store, or checks that the one there has the same settings. For one process, before any writes.

        Raises:
            StoreError: the store there was mined with other settings; the message says which.
        """
        path = self.folder / MANIFEST
        if path.exists() and any(self.folder.glob("shard-*.safetensors")):
            check_same_settings(self.folder, read_manifest(self.folder)["settings"], self.settings)
            return
        if self.folder.exists() and any(x.name != MANIFEST and x.suffix != ".tmp" for x in self.folder.iterdir()):
            raise StoreError(f"{self.folder} holds files but no {MANIFEST}; give an empty folder for the store")
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(path, {"settings": self.settings, "complete": False})

    @property
    def complete(self) -> bool:
        """Whether the manifest says that nothing is missing."""
        return (self.folder / MANIFEST).exists() and bool(read_manifest(self.folder)["complete"])

    def has(self, number: int) -> bool:
        """Whether a shard is there in full."""
        return (self.folder / shard_name(number)).exists()

    def write(self, number: int, shard: Shard, counts: dict[str, float]) -> None:
        """Writes one shard at once or not at all; `counts` are summed over shards into the manifest."""
        path = self.folder / shard_name(number)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        tensors = {name: tensor.contiguous() for name, tensor in vars(shard).items()}
        save_file(tensors, temporary, metadata={"counts": json.dumps(counts)})
        os.replace(temporary, path)

    def close(self, extra: dict[str, Any]) -> dict[str, Any]:
        """Writes the final manifest, with `extra` entries, once all shards are there. For one process."""
        shards: dict[str, str] = {}
        totals: dict[str, float] = {}
        for number in range(self.num_shards):
            path = self.folder / shard_name(number)
            shards[path.name] = sha256_of(path)
            for name, count in _read_counts(path).items():
                totals[name] = totals.get(name, 0) + count
        manifest = {"settings": self.settings, "complete": True, "counts": totals, "shards": shards, **extra}
        write_json(self.folder / MANIFEST, manifest)
        for leftover in self.folder.glob("*.tmp"):
            leftover.unlink()
        return manifest


class TrajectoryStore(Dataset[Example]):
    """A finished store, memory-mapped; item i is one question's trajectories.

    Args:
        folder: where it is.
        verify: compare every shard with its checksum, which reads everything once.

    Raises:
        StoreError: it is missing, unfinished or damaged.
    """

    def __init__(self, folder: str | Path, verify: bool = True):
        self.folder = Path(folder)
        self.manifest = read_manifest(self.folder)
        if not self.manifest["complete"]:
            raise StoreError(f"the trajectory store {folder} is unfinished; run the same 'ltts mine' again to complete it")
        self._shards: list[dict[str, Tensor]] = []
        self._index: list[tuple[int, int, int]] = []  # shard, row, where its prompt starts
        for number, (name, checksum) in enumerate(self.manifest["shards"].items()):
            path = self.folder / name
            if not path.exists() or (verify and sha256_of(path) != checksum):
                raise StoreError(f"{path} is missing or does not match its checksum; delete the store and mine it again")
            shard = load_file(path)
            if not vars(Shard)["__dataclass_fields__"].keys() <= shard.keys():
                raise StoreError(f"{path} was written by an older version; delete the store and mine it again")
            starts = shard["prompt_lengths"].cumsum(0) - shard["prompt_lengths"]
            self._shards.append(shard)
            self._index += [(number, row, start) for row, start in enumerate(starts.tolist())]

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, i: int) -> Example:
        number, row, start = self._index[i]
        shard = self._shards[number]
        stop = start + int(shard["prompt_lengths"][row])
        prompt = shard["prompt_ids"][start:stop].tolist()
        return Example(prompt, **{field.name: shard[field.name][row] for field in fields(Example)[1:]})

    def question_index(self, i: int) -> int:
        """Where the question of item i stands in the problem list."""
        number, row, _ = self._index[i]
        return int(self._shards[number]["question_index"][row])


def shard_name(number: int) -> str:
    """The file name of a shard."""
    return f"shard-{number:05d}.safetensors"


def join_shards(parts: list[Shard]) -> Shard:
    """The same questions in one shard."""
    return Shard(**{name: torch.cat([vars(part)[name] for part in parts]) for name in vars(parts[0])})


def read_manifest(folder: Path) -> dict[str, Any]:
    """A store's manifest.

    Raises:
        StoreError: there is none, or it cannot be read.
    """
    path = folder / MANIFEST
    if not path.exists():
        raise StoreError(f"{folder} is not a trajectory store: it has no {MANIFEST}; mine it first with 'ltts mine'")
    try:
        manifest: dict[str, Any] = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise StoreError(f"{path} is damaged ({error.msg}); delete the store and mine it again") from None
    return manifest


def _read_counts(path: Path) -> dict[str, float]:
    try:
        with safe_open(path, framework="pt") as file:
            counts: dict[str, float] = json.loads(file.metadata()["counts"])
    except SafetensorError as error:
        raise StoreError(f"{path} is damaged ({error}); delete it and run 'ltts mine' again") from None
    return counts


class RMBatch(TypedDict):
    """What LatentRM training reads."""

    input_ids: Tensor  # (Q, L), left padded
    attention_mask: Tensor  # (Q, L)
    thoughts: Tensor  # (Q, N, T, d)
    clean: Tensor  # (Q, N, T, d), or without any where the store does not keep them
    thought_counts: Tensor  # (Q, N)
    labels: Tensor  # (Q, N, T)
    votes: Tensor  # (Q, N)
    answers: Tensor  # (Q, N, A)
    reference: Tensor  # (Q, T, d)
    reference_counts: Tensor  # (Q,)
    reference_answers: Tensor  # (Q, A)


def collate(examples: list[Example]) -> RMBatch:
    """Examples -> one batch; prompts are padded on the left with 0, which the mask hides."""
    ids, mask = left_pad([example.prompt for example in examples], pad_id=0)
    stacked = {field.name: torch.stack([getattr(example, field.name) for example in examples]) for field in fields(Example)[1:]}
    return RMBatch(input_ids=ids, attention_mask=mask, **stacked)  # type: ignore[typeddict-item]
