import contextlib
import doctest
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_ltts.data import truths
from lightning_ltts.data.answers import extract_answer
from lightning_ltts.data.truths import MAX_DIGITS, learnable_text, parse_truth, plain_number

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
    "1 000,50": Fraction(2001, 2),
    "1\u2009000": Fraction(1000),
    "1 \u00bd": Fraction(3, 2),
    "1\u20442": Fraction(1, 2),
    "1 000 1/2": Fraction(2001, 2),
    "1,\\!000": Fraction(1000),
    "50\\%": Fraction(50),
    "5 \u20ac": Fraction(5),
    "\uffe5\uff15\uff0c\uff10\uff10\uff10": Fraction(5000),
    "$5.$": Fraction(5),
}


@pytest.mark.parametrize("text", list(READ), ids=ascii)
def test_read_exactly(text: str) -> None:
    assert parse_truth(text) == READ[text]


def test_what_is_refused_is_refused_exactly() -> None:
    """The forms themselves are in the table of malformed problem files."""
    for text in (
        "",
        " ",
        ".",
        "-",
        "$",
        "%",
        "5\\",
        "5..",
        "5. .",
        "0.000,5",
        "0.500.000",
        "1 000/3",
    ):
        with pytest.raises(ValueError, match="not one number"):
            parse_truth(text)
    for text in ("9" * 10**6, "1/" + "9" * (MAX_DIGITS + 1), "1e-1000", "1e0000001"):
        with pytest.raises(ValueError, match=r"characters|more than 1000 digits"):
            parse_truth(text)


@given(st.fractions(max_denominator=10**6))
def test_fractions_are_read_back(value: Fraction) -> None:
    assert parse_truth(str(value)) == value


@pytest.mark.slow
@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**12), max_value=10**12))
def test_decimals_are_read_back(value) -> None:
    assert parse_truth(str(value)) == parse_truth(f"{value:f}") == Fraction(value)


@given(st.text(max_size=12))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(ValueError):  # anything else would be a bug
        assert isinstance(parse_truth(text), Fraction)


@pytest.mark.slow
@given(
    st.fractions()
    | st.decimals(allow_nan=False, allow_infinity=False, min_value=-1e9, max_value=1e9)
)
def test_plain_numbers_are_read_back_by_every_rule(value: object) -> None:
    exact = Fraction(value)
    text = plain_number(exact)
    assert parse_truth(text) == exact
    assert {extract_answer(f"### {text}", "###", rule) for rule in ("first", "last", "only")} == {
        exact
    }
    assert learnable_text(text, exact) == text


@pytest.mark.parametrize("text", list(READ), ids=ascii)
def test_a_model_that_writes_the_truth_is_right(text: str) -> None:
    written = learnable_text(text, READ[text])
    assert {extract_answer(written, "", rule) for rule in ("first", "last", "only")} == {READ[text]}
    if extract_answer(text, "", "only") == READ[text]:
        assert written == text


def test_the_longest_truths_are_read_back() -> None:
    for text in (
        "1e999",
        "1e-999",
        "9" * 1000,
        "1/" + "7" * 1000,
        f"1/{5**1400}",
        f"3 1/{5**1400}",
    ):
        value = parse_truth(text)
        assert parse_truth(learnable_text(text, value)) == value


def test_examples_of_the_docstrings() -> None:
    assert doctest.testmod(truths).failed == 0
