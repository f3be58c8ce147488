"""Problem files that must be refused, each in one sentence that names file, row and field.

`CASES` holds them by name. Tests of the reader and of the command line go through all of them.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PLACE = "row 1"


@dataclass(frozen=True)
class Malformed:
    """A file, and the words that the message about it must hold, besides the file's name."""

    content: bytes
    words: tuple[str, ...]
    answers: str = "number"


def _truth(text: str, *words: str) -> Malformed:
    """A row whose answer cannot be read as a number."""
    row = {"question": "q", "answer": text}
    return Malformed(json.dumps([row]).encode(), (PLACE, "'answer'", *words))


def _literal(text: str, *words: str) -> Malformed:
    """A row whose answer is this piece of JSON."""
    content = f'{{"question": "q", "answer": {text}}}\n'
    return Malformed(content.encode(), (PLACE, "'answer'", *words))


def _row(row: Any, *words: str, answers: str = "number") -> Malformed:
    """A sound row, and this one after it."""
    rows = [{"question": "sound", "answer": "1"}, row]
    return Malformed(json.dumps(rows).encode(), ("row 2", *words), answers)


def _file(content: str | bytes, *words: str) -> Malformed:
    """A file that is no list of rows."""
    return Malformed(content if isinstance(content, bytes) else content.encode(), words)


_SOUND = '{"question": "q", "answer": "1"}'

