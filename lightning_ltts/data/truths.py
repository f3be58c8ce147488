"""Reading the right answer of a problem: exactly and wholly, or not at all.

A truth decides what counts as right, so a form that could be read in two ways is refused. What a
model writes is read by other rules, those of its method: see `answers.py`.
"""

import re
import unicodedata
from fractions import Fraction
from typing import get_args

from lightning_ltts.data.answers import MAX_DIGITS, Which, extract_answer, narrow

_SPACE = "[ \u00a0\u2007\u2009\u202f]"
_SPACED = rf"[1-9]\d{{0,2}}(?:{_SPACE}\d{{3}})+"  # 1 450 000
_UNSPACED = "|".join(
    (
        r"[1-9]\d{0,2}(?:,\d{3})+",  # 1,450,000
        r"[1-9]\d?(?:,\d{2})*,\d{3}",  # 14,50,000, as in India
        r"[1-9]\d{0,2}(?:['\u2019]\d{3})+",  # 1'450'000
        r"\d+",
    )
)
_DECIMAL = re.compile(
    rf"(?P<whole>(?:{_SPACED}|{_UNSPACED})?)(?:\.(?P<decimals>\d*))?(?:[eE](?P<exponent>[-+]?\d+))?",
    re.ASCII,
)
# as in much of Europe; "1.000" alone is a decimal, and "1 000,500" could be either
_COMMA_DECIMAL = re.compile(
    rf"(?P<whole>[1-9]\d{{0,2}}(?:\.\d{{3}})+),(?P<decimals>\d+)"
    rf"|(?P<spaced>{_SPACED}),(?P<spaced_decimals>\d{{1,2}}|\d{{4,}})"
    rf"|(?P<thousands>[1-9]\d{{0,2}}(?:\.\d{{3}}){{2,}})",
    re.ASCII,
)
_FRACTION = re.compile(rf"({_UNSPACED}){_SPACE}?/{_SPACE}?({_UNSPACED})", re.ASCII)
_MIXED = re.compile(
    rf"({_SPACED}|{_UNSPACED}){_SPACE}+(\d+){_SPACE}?/{_SPACE}?({_UNSPACED})", re.ASCII
)
_LATEX_FRACTION = re.compile(r"\\[dt]?frac\s*(?:\{(\d+)\}\s*\{(\d+)\}|(\d)\s*(\d))", re.ASCII)
_LATEX_SIGNS = {"{,}": ",", "\\!": "", "\\,": " ", "\\;": " ", "\\:": " ", "\\ ": " "}
_LATEX_SIGNS |= {"\\$": "$", "\\%": "%"}
_LATEX_SIGN = re.compile("|".join(map(re.escape, _LATEX_SIGNS)))
_TOO_MANY = f"it has more than {MAX_DIGITS} digits"
_CURRENCIES = "$\u20ac\u00a3\u00a5\u20b9"
_SIGNS = "+-\u2212"
# one half and its like as "1/2", apart from the digits beside them; other slashes, spaces, a wide yen
_SIGNS_WRITTEN_OUT = {
    code: f" {unicodedata.normalize('NFKC', chr(code))} ".replace("\u2044", "/")
    for code in (*range(0x00BC, 0x00BF), *range(0x2150, 0x215F), 0x2189)
} | {0x2044: "/", 0x2215: "/", 0x3000: " ", 0xFFE5: "\u00a5"}


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
    body, negative = _without_sign(_without_wrapping(text))
    value = _unsigned(body)
    if value is None:
        raise ValueError("it is not one number and nothing else")
    if max(value.numerator, value.denominator) >= 10**MAX_DIGITS:
        raise ValueError(_TOO_MANY)
    return -value if negative else value


