"""Stored thoughts of a prediction run: one file per question beside the predictions."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from lightning_ltts.files import atomic

FOLDER = "thoughts"  # beside the prediction file, one file per question


@dataclass(frozen=True)
class StoredThoughts:
    """The thoughts of one question."""

    id: str
    samples: Tensor  # (N, T, d): what was fed back
    counts: Tensor  # (N,): thoughts of each sample
    deterministic: Tensor  # (T', d)
    lens: list[dict[str, Any]]  # what some thoughts say, see `LatentSearch`


def has_thoughts(folder: Path, number: int) -> bool:
    """Whether the thoughts of the question of this number are stored."""
    return _file(folder, number).is_file()


def _file(folder: Path, number: int) -> Path:
    return folder / FOLDER / f"{number:05}.safetensors"


def write_thoughts(folder: Path, number: int, thoughts: StoredThoughts) -> None:
    """Stores one question, in half precision; `number` is its place among the problems."""
    path = _file(folder, number)
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {
        "samples": thoughts.samples.half(),
        "counts": thoughts.counts,
        "deterministic": thoughts.deterministic.half(),
    }
    with atomic(path) as temporary:
        save_file(
            {name: tensor.contiguous().cpu() for name, tensor in tensors.items()},
            temporary,
            {"id": thoughts.id, "lens": json.dumps(thoughts.lens)},
        )


def read_thoughts(folder: Path) -> list[StoredThoughts]:
    """All stored questions of a run, in order; none where `keep_thoughts` was 0."""
    read = []
    for path in sorted((folder / FOLDER).glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no dictionary
            about = file.metadata()
        samples, deterministic = tensors["samples"].float(), tensors["deterministic"].float()
        read.append(
            StoredThoughts(
                about["id"], samples, tensors["counts"], deterministic, json.loads(about["lens"])
            )
        )
    return read
