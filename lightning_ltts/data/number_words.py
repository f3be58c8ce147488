"""Numbers that a question says without digits: "twice", "half", "a week", "%"."""

import re
from fractions import Fraction
from functools import lru_cache

_HALF, _THIRD, _QUARTER = Fraction(1, 2), Fraction(1, 3), Fraction(1, 4)
_NAMES = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen",
    "nineteen", "twenty",
]  # fmt: skip
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
# words (regular expressions) -> what a step can have for them
_MEANINGS: dict[str, tuple[int | Fraction, ...]] = {
    **{name: (number,) for number, name in enumerate(_NAMES)},
    **{name: (10 * number,) for number, name in enumerate(_TENS, start=2)},
    r"hundred|percent\w*|cents?|dollars?|century|centuries|met(?:er|re)s?": (100,),
    r"thousands?|kilo\w*|kg|km|lit(?:er|re)s?|grams?": (1000,),
    r"once|first|single": (1,),
    r"twice|doubl\w*|both|pairs?|couples?|second|halfway|weekends?|semi\w*": (2, _HALF),
    r"half|halves|halved": (2, _HALF),
    r"thrice|tripl\w*|thirds?|triangles?|yards?": (3, _THIRD, 2 * _THIRD),
    r"quarters?|quadrupl\w*|fourths?|squares?|rectang\w*": (4, 25, _QUARTER, 3 * _QUARTER),
    r"fifths?|nickels?|weekdays?": (5, Fraction(1, 5)),
    r"dimes?|decades?|tenths?": (10, Fraction(1, 10)),
    r"dozens?|foot|feet|inch(?:es)?|noon|midnight|[ap]\.?m\b": (12,),
    r"weeks?|weekly": (7, 52, 4, 5),
    r"days?|daily": (7, 24, 30, 31, 28, 365),
    r"months?|monthly": (12, 30, 31, 28, 4),
    r"years?|yearly|annual\w*|age|old": (12, 52, 365, 4),
    r"hours?|hourly|hrs?": (60, 24, 3600),
    r"minutes?|seconds?|mins?": (60, 3600),
    r"pounds?|ounces?|gallons?|quarts?|pints?|cups?": (16, 4, 2, 8),
}
_SIGNS = {"%": 100, "$": 100}
_PATTERNS = [
    (re.compile(rf"(?<!\w)(?:{words})(?!\w)", re.IGNORECASE), {Fraction(x) for x in meant})
    for words, meant in _MEANINGS.items()
]
_DIGITS = re.compile(r"(?<!\d)(?:\d[\d,]*(?:\.\d+)?|\.\d+)", re.ASCII)
_TOO_LONG = 20  # digits, for a number that a question is about


@lru_cache(maxsize=256)  # a problem is drawn many times
def in_words(question: str) -> frozenset[Fraction]:
    """The numbers that words and signs of a question can stand for, in its steps.

    >>> sorted(map(int, in_words("She reads twice as much in a dozen of books.") - {Fraction(1, 2)}))
    [2, 12]
    """
    found = {Fraction(meant) for sign, meant in _SIGNS.items() if sign in question}
    for pattern, meant in _PATTERNS:
        if pattern.search(question):
            found |= meant
    return frozenset(found)


@lru_cache(maxsize=256)
def in_digits(question: str) -> frozenset[Fraction]:
    """The numbers that a question writes in digits, with commas or decimals as they are.

    >>> sorted(map(float, in_digits("1,200 men, 1.5 miles and .25 of 3/4")))
    [0.25, 1.5, 3.0, 4.0, 1200.0]
    """
    texts = [text.replace(",", "") for text in _DIGITS.findall(question)]
    return frozenset(Fraction(text) for text in texts if len(text) <= _TOO_LONG)
