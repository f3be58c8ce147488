"""What a shard must be: its bytes as they were written, and numbers that mean something."""

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_ltts.errors import shorten


def digest_of(tensors: Mapping[str, Tensor], counts: str) -> str:
    """The SHA-256 of a shard's tensors with their names, types and shapes, and of its counts.

    It is stored inside the shard, so that changed bytes are found before the store is complete and
    its manifest holds checksums of whole files.
    """
    digest = hashlib.sha256(counts.encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def manifest_fault(manifest: Mapping[str, Any]) -> str | None:
    """What about a store's manifest cannot be, in words; None where all is well."""
    if not isinstance(manifest["complete"], bool):
        return f"complete={shorten(manifest['complete'])} is neither true nor false"
    for name, count in manifest.get("counts", {}).items():
        number = isinstance(count, int | float) and not isinstance(count, bool)
        if not number or not 0 <= count < math.inf:
            return f"{name}={shorten(count)} of 'counts' is no number of at least 0"
    for name, checksum in manifest.get("shards", {}).items():
        if Path(name).name != name or not isinstance(checksum, str):
            return f"'shards' has {shorten(name)}, which is no file of the store with a checksum"
    return _sizes_fault(manifest.get("sizes"), manifest.get("shards", {}))


def _sizes_fault(sizes: Any, shards: Mapping[str, Any]) -> str | None:
    """What about the numbers of questions cannot be; older stores have none."""
    if sizes is None:
        return None
    if not isinstance(sizes, dict) or sizes.keys() != shards.keys():
        return "'sizes' does not name the files of 'shards'"
    wrong = next((name for name, size in sizes.items() if type(size) is not int or size < 0), None)
    return None if wrong is None else f"'sizes' of {wrong} is no number of questions"


def wrong_alone(name: str, tensor: Tensor) -> bool:
    """Whether a tensor of a shard cannot be, whatever the others hold."""
    if name == "labels":
        return not _between(tensor, 0, 1)  # also for NaN
    return name == "question_index" and not bool((tensor >= 0).all())


def senseless(tensors: Mapping[str, Tensor]) -> str | None:
    """What about a shard's numbers cannot be, in words; None where all is well.

    Args:
        tensors: what a shard holds, by name.
    """
    questions, samples, steps = (
        tensors["labels"].shape[:3] if tensors["labels"].ndim == 3 else (-1, -1, -1)
    )
    lengths = tensors["prompt_lengths"]
    # of a reasoner without thoughts, the one label is whether the answer is right
    written = (questions, samples, 0) if steps == 1 else None
    checks = {
        "labels are not (questions, samples, steps)": questions >= 0,
        "the numbers of questions differ": all(
            tensor.ndim > 0 and len(tensor) == questions
            for name, tensor in tensors.items()
            if name != "prompt_ids"
        ),
        "prompt lengths do not add up": bool((lengths > 0).all())
        and int(lengths.sum()) == len(tensors["prompt_ids"]),
        "question numbers are negative": not wrong_alone(
            "question_index", tensors["question_index"]
        ),
        "the shapes of thoughts do not fit the labels": tensors["thoughts"].shape[:3]
        in ((questions, samples, steps), written),
        "thought counts are out of range": _between(tensors["thought_counts"], 0, steps)
        and _between(tensors["reference_counts"], 0, tensors["reference"].shape[1]),
        "votes are out of range": _between(tensors["votes"], -1, samples - 1),
        "labels are no shares": not wrong_alone("labels", tensors["labels"]),
        "thoughts are not numbers": all(
            bool(tensors[name].isfinite().all()) for name in ("thoughts", "clean", "reference")
        ),
    }
    return next((fault for fault, fine in checks.items() if not fine), None)


def _between(tensor: Tensor, low: int, high: int) -> bool:
    return bool(((tensor >= low) & (tensor <= high)).all())
