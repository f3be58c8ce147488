"""The files that a prediction run streams its rows to, and how they become one."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lightning_ltts.analysis.prediction_files import MANIFEST, PREDICTIONS
from lightning_ltts.errors import StoreError
from lightning_ltts.files import check_same_settings, read_json, write_json, write_text

_PART = re.compile(r"predictions\.rank\d+\.jsonl")
_ADVICE = "give another folder, or delete this one to predict anew"


def rank_file(folder: Path, rank: int) -> Path:
    """The file that one process appends its rows to."""
    return folder / f"predictions.rank{rank}.jsonl"


def row_files(folder: Path) -> list[Path]:
    """The files with rows of a run, merged or not; what else a user keeps there is not touched."""
    parts = [path for path in folder.glob("predictions.rank*.jsonl") if _PART.fullmatch(path.name)]
    return [path for path in (folder / PREDICTIONS, *sorted(parts)) if path.is_file()]


def open_folder(
    folder: Path, settings: dict[str, Any], older: dict[str, Any] | None = None
) -> list[str]:
    """Makes a folder ready for a run, and finds out which problems were predicted before.

    Args:
        folder: of the run; for one process, which holds its lock.
        settings: all that determines the predictions.
        older: forms in which an earlier version wrote some of them.

    Returns:
        The ids of the problems whose rows are there.

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
    return list(_rows_of(row_files(folder)))


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
    rows = _rows_of(files)
    write_text(folder / PREDICTIONS, "".join(rows[name] + "\n" for name in order if name in rows))
    for path in files:
        if path.name != PREDICTIONS:
            path.unlink()


def _rows_of(files: list[Path]) -> dict[str, str]:
    """Id -> line. The same line may be in two files: a kill while they were merged leaves it so.

    Raises:
        StoreError: a line is no row, or two rows of one problem differ.
    """
    rows: dict[str, str] = {}
    for path in files:
        for number, content in enumerate(path.read_bytes().splitlines(), 1):
            try:
                line = content.decode()
                name = json.loads(line)["id"]
            except (ValueError, TypeError, KeyError, RecursionError):
                name = None
            if not isinstance(name, str):
                raise StoreError(f"{path}, line {number} is damaged; {_ADVICE}")
            if rows.setdefault(name, line) != line:
                raise StoreError(
                    f"{path}, line {number} is another row of problem '{name}'; {_ADVICE}"
                )
    return rows


def _drop_torn_line(path: Path) -> None:
    """Removes a last line that a killed run did not finish."""
    text = path.read_bytes()
    whole = text[: text.rfind(b"\n") + 1]
    if whole != text:
        with path.open("r+b") as file:
            file.truncate(len(whole))
