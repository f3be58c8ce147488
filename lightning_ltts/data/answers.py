"""Reading and comparing answers.

Numbers are compared as exact rationals. A text without an answer is `None`, which is never right and never votes;
zero is an answer like any other.
"""

import re
from fractions import Fraction
from typing import Literal

_INTEGER = r"(?:\d{1,3}(?:,\d{3})+|\d+)"
_DECIMAL = rf"(?:{_INTEGER}(?:\.\d+)?|(?<![\d.])\.\d+)"
_NUMBER = re.compile(rf"[-\u2212]?\s?(?:{_INTEGER}\s?/\s?\d+(?!\d|\.\d)|{_DECIMAL})", re.ASCII)
_ONLY = re.compile(rf"[-+\u2212]?(?:{_INTEGER}/\d+|{_DECIMAL}\.?)", re.ASCII)

# digits and signs as Chinese and Japanese text has them
_FULL_WIDTH = {0xFF10 + i: str(i) for i in range(10)} | {
    0xFF0C: ",",
    0xFF0E: ".",
    0xFF0D: "-",
    0xFF0B: "+",
    0xFF0F: "/",
}

Which = Literal["first", "last", "only", "text"]
Answer = Fraction | str  # a number, or a normalised text


def plain_digits(text: str) -> str:
    """The text with full-width digits and signs as plain ones."""
    return text.translate(_FULL_WIDTH)


def parse_number(text: str) -> Fraction | None:
    """The first number in `text` as a rational: signs, thousands commas, decimals and simple fractions.

    >>> parse_number("$1,250.50"), parse_number("-3/4"), parse_number("none")
    (Fraction(2501, 2), Fraction(-3, 4), None)
    """
    match = _NUMBER.search(plain_digits(text))
    return None if match is None else _value(match)


def normalize_text(text: str) -> str:
    """A text answer as it is compared: lower case, single spaces, no punctuation at its ends.

    >>> normalize_text("  Tom is a  Lempus. ")
    'tom is a lempus'
    """
    return " ".join(text.lower().split()).strip(" .,;:!?#\"'")


def extract_answer(text: str, marker: str = "###", which: Which = "first") -> Answer | None:
    """The answer in a generated text, by the rule of its method; `None` where there is none.

    Args:
        text: what the model wrote after its thoughts.
        marker: the answer follows its last occurrence; empty for the whole text.
        which: the `first` or the `last` number there (`None` without a marker), or `only`: what follows the marker, or the
            whole text where there is no marker, must be a number and nothing else (the rule of the published COCONUT and
            CoLaR evaluations); or `text`: all that follows the marker, normalised, for answers that are no numbers.
    """
    if which != "text":
        text = plain_digits(text)
    _, found, tail = text.rpartition(marker) if marker else ("", True, text)
    if which == "text":
        return (normalize_text(tail) or None) if found else None
    if which == "only":
        match = _ONLY.fullmatch(tail.strip().strip("#").strip())
        return None if match is None else _value(match)
    if not found:
        return None
    matches = list(_NUMBER.finditer(tail.lstrip("#") if marker else tail))
    return _value(matches[0 if which == "first" else -1]) if matches else None


def _value(match: re.Match[str]) -> Fraction | None:
    digits = re.sub(r"[,\s]", "", match.group()).replace("\u2212", "-").removesuffix(".")
    # "5-3" is a difference, so a sign directly after a digit is not part of the number
    if digits[0] == "-" and match.string[: match.start()].rstrip()[-1:].isdigit():
        digits = digits[1:]
    try:
        return Fraction(digits)
    except (ZeroDivisionError, ValueError):  # ValueError: thousands of digits
        return None


def format_answer(answer: Answer | None) -> str | None:
    """An answer as it is written in prediction files: `"12"`, `"-7/2"`, `"tom is a lempus"`, or `None`."""
    return None if answer is None else str(answer)