TRUTHS = {
    "words": _truth("many"),
    "number in words": _truth("five"),
    "unit": _truth("12 pens"),
    "scale": _truth("2 million"),
    "about": _truth("about 3"),
    "sentence": _truth("The answer is 12"),
    "clock": _truth("3:30"),
    "clock with seconds": _truth("03:30:00"),
    "date": _truth("2024-05-06"),
    "date with slashes": _truth("1/2/2024"),
    "range": _truth("10-20"),
    "range with spaces": _truth("10 - 20"),
    "range with a dash": _truth("10\u201320"),
    "two numbers": _truth("5 6"),
    "list": _truth("1, 2"),
    "list with semicolon": _truth("1;2"),
    "decimal comma": _truth("1,5"),
    "decimal comma after zero": _truth("0,500"),
    "groups of two": _truth("12,34"),
    "group of four": _truth("1,0000"),
    "spaced group of two": _truth("1 00"),
    "spaced decimal comma": _truth("1 000,500"),
    "two points": _truth("1.2.3"),
    "ellipsis": _truth("0.333..."),
    "equation": _truth("x = 5"),
    "sum": _truth("2 + 3"),
    "two signs": _truth("--5"),
    "either sign": _truth("\u00b15"),
    "sign after": _truth("5-"),
    "two currencies": _truth("$$5"),
    "currency within": _truth("5$5"),
    "brackets": _truth("(5)"),
    "by zero": _truth("1/0"),
    "mixed by zero": _truth("1 1/0"),
    "improper mixed": _truth("1 3/2"),
    "mixed or thousands": _truth("1 100/200"),
    "fraction of fractions": _truth("1/2/3"),
    "exponent alone": _truth("e5"),
    "exponent missing": _truth("1e"),
    "broken exponent": _truth("1e5.5"),
    "huge exponent": _truth("1e99999", "more than 1000 digits"),
    "tiny exponent": _truth("1e-99999", "more than 1000 digits"),
    "not a number": _truth("nan"),
    "infinite": _truth("inf"),
    "hexadecimal": _truth("0x10"),
    "underscore": _truth("1_000"),
    "square": _truth("12\u00b2"),
    "digits of another script": _truth("\u0663"),
    "root": _truth("\\sqrt{2}"),
    "letters in a fraction": _truth("\\frac{a}{b}"),
    "fraction by zero": _truth("\\frac{1}{0}"),
    "fraction and digit": _truth("\\frac{1}{2}5"),
    "half and digit": _truth("\u00bd5"),
    "two numbers in LaTeX": _truth("5\\,3"),
    "empty box": _truth("\\boxed{}"),
    "two boxes": _truth("\\boxed{1}\\boxed{2}"),
    "1001 digits": _truth("9" * 1001, "more than 1000 digits"),
    "100,000 digits": _truth("9" * 10**5, "100000 characters"),
    "ten million digits": _truth("9" * 10**7, "10000000 characters"),
    "last line of GSM8K": _truth("so 7 of them\n#### 3 or 4", "'3 or 4'"),
    "last line missing": _truth("so 7 of them\n####", "''"),
}
LITERALS = {
    "5,000 digits": _literal("9" * 5000, "more than 1000 digits"),
    "exponent beyond all": _literal("1e99999999999999999999", "more than 1000 digits"),
    "exponent of 99,999": _literal("1e99999", "more than 1000 digits"),
    "NaN": _literal("NaN", "nan"),
    "Infinity": _literal("-Infinity", "-inf"),
    "true": _literal("true", "True"),
    "null": _literal("null", "None"),
    "answer is a list": _literal('["1"]', "['1']"),
    "answer is an object": _literal('{"value": 1}', "value"),
    "answer is blank": _literal('" \\t"', "not empty"),
    "answer is half a character": _literal('"1\\udfff"', "half of a character (U+DFFF)"),
}
FIELDS = {
    "no question": _row({"answer": "1"}, "no field 'question'"),
    "no answer": _row({"question": "q"}, "no field 'answer'"),
    "other case": _row({"Question": "q", "answer": "1"}, "no field 'question'"),
    "question is blank": _row({"question": " \n", "answer": "1"}, "'question'", "not empty"),
    "question is a number": _row({"question": 5, "answer": "1"}, "'question' is 5"),
    "question is a list": _row({"question": ["q"], "answer": "1"}, "'question' is ['q']"),
    "question is an object": _row({"question": {"en": "q"}, "answer": "1"}, "'question'"),
    "question is null": _row({"question": None, "answer": "1"}, "'question' is None"),
    "question is half a character": _row(
        {"question": "pens \ud83d ?", "answer": "1"}, "'question'", "half of a character (U+D83D)"
    ),
    "steps are a text": _row({"question": "q", "steps": "1+1", "answer": "2"}, "'steps'", "'1+1'"),
    "steps are numbers": _row({"question": "q", "steps": [1, 2], "answer": "2"}, "'steps'"),
    "steps are lists": _row({"question": "q", "steps": [["1+1"]], "answer": "2"}, "'steps'"),
    "steps are an object": _row({"question": "q", "steps": {"1": "a"}, "answer": "2"}, "'steps'"),
    "steps are zero": _row({"question": "q", "steps": 0, "answer": "2"}, "'steps'"),
    "steps are false": _row({"question": "q", "steps": False, "answer": "2"}, "'steps'"),
    "a step is null": _row({"question": "q", "steps": ["1+1=2", None], "answer": "2"}, "'steps'"),
    "a step is half a character": _row(
        {"question": "q", "steps": ["\ud83d"], "answer": "1"}, "'steps'", "half of a character"
    ),
    "question of two million characters": _row(
        {"question": "q" * 2 * 10**6, "answer": "1"}, "'question'", "2000000 characters"
    ),
    "id is a list": _row({"id": [1], "question": "q", "answer": "1"}, "'id' is [1]"),
    "id is true": _row({"id": True, "question": "q", "answer": "1"}, "'id' is True"),
    "id is a fraction": _row({"id": 1.5, "question": "q", "answer": "1"}, "'id' is 1.5"),
    "id is blank": _row({"id": " ", "question": "q", "answer": "1"}, "'id'", "not empty"),
    "id is half a character": _row({"id": "\udc00", "question": "q", "answer": "1"}, "'id'"),
    "row is a number": _row(3, "is 3"),
    "row is a text": _row("q", "is 'q'"),
    "row is a list": _row(["q", "1"], "is ['q', '1']"),
    "row is null": _row(None, "is None"),
    "text answer of signs": _row(
        {"question": "q", "answer": "..."}, "'answer'", "no word", answers="text"
    ),
    "empty box": _row(
        {"question": "q", "answer": r"\boxed{ }"}, "'answer'", "box is empty", answers="latex"
    ),
    "text answer is a list": _row(
        {"question": "q", "answer": ["a"]}, "'answer' is ['a']", answers="text"
    ),
}
FILES = {
    "empty": _file("", "is empty"),
    "blank": _file(" \n\n\t", "is empty"),
    "empty list": _file("[]", "is empty"),
    "byte order mark alone": _file(b"\xef\xbb\xbf", "is empty"),
    "cut list": _file(f"[{_SOUND},", "not valid JSON"),
    "cut row": _file(f'{_SOUND}\n{{"ques', "line 2", "not valid JSON"),
    "single quotes": _file("{'question': 'q', 'answer': '1'}", "line 1", "not valid JSON"),
    "comma at the end": _file(f"[{_SOUND},]", "not valid JSON"),
    "no comma": _file(f"[{_SOUND} {_SOUND}]", "not valid JSON"),
    "text after the list": _file(f"[{_SOUND}]\nand more", "not valid JSON", "line 2"),
    "two rows in a line": _file(f"{_SOUND} {_SOUND}", "line 1", "not valid JSON"),
    "comment": _file(f"// problems\n{_SOUND}", "line 1", "not valid JSON"),
    "row over several lines": _file(json.dumps(json.loads(_SOUND), indent=1), "line 1"),
    "line break in a text": _file('[{"question": "a\nb", "answer": "1"}]', "not valid JSON"),
    "broken escape": _file('{"question": "\\x41", "answer": "1"}', "line 1", "not valid JSON"),
    "CSV": _file("question,answer\nq,1\n", "line 1", "not valid JSON"),
    "a number": _file("12", PLACE, "is 12"),
    "field twice": _file('{"question": "q", "answer": "1", "answer": "2"}', PLACE, "'answer'"),
    "deep list": _file("[" * 100_000, "nested too deeply"),
    "deep row": _file('{"question": ' * 100_000, "line 1", "nested too deeply"),
    "Latin-1": _file(f"{_SOUND}\n".encode() + b'{"question": "caf\xe9"}', "line 2", "UTF-8"),
    "UTF-16": _file(_SOUND.encode("utf-16"), "line 1", "UTF-8"),
    "compressed": _file(b"\x1f\x8b\x08\x00\xff\xfe", "UTF-8"),
    "same id": _file(
        '{"id": 1, "question": "q", "answer": "1"}\n{"id": 1, "question": "r", "answer": "1"}',
        "row 2",
        "id '1'",
    ),
}
CASES: Mapping[str, Malformed] = {
    f"{kind}: {name}": case
    for kind, cases in (
        ("truth", TRUTHS),
        ("JSON", LITERALS),
        ("field", FIELDS),
        ("file", FILES),
    )
    for name, case in cases.items()
}
