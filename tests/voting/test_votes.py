import pytest
import torch

from lightning_ltts.voting.votes import answer_diversity


def test_diversity_by_hand() -> None:
    """7 7 3 none: of 12 ordered pairs, 2 agree; none of four alike differ, and all of four others."""
    votes = torch.tensor([[0, 0, 1, -1], [2, 2, 2, 2], [0, 1, 2, 3]])
    assert answer_diversity(votes).tolist() == pytest.approx([10 / 12, 0, 1])
    assert answer_diversity(votes[:, :1]).tolist() == [0, 0, 0]
