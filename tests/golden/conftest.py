"""Reference data recorded from an independent implementation; tests that need it skip where it is absent.

The folder is given by LTTS_GOLDEN, or found as shared/golden/public beside or above the repository.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from torch import Tensor


def _find() -> Path | None:
    given = os.environ.get("LTTS_GOLDEN")
    places = (
        [Path(given)]
        if given
        else [parent / "shared/golden/public" for parent in Path(__file__).resolve().parents]
    )
    return next((place for place in places if place.is_dir()), None)


GOLDEN = _find()


@pytest.fixture
def golden() -> Path:
    """The folder of the reference data."""
    if GOLDEN is None:
        pytest.skip("the reference data is not here; set LTTS_GOLDEN to its folder")
    return GOLDEN


def read(path: Path, prefix: str = "") -> dict[str, Tensor]:
    """Tensors whose key starts with `prefix`, which is taken off."""
    return {
        key.removeprefix(prefix): t for key, t in load_file(path).items() if key.startswith(prefix)
    }


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(), parse_constant=float)
