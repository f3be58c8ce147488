"""Reading and comparing answers.

Numbers are compared as exact rationals. A text without an answer is `None`, which is never right and never votes;
zero is an answer like any other.
"""

import re
from fractions import Fraction

_INTEGER = r"(?:\d{1,3}(?:,\d{3})+|\d+)"
_NUMBER = re.compile(rf"[-\u2212]?\s?(?:{_INTEGER}\s?/\s?\d+(?!\d|\.\d)|{_INTEGER}(?:\.\d+)?|\.\d+)", re.ASCII)


def parse_number(text: str) -> Fraction | None:
    """The first number in `text` as a rational: signs, thousands commas, decimals and simple fractions.

    >>> parse_number("$1,250.50"), parse_number("-3/4"), parse_number("none")
    (Fraction(2501, 2), Fraction(-3, 4), None)
    """
    match = _NUMBER.search(text)
    if match is not None:
        digits = re.sub(r"[,\s]", "", match.group()).replace("\u2212", "-")
        # "5-3" is a difference, so a sign directly after a digit is not part of the number
        if digits[0] == "-" and text[: match.start()].rstrip()[-1:].isdigit():
            digits = digits[1:]
        try:
            return Fraction(digits)
        except ZeroDivisionError:
            return None
    return None


def extract_answer(text: str, marker: str = "###") -> Fraction | None:
    """The number after the last answer `marker` of a generated text; `None` where there is no marker or no number.

    With an empty marker, the first number of the whole text.
    """
    if not marker:
        return parse_number(text)
    _, found, tail = text.rpartition(marker)
    return parse_number(tail.lstrip("#")) if found else None


def format_answer(answer: Fraction | None) -> str | None:
    """A rational as it is written in prediction files: `"12"`, `"-7/2"`, or `None`."""
    return None if answer is None else str(answer)
