import pytest
import torch

from lightning_ltts.voting.votes import answer_diversity, mixed_questions, vote_numbers


def test_numbers_of_answers() -> None:
    assert vote_numbers(["7", "3", None, "7", "9", "3"]) == [0, 1, -1, 0, 2, 1]


def test_questions_with_right_and_wrong_samples() -> None:
    correct = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [1.0, 1.0, 0.0]])
    assert mixed_questions(correct).tolist() == [True, False, False, True]


def test_diversity_by_hand() -> None:
    """7 7 3 none: of 12 ordered pairs, 2 agree; none of four alike differ, and all of four others."""
    votes = torch.tensor([[0, 0, 1, -1], [2, 2, 2, 2], [0, 1, 2, 3]])
    assert answer_diversity(votes).tolist() == pytest.approx([10 / 12, 0, 1])
    assert answer_diversity(votes[:, :1]).tolist() == [0, 0, 0]
