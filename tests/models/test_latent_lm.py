"""Padding, and the positions that do not see it."""

import pytest
import torch

from lightning_ltts.models.latent_lm import align_left, left_pad, position_ids


@pytest.mark.parametrize("kind", [list, tuple])
def test_left_pad(kind: type) -> None:
    ids, mask = left_pad([kind([1, 2, 3]), kind([4]), kind([])], 9)
    assert ids.tolist() == [[1, 2, 3], [9, 9, 4], [9, 9, 9]]
    assert mask.tolist() == [[1, 1, 1], [0, 0, 1], [0, 0, 0]]
    assert ids.dtype == mask.dtype == torch.int64


def test_a_pad_id_that_is_written_counts() -> None:
    """It is the length of a row that says what is padding, not the token."""
    _, mask = left_pad([[9, 9], [9]], 9)
    assert mask.tolist() == [[1, 1], [0, 1]]


def test_positions_count_real_tokens_only() -> None:
    _, mask = left_pad([[1, 2, 3], [4]], 9)
    assert position_ids(mask).tolist() == [[0, 1, 2], [0, 0, 0]]


def test_right_padding_is_moved_to_the_left() -> None:
    ids, mask = left_pad([[1, 2, 3], [4, 5]], 9)
    right, right_mask = torch.tensor([[1, 2, 3], [4, 5, 9]]), torch.tensor([[1, 1, 1], [1, 1, 0]])
    moved, moved_mask = align_left(right, right_mask)
    assert torch.equal(moved, ids)
    assert torch.equal(moved_mask, mask)
