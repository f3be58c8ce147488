"""Reading and comparing the answers that models write.

Numbers are compared as exact rationals. A text without an answer is `None`, which is never right
and never votes; zero is an answer like any other.
"""

import re
from fractions import Fraction
from typing import Literal

MAX_DIGITS = 1000  # of an answer; a number of more digits is none

_INTEGER = r"(?:\d{1,3}(?:,\d{3})+|\d+)"
_DECIMAL = rf"(?:{_INTEGER}(?:\.\d+)?|(?<![\d.])\.\d+)"
_NUMBER = re.compile(rf"[-\u2212]?\s?(?:{_INTEGER}\s?/\s?\d+(?!\d|\.\d)|{_DECIMAL})", re.ASCII)
_ONLY = re.compile(rf"[-+\u2212]?(?:{_INTEGER}/\d+|{_DECIMAL}\.?)", re.ASCII)
_STORED = re.compile(r"-?\d+(?:/\d+)?", re.ASCII)

# Chinese and Japanese text has digits as wide as its signs, U+FF10 to U+FF19, with "+,-./" likewise
# at U+FF0B to U+FF0F; a wide comma between narrow digits is one of the sentence, not of a number.
_WIDE_NUMBER = re.compile(
    "[\uff0b\uff0d](?=[0-9])|[\uff0b\uff0d]?[\uff10-\uff19](?:[\uff0c\uff0e\uff0f]?[\uff10-\uff19])*"
)
_NARROW = {wide: wide - 0xFEE0 for wide in range(0xFF01, 0xFF5F)}

Which = Literal["first", "last", "only", "text", "latex"]
Answer = Fraction | str  # a number, or a normalised text, or LaTeX in its reduced form


def plain_digits(text: str) -> str:
    """The text with numbers in full-width digits written in plain ones.

    >>> plain_digits("\uff11\uff0c\uff10\uff10\uff10")
    '1,000'
    """
    return _WIDE_NUMBER.sub(lambda match: narrow(match.group()), text)


def narrow(text: str) -> str:
    """The text with full-width letters, digits and signs as plain ones."""
    return text.translate(_NARROW)


def parse_number(text: str) -> Fraction | None:
    """The first number in `text` as a rational.

    Signs, thousands commas, decimals and simple fractions are understood.

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
    return " ".join(plain_digits(text).lower().split()).strip(" .,;:!?#\"'")


def extract_answer(text: str, marker: str = "###", which: Which = "first") -> Answer | None:
    """The answer in a generated text, by the rule of its method; `None` where there is none.

    Args:
        text: the text that the model wrote after its thoughts.
        marker: the answer follows its last occurrence; empty for the whole text.
        which: the `first` or the `last` number there (`None` without a marker), or `only`: the text
            after the marker, or the whole text where there is no marker, must be a number and
            nothing else (the rule of the published COCONUT and CoLaR evaluations); or `text`: all
            that follows the marker, normalised, for answers that are no numbers; or `latex`: what
            is boxed last there, or else all of it, or in a text without a marker what `math-verify`
            finds; see `read_latex`.
    """
    _, found, tail = text.rpartition(marker) if marker else ("", True, text)
    if which == "latex":
        from lightning_ltts.data.latex_answers import read_latex  # which reads numbers as here

        return read_latex(tail, whole=bool(marker and found))
    if which == "text":
        return (normalize_text(tail) or None) if found else None
    tail = plain_digits(tail)
    if which == "only":
        match = _ONLY.fullmatch(tail.strip().strip("#").strip())
        return None if match is None else _value(match)
    if not found:
        return None
    matches = list(_NUMBER.finditer(tail.lstrip("#") if marker else tail))
    return _value(matches[0 if which == "first" else -1]) if matches else None


def _value(match: re.Match[str]) -> Fraction | None:
    if len(match.group()) > 2 * MAX_DIGITS:
        return None
    digits = re.sub(r"[,\s]", "", match.group()).replace("\u2212", "-").removesuffix(".")
    # "5-3" is a difference, so a sign directly after a digit is not part of the number
    if digits[0] == "-" and match.string[: match.start()].rstrip()[-1:].isdigit():
        digits = digits[1:]
    if len(digits) > MAX_DIGITS:
        return None
    try:
        return Fraction(digits)
    except ZeroDivisionError:
        return None


def format_answer(answer: object | None) -> str | None:
    """An answer or truth as prediction files hold it: `"12"`, `"-7/2"`, `"tom is a lempus"`."""
    return None if answer is None else str(answer)


def parse_stored(text: str | None) -> Answer | None:
    """The answer that `format_answer` wrote: a number where it is one, and otherwise the text.

    >>> parse_stored("-7/2"), parse_stored("tom is a lempus"), parse_stored("1e10000000")
    (Fraction(-7, 2), 'tom is a lempus', '1e10000000')
    """
    if text is None or len(text) > 4 * MAX_DIGITS or not _STORED.fullmatch(text):
        return text
    try:
        return Fraction(text)
    except ZeroDivisionError:
        return text
