"""Numbers that questions say without digits."""

from fractions import Fraction

import pytest

from lightning_ltts.data.number_words import in_digits, in_words


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("Seventeen customers", 17),
        ("TWICE as many", 2),
        ("half of it", Fraction(1, 2)),
        ("at 5% interest", 100),
        ("it costs $3", 100),
        ("in a week", 7),
        ("two dozens", 12),
        ("at 3 p.m. today", 12),
        ("a quarter of it", Fraction(1, 4)),
        ("ninety days", 90),
    ],
)
def test_words_and_signs(text: str, meant: Fraction) -> None:
    assert meant in in_words(text)


def test_parts_of_words_mean_nothing() -> None:
    """ "often" has no ten in it, and "Oneida" no one."""
    assert in_words("Oneida often weighed a stone") == set()


def test_digits() -> None:
    assert in_digits("From 1,250 to 1,300.5, then .5 and 7.") == {
        Fraction(1250),
        Fraction(2601, 2),
        Fraction(1, 2),
        Fraction(7),
    }
    assert in_digits("9" * 5000) == set()
