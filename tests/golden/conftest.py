"""Reference data recorded from an independent implementation.

A part of it is in `subset/` (see `make_subset.py`); tests that need more skip where that is all
there is. The folder with the whole is given by LTTS_GOLDEN, or found as shared/golden/public beside
or above the repository.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from torch import Tensor

SUBSET = Path(__file__).with_name("subset")


def _find() -> Path:
    given = os.environ.get("LTTS_GOLDEN")
    places = (
        [Path(given)]
        if given
        else [parent / "shared/golden/public" for parent in Path(__file__).resolve().parents]
    )
    return next((place for place in places if place.is_dir()), SUBSET)


class Reference:
    """The folder of the reference data; a test that asks it for what it lacks is skipped."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __truediv__(self, name: str) -> Path:
        path = self.folder / name
        if not path.exists():
            pytest.skip(f"{name} is not in {self.folder.name}; set LTTS_GOLDEN to the whole data")
        return path


@pytest.fixture
def golden() -> Reference:
    """The reference data that are here: the whole, or the part of them that is shipped."""
    return Reference(_find())


def read(path: Path, prefix: str = "") -> dict[str, Tensor]:
    """Tensors whose key starts with `prefix`, which is taken off."""
    return {
        key.removeprefix(prefix): t for key, t in load_file(path).items() if key.startswith(prefix)
    }


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(), parse_constant=float)