def plain_number(value: Fraction) -> str:
    """A rational as a decimal where it has one of no more than `MAX_DIGITS`, else as a fraction.

    >>> plain_number(Fraction(-5, 4)), plain_number(Fraction(1, 3))
    ('-1.25', '1/3')
    """
    rest, places = value.denominator, 0
    for prime in (2, 5):
        power = 0
        while rest % prime == 0:
            rest, power = rest // prime, power + 1
        places = max(places, power)
    if rest != 1 or places > MAX_DIGITS:
        return str(value)
    digits = str(abs(value.numerator) * 10**places // value.denominator).zfill(places + 1)
    decimals = f".{digits[-places:]}" if places else ""
    return f"{'-' if value < 0 else ''}{digits[: len(digits) - places]}{decimals}"


def learnable_text(text: str, value: Fraction) -> str:
    """A truth as a model is to write it.

    That is the text as it stands, where the rule of every method reads it as this value, and the
    plain number otherwise: a model that has learned to write "1 1/2" would never be right.
    """
    rules = [rule for rule in get_args(Which) if rule not in ("text", "latex")]
    readings = {extract_answer(text, "", rule) for rule in rules}
    return text if readings == {value} else plain_number(value)


def _without_wrapping(text: str) -> str:
    """A text without what stands around its number, LaTeX written as plain text."""
    text = narrow(text).translate(_SIGNS_WRITTEN_OUT).strip()
    if text.endswith(".") and not text[:-1].rstrip().endswith("."):
        text = text[:-1].rstrip()  # the end of a sentence
    while (inner := _inside(text)) is not None:
        text = inner.strip()
    text = _LATEX_FRACTION.sub(lambda m: f" {m[1] or m[3]}/{m[2] or m[4]} ", text)
    return _LATEX_SIGN.sub(lambda m: _LATEX_SIGNS[m[0]], text).strip()


def _inside(text: str) -> str | None:
    r"""What `\boxed{...}`, `\text{...}`, `\(...\)` or `$...$` hold; None where none is around."""
    for start, end in (("\\boxed{", "}"), ("\\text{", "}"), ("\\(", "\\)"), ("$", "$")):
        wrapped = text.startswith(start) and text.endswith(end)
        if wrapped and len(text) >= len(start) + len(end):
            return text[len(start) : -len(end)]
    return None


def _without_sign(text: str) -> tuple[str, bool]:
    """The digits of a number with what divides them, and whether a minus sign stood before.

    One sign and one currency may stand before, in any order; a percent sign or currency after.
    """
    found = ""
    while text[:1] and text[0] in _SIGNS + _CURRENCIES:
        found, text = found + text[0], text[1:].lstrip()
    if text[-1:] and text[-1] in "%" + _CURRENCIES:
        found, text = found + text[-1], text[:-1].rstrip()
    signs = [c for c in found if c in _SIGNS]
    if len(signs) > 1 or len(found) - len(signs) > 1:
        return "", False
    return text, bool(signs) and signs[0] != "+"


def _unsigned(text: str) -> Fraction | None:
    """A number without sign; None where the text is anything else."""
    if match := _FRACTION.fullmatch(text):
        above, below = map(_whole, match.groups())
        return Fraction(above, below) if below else None
    if match := _MIXED.fullmatch(text):
        whole, above, below = map(_whole, match.groups())
        ambiguous = len(match[2]) == 3  # "1 100/200" can also be 1100 over 200
        return whole + Fraction(above, below) if 0 < above < below and not ambiguous else None
    if match := _COMMA_DECIMAL.fullmatch(text):
        parts = match.groupdict(default="")
        whole_part = parts["whole"] + parts["spaced"] + parts["thousands"]
        return _decimal(whole_part, parts["decimals"] + parts["spaced_decimals"], "")
    match = _DECIMAL.fullmatch(text)
    if match is None or not (match["whole"] or match["decimals"]):
        return None
    return _decimal(match["whole"], match["decimals"] or "", match["exponent"] or "")


def _decimal(whole: str, decimals: str, exponent: str) -> Fraction:
    """The value of a whole part, decimals and a power of ten, as digits."""
    power = int(exponent or 0) if len(exponent) <= 6 else MAX_DIGITS
    if len(whole) + len(decimals) + abs(power) > MAX_DIGITS:
        raise ValueError(_TOO_MANY)
    return Fraction(f"{_whole(whole or '0')}.{decimals or 0}") * Fraction(10) ** power


def _whole(text: str) -> int:
    digits = re.sub(r"\D", "", text)
    if len(digits) > MAX_DIGITS:
        raise ValueError(_TOO_MANY)
    return int(digits)
