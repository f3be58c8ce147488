from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_ltts.data.answers import extract_answer, format_answer, parse_number, parse_stored


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12", Fraction(12)),
        (" 0", Fraction(0)),
        ("-7", Fraction(-7)),
        ("\u22127", Fraction(-7)),
        ("$1,250.50 in all", Fraction("1250.5")),
        ("-.5", Fraction(-1, 2)),
        ("3/4", Fraction(3, 4)),
        ("5-3", Fraction(5)),
        ("12.", Fraction(12)),
        ("1/0", None),
        ("none", None),
        ("", None),
        ("nan", None),
        ("inf", None),
    ],
)
def test_parse_number(text: str, expected: Fraction | None) -> None:
    assert parse_number(text) == expected


def test_decimals_are_exact() -> None:
    assert parse_number("0.1") * 3 == parse_number("0.3")


def test_difference_is_not_a_negative_number() -> None:
    assert parse_number("3-5".partition("3")[2]) == Fraction(-5)
    assert parse_number("x 3-5".removeprefix("x ")) == Fraction(3)


@pytest.mark.slow
@given(st.fractions())
def test_written_answers_are_read_back(value: Fraction) -> None:
    assert parse_number(format_answer(value)) == value


@pytest.mark.parametrize("text", ["/5", "1.5/2", ".5/3", "-/5", "x /2 = 7", "1/2.5"])
def test_half_a_fraction_is_no_crash(text: str) -> None:
    """A model can write anything."""
    assert parse_number(text) is not None


@given(st.text("0123456789./,- #x"))
def test_any_text_can_be_read(text: str) -> None:
    extract_answer(f"### {text}")


@given(st.integers(-(10**12), 10**12))
def test_commas_do_not_matter(value: int) -> None:
    assert parse_number(f"{value:,}") == value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("7+5=12 ### 12", 12),
        ("### 3 ### 4", 4),
        ("#### 9", 9),
        ("12", None),
        ("### and", None),
        ("", None),
    ],
)
def test_extract_answer_needs_the_marker(text: str, expected: int | None) -> None:
    assert extract_answer(text) == expected


def test_without_a_marker_the_first_number_counts() -> None:
    assert extract_answer("it is 12 or 13", marker="") == 12


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\uff11\uff12", 12),
        ("\uff13\uff0c\uff10\uff10\uff10", 3000),
        ("\uff0d\uff15", -5),
        ("\uff0d5", -5),
        ("\uff11\uff0e\uff15", Fraction(3, 2)),
        ("\uff11\uff0f\uff12", Fraction(1, 2)),
        ("12\uff0c345", 12),  # a comma of the sentence
    ],
)
def test_full_width_digits_are_digits(text: str, expected: Fraction) -> None:
    assert parse_number(text) == expected
    assert extract_answer(f"so ### {text}", "###", "first") == expected


def test_full_width_digits_in_a_text_answer() -> None:
    assert extract_answer("### room \uff15", "###", "text") == "room 5"


def test_answers_of_too_many_digits_are_none() -> None:
    for text in ("9" * 1001, "9" * 10**6, "1/" + "9" * 1001, "0." + "9" * 1001):
        assert extract_answer(text, "", "first") is None
    assert extract_answer("9" * 1000, "", "only") == 10**1000 - 1


@given(st.fractions() | st.text(max_size=20) | st.none())
def test_stored_answers_are_read_back(answer: Fraction | str | None) -> None:
    stored = parse_stored(format_answer(answer))
    assert stored == answer or format_answer(stored) == answer


@pytest.mark.parametrize("text", ["1e10000000", "9" * 10**7, "1/0", "1_0", "0x10", "nan"])
def test_stored_texts_that_are_no_numbers_cost_nothing(text: str) -> None:
    assert parse_stored(text) == text
