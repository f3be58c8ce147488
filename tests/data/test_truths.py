import contextlib
import doctest
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_ltts.data import truths
from lightning_ltts.data.answers import extract_answer
from lightning_ltts.data.truths import MAX_DIGITS, parse_truth

READ = {
    "12": Fraction(12),
    " -7 ": Fraction(-7),
    "\u22127": Fraction(-7),
    "+3": Fraction(3),
    "5.": Fraction(5),
    ".5": Fraction(1, 2),
    "0": Fraction(0),
    "007": Fraction(7),
    "2,125": Fraction(2125),
    "1,450,000.25": Fraction(5800001, 4),
    "1,00,000": Fraction(100000),
    "12,34,56,789": Fraction(123456789),
    "1 000": Fraction(1000),
    "1\u00a0000\u202f000": Fraction(1000000),
    "1'000": Fraction(1000),
    "1.000,50": Fraction(2001, 2),
    "1.000.000": Fraction(1000000),
    "1.000.000,5": Fraction(2000001, 2),
    "8.3099e-06": Fraction(83099, 10**10),
    "-2.4967000000000003e-05": Fraction(-24967000000000003, 10**21),
    "1E+16": Fraction(10**16),
    "1e400": Fraction(10**400),
    "-$5": Fraction(-5),
    "$-5": Fraction(-5),
    "$ 1,250": Fraction(1250),
    "\u20ac3.50": Fraction(7, 2),
    "50%": Fraction(50),
    "3/4": Fraction(3, 4),
    "-3 / 4": Fraction(-3, 4),
    "1 1/2": Fraction(3, 2),
    "-1 1/2": Fraction(-3, 2),
    "1\u00bd": Fraction(3, 2),
    "\u00be": Fraction(3, 4),
    "\\boxed{42}": Fraction(42),
    "\\boxed{\\frac{1}{2}}": Fraction(1, 2),
    "$\\dfrac{3}{4}$": Fraction(3, 4),
    "-\\frac{3}{4}": Fraction(-3, 4),
    "2\\frac{1}{2}": Fraction(5, 2),
    "\\frac12": Fraction(1, 2),
    "\\(10{,}000\\)": Fraction(10000),
    "10\\,000": Fraction(10000),
    "\\$18.90": Fraction(189, 10),
    "\uff11\uff12": Fraction(12),
    "1,000/2,000": Fraction(1, 2),
}
REFUSED = [
    "", " ", ".", "-", "$", "many", "12 pens", "about 3", "3:30", "10-20", "10 - 20", "1,5",
    "1,0000", "12,34", "1 00", "1 0000", "1.2.3", "1.000.00", "1/0", "1 1/0", "1/2/3", "--5",
    "-$-5", "$$5", "5$5", "1e", "1e5.5", "e5", "nan", "inf", "0x10", "1_000", "5-", "(5)", "5 6",
    "1;2", "3,", "\\frac{1}{0}", "\\frac{a}{b}", "\\boxed{}", "\\boxed{1, 2}", "2 million",
    "five", "1e99999", "1e-99999", "1.000.000,", "9" * (MAX_DIGITS + 1),
    "1/" + "9" * (MAX_DIGITS + 1), "9" * 10**6, "12\u00b2", "\u0663",
]  # fmt: skip


@pytest.mark.parametrize("text", list(READ), ids=ascii)
def test_read_exactly(text: str) -> None:
    assert parse_truth(text) == READ[text]


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: ascii(text[:20]))
def test_refused(text: str) -> None:
    with pytest.raises(ValueError, match="it "):
        parse_truth(text)


@given(st.fractions(max_denominator=10**6))
def test_fractions_are_read_back(value: Fraction) -> None:
    assert parse_truth(str(value)) == value


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**12), max_value=10**12))
def test_decimals_are_read_back(value) -> None:
    assert parse_truth(str(value)) == parse_truth(f"{value:f}") == Fraction(value)


@given(st.text(max_size=12))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(ValueError):  # anything else would be a bug
        assert isinstance(parse_truth(text), Fraction)


def test_full_width_digits_of_a_model() -> None:
    assert extract_answer("### \uff11\uff12") == 12
    assert extract_answer("so \uff13\uff0c\uff10\uff10\uff10", "", "last") == 3000


def test_examples_of_the_docstrings() -> None:
    assert doctest.testmod(truths).failed == 0
