"""What is shipped of the reference data is a part of them."""

import pytest
import torch
from safetensors.torch import load_file

from tests.golden.conftest import SUBSET, Reference


def test_shipped_data_are_those_that_were_recorded(golden: Reference) -> None:
    if golden.folder == SUBSET:
        pytest.skip("there is nothing to compare with; set LTTS_GOLDEN to the whole data")
    for path in sorted(file for file in SUBSET.rglob("*") if file.is_file()):
        whole = golden / str(path.relative_to(SUBSET))
        if path.suffix != ".safetensors":
            assert path.read_bytes() == whole.read_bytes(), path
            continue
        recorded = load_file(whole)
        for name, tensor in load_file(path).items():
            assert torch.equal(tensor, recorded[name]), (path, name)
