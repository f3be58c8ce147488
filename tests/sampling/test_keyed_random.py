import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_ltts.sampling.keyed_random import (
    fold,
    keep_mask,
    normal,
    question_keys,
    sample_keys,
    uniform,
)

INT64 = st.integers(-(2**63), 2**63 - 1)


def test_known_values_do_not_change() -> None:
    """Published results are named by their seed, so the streams are part of the interface."""
    assert fold(0, 1, 2).item() == 4338543398194201183
    assert question_keys(0, ["a-1"]).tolist() == [-6591304452987879799]
    assert normal(torch.tensor([7]), 2).tolist()[0] == pytest.approx(
        [-0.795743, 1.118429], abs=1e-4
    )


def mix(word: int) -> int:
    """The splitmix64 finaliser of unsigned 64-bit words, in whole numbers of Python."""
    word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    word = (word ^ word >> 27) * 0x94D049BB133111EB % 2**64
    return word ^ word >> 31


def bits_of(key: int, column: int) -> int:
    """The 32 bits of a column: words are mixed from a counter and the key, and have two halves."""
    word = mix((key + (column // 2 + 1) * 0x9E3779B97F4A7C15) % 2**64)
    return word >> 32 if column % 2 else word % 2**32


@pytest.mark.parametrize("n", [1, 5, 6])
def test_draws_equal_a_plain_way_of_making_them(n: int) -> None:
    keys = [0, 7, -1, -(2**63), 2**63 - 1, 123456789012345678]
    tensor = torch.tensor(keys)
    bits = [[bits_of(key % 2**64, column) for column in range(n + 1)] for key in keys]
    assert uniform(tensor, n).tolist() == [[(b >> 8) / 2**24 for b in row[:n]] for row in bits]
    for p in (0.1, 0.5, bits[1][0] / 2**32):  # of the last, one word is the very bound
        kept = [[b >= int(p * 2**32) for b in row[:n]] for row in bits]
        assert keep_mask(tensor, n, p).tolist() == kept
    for row, found in zip(bits, normal(tensor, n).tolist(), strict=True):
        expected = []
        for first, second in zip(row[::2], row[1::2], strict=False):
            radius = math.sqrt(-2 * math.log((second + 1) / 2**32))
            angle = 2 * math.pi * first / 2**32
            expected += [radius * math.cos(angle), radius * math.sin(angle)]
        assert found == pytest.approx(expected[:n], abs=1e-6)


@pytest.mark.parametrize(("key", "coordinate"), [(0, 0), (5, -1), (-(2**63), 2**40 + 4), (-3, 17)])
def test_a_key_equals_a_plain_way_of_making_it(key: int, coordinate: int) -> None:
    place = mix((coordinate + 1) * 0x9E3779B97F4A7C15 % 2**64)
    expected = mix((place + key * 0xBF58476D1CE4E5B9) % 2**64)
    assert fold(key, coordinate).item() % 2**64 == expected
    keys = sample_keys(torch.tensor([key, 1]), 3)
    assert keys.shape == (2, 3)
    assert keys[0].tolist() == [fold(key, sample).item() for sample in range(3)]


@given(INT64, INT64, INT64)
def test_fold_is_a_chain(key: int, a: int, b: int) -> None:
    assert torch.equal(fold(fold(key, a), b), fold(key, a, b))


@pytest.mark.slow
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
