"""The file of one shard: what it holds, and whether it is as it was written."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from lightning_ltts.errors import StoreError
from lightning_ltts.files import sha256_of
from lightning_ltts.mining.integrity import digest_of, senseless
from lightning_ltts.mining.questions import MinedQuestions

_AGAIN = "delete the store and mine it again"
# what a shard holds; see `MinedQuestions` for what they are
TENSORS = {
    "prompt_ids": torch.int32,  # (total,): prompts one after the other
    "prompt_lengths": torch.int64,  # (Q,)
    "question_index": torch.int64,  # (Q,)
    "thoughts": torch.float32,  # (Q, N, T, d)
    "clean": torch.float32,  # (Q, N, T, d): thoughts before noise; (Q, N, 0, d) if not kept
    "thought_counts": torch.int64,  # (Q, N)
    "labels": torch.float32,  # (Q, N, T)
    "votes": torch.int64,  # (Q, N)
    "answers": torch.int32,  # (Q, N, A)
    "reference": torch.float32,  # (Q, T, d): thoughts of the greedy trajectory
    "reference_counts": torch.int64,  # (Q,)
    "reference_answers": torch.int32,  # (Q, A)
}


def shard_name(number: int) -> str:
    """The file name of a shard."""
    return f"shard-{number:05d}.safetensors"


def shard_tensors(questions: MinedQuestions) -> dict[str, Tensor]:
    """What a shard with these questions holds, see `TENSORS`."""
    tensors, real = questions.tensors(), questions.attention_mask.bool()
    tensors["prompt_ids"] = questions.input_ids[real]
    tensors["prompt_lengths"] = questions.attention_mask.sum(-1)
    return {name: tensors[name].to(dtype).contiguous() for name, dtype in TENSORS.items()}


def questions_in(path: Path) -> int:
    """How many questions a shard holds, by its header: nothing else is read.

    Raises:
        StoreError: it is missing, or has no such header.
    """
    with _opened(path) as file:
        shape = file.get_slice("labels").get_shape()
        if not shape:
            raise StoreError(f"{path} is damaged (its labels are one number); {_AGAIN}")
        return int(shape[0])


def columns_of(path: Path, names: tuple[str, ...]) -> dict[str, Tensor]:
    """Some tensors of a shard: copies, so that nothing of it stays mapped, and unchecked.

    Raises:
        StoreError: it is missing, or lacks one of them.
    """
    with _opened(path) as file:
        return {name: file.get_tensor(name).clone() for name in names}


def check_shard(path: Path, checksum: str, questions: int) -> None:
    """Reads all of a shard once.

    Args:
        path: of the shard.
        checksum: of the file, in the manifest.
        questions: that it holds, by the manifest.

    Raises:
        StoreError: it is not what it must be.
    """
    if not path.exists() or sha256_of(path) != checksum:
        raise StoreError(f"{path} is missing or does not match its checksum; {_AGAIN}")
    tensors = load_file(path)
    if not TENSORS.keys() <= tensors.keys():
        raise StoreError(f"{path} was written by an older version; {_AGAIN}")
    fault = senseless(tensors)
    if fault is None and len(tensors["labels"]) != questions:
        fault = f"{len(tensors['labels'])} questions instead of the manifest's {questions}"
    if fault is not None:
        raise StoreError(f"{path} holds numbers without sense ({fault}); {_AGAIN}")


def read_counts(path: Path, verify: bool = True) -> dict[str, float]:
    """The counts of a shard whose bytes are as they were written.

    Args:
        path: of the shard.
        verify: compare all of it with its checksum, not only what the counts are read from.

    Raises:
        StoreError: they are not.
    """
    try:
        with safe_open(path, framework="pt") as file:
            about: dict[str, str] = file.metadata() or {}
        same = not verify or about["sha256"] == digest_of(load_file(path), about["counts"])
        counts: dict[str, float] = json.loads(about["counts"]) if same else {}
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise StoreError(
            f"{path} is damaged ({error}); delete it and run 'ltts mine' again"
        ) from None
    if not same:
        raise StoreError(
            f"{path} is damaged: it does not match its checksum; delete it and run 'ltts mine' "
            "again"
        )
    return counts


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A shard of which only parts are read."""
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise StoreError(f"{path} is damaged ({error}); {_AGAIN}") from None
