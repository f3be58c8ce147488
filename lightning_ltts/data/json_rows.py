"""Rows of JSON and JSON Lines files, whose numbers keep every digit."""

import json
import math
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

from lightning_ltts.errors import DataError, shorten

REPEATED = None  # key of a row's dictionary that names a key which the row has twice


class Number(str):
    """A number as its file writes it: neither rounded, nor bounded in its digits."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def read_rows(path: Path) -> list[tuple[str, Any]]:
    """The rows of a list, or of a file with one row a line, each with its place for messages.

    A row is what JSON has there, with `Number` for numbers. The place of a row is the file and the
    row's number in it, from 1; in JSON Lines that of its line.

    Raises:
        DataError: the file is missing, is not UTF-8 text or JSON, or holds nothing.
    """
    text = _read_text(path)
    if text.lstrip().startswith("["):
        rows = list(enumerate(_parse(text, f"problem file {path}"), start=1))
    else:
        rows = [
            (number, _parse(line, f"problem file {path}, line {number}"))
            for number, line in enumerate(text.split("\n"), start=1)
            if line.strip()
        ]
    if not rows:
        raise DataError(f"problem file {path} is empty; it must hold at least one problem")
    return [(f"{path}, row {number}", row) for number, row in rows]


def _read_text(path: Path) -> str:
    try:
        if not path.is_file():
            problem = "is a folder, not a file" if path.is_dir() else "does not exist"
            raise DataError(
                f"problem file {path} {problem}; check the path (it is relative to the working "
                "directory)"
            )
        content = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"problem file {shorten(str(path))} cannot be read ({error.strerror}); check its path and "
            "permissions"
        ) from None
    try:
        return content.decode("utf-8-sig")  # a byte order mark is no error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise DataError(
            f"problem file {path}, line {line} is not UTF-8 text ({error.reason}); save it as UTF-8"
        ) from None


def _parse(text: str, where: str) -> Any:
    try:
        return json.loads(
            text, parse_float=Number, parse_int=Number, object_pairs_hook=_remember_repeated
        )
    except json.JSONDecodeError as error:
        line = f" at line {error.lineno}" if "\n" in text.strip() else ""
        raise DataError(
            f"{where} is not valid JSON: {error.msg}{line}; a file holds a list of rows, or a row in "
            "each line"
        ) from None
    except RecursionError:
        raise DataError(
            f"{where} is nested too deeply to be read; a row is one object with question and answer"
        ) from None


def _remember_repeated(pairs: list[tuple[str, Any]]) -> dict[str | None, Any]:
    """A JSON object that says which of its keys it has twice, where JSON keeps the last silently."""
    row: dict[str | None, Any] = dict(pairs)
    if len(row) < len(pairs):
        row[REPEATED] = Counter(key for key, _ in pairs).most_common(1)[0][0]
    return row


def as_in_json(value: Any) -> Any:
    """A value of a data set as `read_rows` has it: numbers by their digits."""
    is_number = isinstance(value, int | float | Decimal) and not isinstance(value, bool)
    return Number(value) if is_number and math.isfinite(value) else value
