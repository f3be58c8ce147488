"""The files that a prediction run streams its rows to, and how they become one."""

import hashlib
import json
import os
import re
from array import array
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from lightning_ltts.analysis.prediction_files import MANIFEST, PREDICTIONS
from lightning_ltts.data.problems import key_of
from lightning_ltts.errors import StoreError
from lightning_ltts.files import atomic, check_same_settings, read_at, read_json, write_json

_PART = re.compile(r"predictions\.rank\d+\.jsonl")
_BLOCK = 2**16  # bytes that are read at once to find the end of the last whole line
_ADVICE = "give another folder, or delete this one to predict anew"


def rank_file(folder: Path, rank: int) -> Path:
    """The file that one process appends its rows to."""
    return folder / f"predictions.rank{rank}.jsonl"


def row_files(folder: Path) -> list[Path]:
    """The files with rows of a run, merged or not; what else a user keeps there is not touched."""
    parts = [path for path in folder.glob("predictions.rank*.jsonl") if _PART.fullmatch(path.name)]
    return [path for path in (folder / PREDICTIONS, *sorted(parts)) if path.is_file()]


def open_folder(folder: Path, settings: dict[str, Any], older: dict[str, Any] | None = None) -> Any:
    """Makes a folder ready for a run, and finds out which problems were predicted before.

    Args:
        folder: of the run; for one process, which holds its lock.
        settings: all that determines the predictions.
        older: forms in which an earlier version wrote some of them.

    Returns:
        The problems whose rows are there: `key_of` their ids, ascending, as an array (n,).

    Raises:
        StoreError: the folder holds predictions made with other settings or by nobody knows whom,
            or what it holds is damaged.
    """
    if any(path.stat().st_size for path in row_files(folder)):
        check_manifest(folder, settings, older)
    else:
        write_json(folder / MANIFEST, settings)
    for path in row_files(folder):
        _drop_torn_line(path)
    return RowIndex(row_files(folder)).keys


def check_manifest(
    folder: Path, settings: dict[str, Any], older: dict[str, Any] | None = None
) -> None:
    """Compares a run's settings with those of the rows in its folder.

    Raises:
        StoreError: they differ, or the manifest is missing or damaged.
    """
    manifest = folder / MANIFEST
    if not manifest.exists():
        raise StoreError(f"{folder} holds predictions but no {MANIFEST}; {_ADVICE}")
    ours = json.loads(json.dumps(settings))
    check_same_settings(folder, read_json(manifest, _ADVICE), ours, older)


def merge(
    folder: Path,
    settings: dict[str, Any],
    order: Iterable[str],
    older: dict[str, Any] | None = None,
) -> None:
    """All rows into one file, in the order of the problems; the processes' files go.

    Args:
        folder: of the run.
        settings: of the run; the rows must still be of these.
        order: the ids of all problems.
        older: forms in which an earlier version wrote some of the settings.

    Raises:
        StoreError: something in the folder was changed meanwhile.
    """
    check_manifest(folder, settings, older)
    files = row_files(folder)
    rows = RowIndex(files)
    with atomic(folder / PREDICTIONS) as temporary, temporary.open("wb") as merged:
        for name in order:
            line = rows.line(name)
            if line is not None:
                merged.write(line + b"\n")
    for path in files:
        if path.name != PREDICTIONS:
            path.unlink()


class RowIndex:
    """Where the row of every problem is, in 40 bytes each.

    The same line may be in two files: a kill while they were merged leaves it so.

    Args:
        files: with rows of a run.

    Raises:
        StoreError: a line is no row, or two rows of one problem differ.
    """

    def __init__(self, files: list[Path]):
        self._files = files
        keys, digests, places = array("Q"), array("Q"), array("q")
        for number, path in enumerate(files):
            offset = 0
            with path.open("rb") as file:
                for count, line in enumerate(file, 1):
                    keys.append(key_of(_name_in(path, count, line)))
                    digests.append(_digest(line))
                    places.extend((number, offset, len(line.rstrip(b"\n")), count))
                    offset += len(line)
        order = np.argsort(np.array(keys, np.uint64), kind="stable")
        self._keys = np.array(keys, np.uint64)[order]
        self._places = np.array(places, np.int64).reshape(-1, 4)[order]
        self._refuse_others(np.array(digests, np.uint64)[order])

    @property
    def keys(self) -> Any:
        """`key_of` the ids of all problems, ascending, each once (n,)."""
        return np.unique(self._keys)

    def line(self, name: str) -> bytes | None:
        """The row of a problem, without the end of the line; None where it has none."""
        key = np.uint64(key_of(name))
        place = int(np.searchsorted(self._keys, key))
        if place == len(self._keys) or self._keys[place] != key:
            return None
        return self._read(place)

    def _read(self, place: int) -> bytes:
        number, offset, size, _ = self._places[place].tolist()
        return read_at(self._files[number], offset, size)

    def _refuse_others(self, digests: Any) -> None:
        again = self._keys[1:] == self._keys[:-1]
        wrong = np.flatnonzero(again & (digests[1:] != digests[:-1]))
        if len(wrong):
            place = int(wrong[0]) + 1
            number, _, _, count = self._places[place].tolist()
            name = json.loads(self._read(place))["id"]
            raise StoreError(
                f"{self._files[number]}, line {count} is another row of problem '{name}'; {_ADVICE}"
            )


def _name_in(path: Path, number: int, line: bytes) -> str:
    """The id of the problem in a line."""
    try:
        name = json.loads(line.decode())["id"]
    except (ValueError, TypeError, KeyError, RecursionError):
        name = None
    if not isinstance(name, str):
        raise StoreError(f"{path}, line {number} is damaged; {_ADVICE}")
    return name


def _digest(line: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(line.rstrip(b"\n"), digest_size=8).digest(), "little")


def _drop_torn_line(path: Path) -> None:
    """Removes a last line that a killed run did not finish."""
    with path.open("r+b") as file:
        end = whole = file.seek(0, os.SEEK_END)
        while whole:  # backwards, since the file may be large
            start = max(whole - _BLOCK, 0)
            file.seek(start)
            found = file.read(whole - start).rfind(b"\n")
            whole = start + found + 1 if found >= 0 else start
            if found >= 0:
                break
        if whole != end:
            file.truncate(whole)
