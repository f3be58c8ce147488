"""The faults made by hand: that each can still be made."""

import faults
import pytest

from tests.pages import ROOT


@pytest.mark.parametrize("fault", faults.FAULTS, ids=lambda fault: fault.name)
def test_the_code_still_holds_what_a_fault_changes(fault: faults.Fault) -> None:
    text = (ROOT / "lightning_ltts" / fault.file).read_text(encoding="utf-8")
    assert text.count(fault.right) == 1
    assert fault.wrong != fault.right
