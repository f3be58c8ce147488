import math

import pytest
import torch

from lightning_ltts.analysis.statistics import headroom_closed, headroom_interval, mcnemar


def test_mcnemar_by_hand() -> None:
    """Five questions won and one lost of six that differ: 2 (C(6,0) + C(6,1)) / 2^6 = 14/64."""
    one, other = torch.tensor([1.0] * 5 + [0, 1, 0]), torch.tensor([0.0] * 5 + [1, 1, 0])
    assert mcnemar(one, other) == mcnemar(other, one) == pytest.approx(14 / 64)
    assert mcnemar(one, one) == 1


def test_mcnemar_of_many_questions() -> None:
    one = torch.ones(3000)
    assert 0 <= mcnemar(one, torch.zeros(3000)) < 1e-300


def test_headroom() -> None:
    """Majority right on 1 of 4, the oracle on 3, the selection on 2: half of the way."""
    majority, selected = torch.tensor([1.0, 0, 0, 0]), torch.tensor([1.0, 1, 0, 0])
    oracle = torch.tensor([1.0, 1, 1, 0])
    assert headroom_closed(selected, majority, oracle) == pytest.approx(0.5)
    low, high = headroom_interval(selected, majority, oracle)
    assert 0 <= low <= 0.5 <= high <= 1
    assert math.isnan(headroom_closed(oracle, oracle, oracle))  # there is no room


@pytest.mark.slow
def test_interval_of_the_headroom_covers_95_of_100_studies() -> None:
    """Of studies with a known share of 1/2: the selection is right on half of what is between."""
    generator, covered = torch.Generator().manual_seed(0), 0
    for _ in range(100):
        draws = torch.rand(200, generator=generator)
        majority, oracle = (draws < 0.4).double(), (draws < 0.8).double()
        selected = (draws < 0.6).double()
        low, high = headroom_interval(selected, majority, oracle)
        covered += low <= 0.5 <= high
    assert 88 <= covered <= 100
    assert 0.1 < high - low < 0.3  # about 4 x sqrt(1/4 / 80) of the 80 questions between
