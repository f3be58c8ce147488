import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_ltts.sampling.keyed_random import fold, keep_mask, normal, question_keys, uniform

INT64 = st.integers(-(2**63), 2**63 - 1)


def test_known_values_do_not_change() -> None:
    """Published results are named by their seed, so the streams are part of the interface."""
    assert fold(0, 1, 2).item() == 4338543398194201183
    assert question_keys(0, ["a-1"]).tolist() == [-6591304452987879799]
    assert normal(torch.tensor([7]), 2).tolist()[0] == pytest.approx(
        [-0.795743, 1.118429], abs=1e-4
    )


@given(INT64, INT64, INT64)
def test_fold_is_a_chain(key: int, a: int, b: int) -> None:
    assert torch.equal(fold(fold(key, a), b), fold(key, a, b))


@given(st.lists(INT64, min_size=1, max_size=8), st.integers(1, 33), st.randoms())
def test_rows_do_not_depend_on_the_batch(keys: list[int], n: int, rng) -> None:
    order = list(range(len(keys)))
    rng.shuffle(order)
    tensor = torch.tensor(keys)
    for draw in (uniform, normal, lambda k, m: keep_mask(k, m, 0.3)):
        whole = draw(tensor, n)
        assert torch.equal(draw(tensor[order], n), whole[order])
        assert torch.equal(draw(tensor[:1], n), whole[:1])
        assert torch.equal(draw(tensor, n + 3)[:, :n], whole)  # a longer draw starts the same


def test_question_ids_strings_and_integers() -> None:
    keys = question_keys(0, ["gsm-1", "gsm-2", 1, 2])
    assert len(set(keys.tolist())) == 4
    assert torch.equal(question_keys(0, torch.tensor([1, 2])), keys[2:])
    assert not (question_keys(1, ["gsm-1", "gsm-2", 1, 2]) == keys).any()


def test_moments() -> None:
    """A million draws: bounds are five standard errors."""
    keys = fold(3, torch.arange(1000))
    n = 1_000_000
    u, z = uniform(keys, 1000).double(), normal(keys, 1000).double()
    assert abs(u.mean() - 0.5) < 5 / math.sqrt(12 * n)
    assert abs(z.mean()) < 5 / math.sqrt(n)
    assert abs(z.var() - 1) < 5 * math.sqrt(2 / n)
    assert abs(keep_mask(keys, 1000, 0.2).double().mean() - 0.8) < 5 * math.sqrt(0.16 / n)
    assert abs((z[:, :-1] * z[:, 1:]).mean()) < 5 / math.sqrt(n)
    assert abs((z[:-1] * z[1:]).mean()) < 5 / math.sqrt(n)


def test_neighbouring_coordinates_give_different_keys() -> None:
    grid = torch.arange(40)
    keys = fold(0, grid[:, None, None], grid[None, :, None], grid[None, None, :])
    assert len(keys.unique()) == 40**3


@pytest.mark.gpu
def test_the_same_on_a_gpu() -> None:
    keys = question_keys(0, list(range(64)))
    assert torch.equal(keep_mask(keys, 999, 0.3), keep_mask(keys.cuda(), 999, 0.3).cpu())
    assert torch.equal(uniform(keys, 999), uniform(keys.cuda(), 999).cpu())
    assert torch.allclose(normal(keys, 999), normal(keys.cuda(), 999).cpu(), atol=1e-6)
