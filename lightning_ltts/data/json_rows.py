"""Rows of JSON and JSON Lines files, whose numbers keep every digit."""

import codecs
import json
import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO

from lightning_ltts.errors import DataError, shorten

REPEATED = None  # key of a row's dictionary that names a key which the row has twice


class Number(str):
    """A number as its file writes it: neither rounded, nor bounded in its digits."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def read_json_rows(path: Path) -> list[tuple[str, Any]]:
    """The rows of a list, or of a file with one row a line, each with its place for messages.

    A row is what JSON has there, with `Number` for numbers. The place of a row is the file and the
    row's number in it, from 1; in JSON Lines that of its line.

    Raises:
        DataError: the file is missing, is not UTF-8 text or JSON, or holds nothing.
    """
    if is_lines(path):
        return [(where, row) for *_, where, row in line_rows(path)]
    rows = _parse(read_text(path), f"problem file {path}")
    if not rows:
        raise _empty(path)
    return [(_place(path, number), row) for number, row in enumerate(rows, start=1)]


def is_lines(path: Path) -> bool:
    """Whether a file has one row a line, and is no list.

    Raises:
        DataError: it cannot be read.
    """
    with _opened(path) as file:
        start = file.read(2**12).removeprefix(codecs.BOM_UTF8)
        while start.isspace():
            start = file.read(2**12)
    return not start.lstrip().startswith(b"[")


def line_rows(path: Path) -> Iterator[tuple[int, int, int, str, Any]]:
    """The rows of a file with one row a line: offset, bytes, number of the line, place, and row.

    Raises:
        DataError: the file is missing, or holds nothing; a line is not UTF-8 text or JSON.
    """
    offset, found = 0, False
    with _opened(path) as file:
        for number, line in enumerate(file, start=1):
            if line.removeprefix(codecs.BOM_UTF8 if number == 1 else b"").strip():
                found = True
                yield offset, len(line), number, *read_line(path, line, number)
            offset += len(line)
    if not found:
        raise _empty(path)


def read_line(path: Path, line: bytes, number: int) -> tuple[str, Any]:
    """Place and row of one line of a file.

    Raises:
        DataError: it is not UTF-8 text or JSON.
    """
    text = _decoded(path, line, number).rstrip("\n")
    return _place(path, number), _parse(text, f"problem file {path}, line {number}")


def _place(path: Path, number: int) -> str:
    return f"{path}, row {number}"


def _empty(path: Path) -> DataError:
    return DataError(f"problem file {path} is empty; it must hold at least one problem")


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """The file, with what can be wrong about it said in words."""
    try:
        if not path.is_file():
            problem = "is a folder, not a file" if path.is_dir() else "does not exist"
            raise DataError(
                f"problem file {path} {problem}; check the path (it is relative to the working "
                "directory)"
            )
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise DataError(
            f"problem file {shorten(str(path))} cannot be read ({error.strerror}); check its path and "
            "permissions"
        ) from None


def read_text(path: Path) -> str:
    """The text of a problem file, without a byte order mark.

    Raises:
        DataError: it is missing, cannot be read, or is not UTF-8.
    """
    with _opened(path) as file:
        return _decoded(path, file.read())


def _decoded(path: Path, content: bytes, line: int = 1) -> str:
    """Bytes that begin at a line, as text."""
    try:
        # a byte order mark is no error
        return content.decode("utf-8-sig" if line == 1 else "utf-8")
    except UnicodeDecodeError as error:
        line += error.object[: error.start].count(b"\n")
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
