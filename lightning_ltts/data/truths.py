"""Reading the right answer of a problem: exactly and wholly, or not at all.

A truth decides what counts as right, so a form that could be read in two ways is refused. What a
model writes is read by other rules, those of its method: see `answers.py`.
"""

import re
import unicodedata
from fractions import Fraction

from lightning_ltts.data.answers import plain_digits

MAX_DIGITS = 1000  # of a number, its exponent written out

_SPACE = "[ \u00a0\u2009\u202f]"
_WHOLE = "|".join(
    (
        r"\d{1,3}(?:,\d{3})+",  # 1,450,000
        r"\d{1,2}(?:,\d{2})*,\d{3}",  # 14,50,000, as in India
        rf"\d{{1,3}}(?:{_SPACE}\d{{3}})+",  # 1 450 000
        r"\d{1,3}(?:['\u2019]\d{3})+",  # 1'450'000
        r"\d+",
    )
)
_DECIMAL = re.compile(rf"((?:{_WHOLE})?)(?:\.(\d*))?(?:[eE]([-+]?\d+))?", re.ASCII)
_POINTS_AS_THOUSANDS = re.compile(r"(\d{1,3}(?:\.\d{3})+),(\d+)|(\d{1,3}(?:\.\d{3}){2,})", re.ASCII)
_FRACTION = re.compile(rf"(?:({_WHOLE}){_SPACE})?({_WHOLE}){_SPACE}?/{_SPACE}?({_WHOLE})", re.ASCII)
_LATEX_FRACTION = re.compile(r"\\[dt]?frac\s*(?:\{(\d+)\}\s*\{(\d+)\}|(\d)\s*(\d))", re.ASCII)
_LATEX_SPACING = re.compile(r"\\[,!;: ]|\{,\}(?=\d)")
_CURRENCY = "$\u20ac\u00a3\u00a5\u20b9"


def parse_truth(text: str) -> Fraction:
    r"""Reads a text that writes one number and nothing else, as an exact rational.

    >>> parse_truth("$1,250.50"), parse_truth("1 1/2"), parse_truth("8.5e-02")
    (Fraction(2501, 2), Fraction(3, 2), Fraction(17, 200))
    >>> parse_truth(r"\boxed{\frac{1}{2}}"), parse_truth("-$5"), parse_truth("1.000,50")
    (Fraction(1, 2), Fraction(-5, 1), Fraction(2001, 2))

    Signs, currencies, thousands (by comma, space or apostrophe), decimals, powers of ten, fractions,
    mixed numbers, a percent sign (50% is 50, as in GSM8K) and LaTeX around a number are read.

    Raises:
        ValueError: it is not one number, as `3:30`, `10-20`, `12 pens`, or could be two, as `1,5`.
    """
    if len(text) > 10 * MAX_DIGITS:
        raise ValueError(f"it has {len(text)} characters")
    body, negative = _without_wrapping(text)
    value = _unsigned(body)
    if value is None:
        raise ValueError("it is not one number and nothing else")
    return -value if negative else value


def _without_wrapping(text: str) -> tuple[str, bool]:
    """The digits of a number with what divides them, and whether a minus sign stood before."""
    text = _fractions_apart(plain_digits(text)).strip().removesuffix(".").strip()
    while (inner := _inside(text)) is not None:
        text = inner.strip()
    text = _LATEX_FRACTION.sub(lambda m: f" {m[1] or m[3]}/{m[2] or m[4]}", text)
    text = (
        _LATEX_SPACING.sub(lambda m: "," if m[0] == "{,}" else "", text).replace("\\$", "$").strip()
    )
    text = text.removesuffix("%").removesuffix("\\").strip()
    # one sign and one currency, in any order
    negative, signs, currencies = False, 0, 0
    while text[:1] and (text[0] in "+-\u2212" or text[0] in _CURRENCY):
        signs += text[0] in "+-\u2212"
        currencies += text[0] in _CURRENCY
        negative |= text[0] in "-\u2212"
        text = text[1:].lstrip()
    return ("" if max(signs, currencies) > 1 else text), negative


def _inside(text: str) -> str | None:
    r"""What stands in `\boxed{...}`, `\text{...}`, `\(...\)` or `$...$`; None where nothing is wrapped."""
    for start, end in (("\\boxed{", "}"), ("\\text{", "}"), ("\\(", "\\)"), ("$", "$")):
        if text.startswith(start) and text.endswith(end) and len(text) >= len(start) + len(end):
            return text[len(start) : -len(end)]
    return None


def _fractions_apart(text: str) -> str:
    """Signs such as one half written out as a fraction, apart from a whole number before them."""
    parts = [
        f" {unicodedata.normalize('NFKC', c)}".replace("\u2044", "/")
        if "VULGAR FRACTION" in unicodedata.name(c, "")
        else c
        for c in text
    ]
    return "".join(parts)


def _unsigned(text: str) -> Fraction | None:
    """A number without sign; None where the text is anything else."""
    if match := _FRACTION.fullmatch(text):
        whole, above, below = (0 if part is None else _whole(part) for part in match.groups())
        return None if below == 0 else whole + Fraction(above, below)
    if match := _POINTS_AS_THOUSANDS.fullmatch(text):
        thousands, decimals = (match[1] or match[3]).replace(".", ""), match[2] or "0"
        return Fraction(f"{_bounded(thousands)}.{_bounded(decimals)}")
    match = _DECIMAL.fullmatch(text)
    if not match or not (match[1] or match[2]):
        return None
    exponent = int(match[3][:6]) if match[3] else 0
    digits = len(match[1]) + len(match[2] or "") + abs(exponent)
    if digits > MAX_DIGITS or len(match[3] or "") > 6:
        raise ValueError(f"it has more than {MAX_DIGITS} digits")
    mantissa = Fraction(f"{_whole(match[1]) if match[1] else 0}.{match[2] or 0}")
    return mantissa * Fraction(10) ** exponent


def _whole(text: str) -> int:
    return int(_bounded(re.sub(r"\D", "", text)))


def _bounded(digits: str) -> str:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"it has more than {MAX_DIGITS} digits")
    return digits
