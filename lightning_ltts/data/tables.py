"""Rows of tables: CSV and Parquet files, folders that `datasets` saved, data sets of the Hub.

CSV is read as text, by Python's own reader: others guess types, and a number would lose digits.
"""

import csv
import io
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from lightning_ltts.data.json_rows import as_in_json, is_lines, read_json_rows, read_text
from lightning_ltts.data.ranges import Bound
from lightning_ltts.errors import DataError, reason_of, shorten

HUB = "hf://"
MAX_CELL = Bound(1_000_000)  # characters
_CSV, _PARQUET = (".csv", ".tsv"), ".parquet"
Row = tuple[str, Any]  # with its place for messages
Rows = list[Row]


class HubName(NamedTuple):
    """A part of a data set on the Hugging Face Hub."""

    path: str
    name: str | None
    split: str
    revision: str | None

    @classmethod
    def of(cls, text: str) -> "HubName":
        """The parts of `hf://owner/name[@revision][/configuration][:split]`.

        Raises:
            DataError: it is not written so.
        """
        found = re.fullmatch(
            rf"{HUB}([\w.-]+/[\w.-]+)(?:@([\w.-]+))?(?:/([\w.-]+))?(?::([\w+.:\[\]%-]+))?", text
        )
        if not found:
            raise DataError(
                f"{shorten(text)} names no data set of the Hub; write "
                f"{HUB}owner/name[@revision][/configuration][:split], for instance "
                f"{HUB}openai/gsm8k/main:test"
            )
        path, revision, name, split = found.groups()
        return cls(path, name, split or "train", revision)


def kind_of(path: str) -> str:
    """How the problems at a path are written, in words."""
    if path.startswith(HUB):
        return "a data set of the Hub"
    if Path(path).is_dir() or not Path(path).exists():  # a part of one
        return "a folder saved by datasets"
    kinds = {".csv": "CSV", ".tsv": "TSV", _PARQUET: "Parquet"}
    if known := kinds.get(Path(path).suffix.lower()):
        return known
    is_list = read_text(Path(path)).lstrip().startswith("[")
    return "a JSON list" if is_list else "JSON Lines"


def is_json_lines(path: str) -> bool:
    """Whether a path is a file with a JSON row in each line.

    Raises:
        DataError: it cannot be read.
    """
    tabular = (*_CSV, _PARQUET)
    file = Path(path)
    return file.is_file() and file.suffix.lower() not in tabular and is_lines(file)


def read_rows(path: str | Path, steps: str = "steps") -> Rows:
    """The rows at a path, whatever they are written as.

    In CSV and Parquet, the steps can be a text: a JSON list, or a step in each line.

    Args:
        path: a JSON, JSON Lines, CSV, TSV or Parquet file, known by its ending; a folder that
            `save_to_disk` of `datasets` wrote, `FOLDER:SPLIT` where it has several parts; or
            `hf://owner/name[@revision][/configuration][:split]`.
        steps: the column of a table that holds the steps.

    Raises:
        DataError: it is missing, or cannot be read as what it is.
    """
    text = str(path)
    folder, _, split = text.rpartition(":")
    if text.startswith(HUB):
        hub = HubName.of(text)
        return hub_rows(hub.path, hub.name, hub.split, hub.revision)
    if _is_saved(Path(text)):
        return _saved_rows(Path(text), None)
    if folder and _is_saved(Path(folder)):
        return _saved_rows(Path(folder), split)
    suffix = Path(text).suffix.lower()
    if suffix not in (*_CSV, _PARQUET):
        return read_json_rows(Path(text))
    rows = _csv_rows(Path(text)) if suffix in _CSV else _parquet_rows(Path(text))
    return [(where, _with_steps(row, steps)) for where, row in rows]


def exists(path: str) -> bool:
    """Whether there is something to be read at a path, as far as this machine can tell."""
    return path.startswith(HUB) or Path(path).exists() or _is_saved(Path(path.rpartition(":")[0]))


def hub_rows(path: str, name: str | None, split: str, revision: str | None) -> Rows:
    """The rows of a part of a data set, which `datasets` finds on the Hub or in a folder.

    Raises:
        DataError: it cannot be had.
    """
    import datasets  # takes a second to import

    try:
        rows = datasets.load_dataset(path, name, split=split, revision=revision)
    except Exception as error:  # no network, no such name, no access: it cannot be had
        raise _unavailable(path, split, error) from None
    return _as_rows(path, rows)


def _unavailable(path: str, split: str, error: Exception) -> DataError:
    reason = reason_of(error)
    return DataError(f"the data set {path} ({split}) cannot be loaded: {reason}")


def hub_stream(path: str, name: str | None, split: str, revision: str | None) -> Iterator[Row]:
    """As `hub_rows`, one row after the other as they arrive.

    Raises:
        DataError: it cannot be had.
    """
    import datasets

    count = 0
    try:
        for part in split.split("+"):
            rows: Any = datasets.load_dataset(
                path, name, split=part, revision=revision, streaming=True
            )
            for row in rows:
                count += 1
                yield f"{path}, row {count}", _plain(row)
    except Exception as error:
        raise _unavailable(path, split, error) from None
    if not count:
        raise _empty(path)


def _is_saved(path: Path) -> bool:
    """Whether `save_to_disk` of `datasets` wrote a folder."""
    return any((path / name).is_file() for name in ("state.json", "dataset_dict.json"))


def _saved_rows(folder: Path, split: str | None) -> Rows:
    import datasets

    try:
        saved: Any = datasets.load_from_disk(str(folder))
    except Exception as error:  # damaged in many ways
        reason = reason_of(error)
        raise DataError(f"{folder} cannot be read by datasets: {reason}") from None
    if isinstance(saved, dict):
        if split not in saved:
            raise DataError(
                f"{folder} has the parts {', '.join(saved)}; name one, as in {folder}:"
                f"{next(iter(saved))}"
            )
        saved = saved[split]
    return _as_rows(str(folder if split is None else f"{folder}:{split}"), saved)


def _parquet_rows(path: Path) -> Rows:
    if not path.is_file():
        raise DataError(
            f"problem file {path} does not exist; check the path (it is relative to the working "
            "directory)"
        )
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path).to_pylist()
    except Exception as error:  # damaged in many ways
        reason = reason_of(error)
        raise DataError(f"problem file {path} is not valid Parquet: {reason}") from None
    return _as_rows(f"problem file {path}", table)


def _as_rows(where: str, rows: Any) -> Rows:
    """Rows of typed values as those of JSON are."""
    if not len(rows):
        raise _empty(where)
    where = where.removeprefix("problem file ")
    return [(f"{where}, row {number}", _plain(row)) for number, row in enumerate(rows, start=1)]


def _plain(row: Any) -> dict[str, Any]:
    return {key: as_in_json(value) for key, value in row.items()}


def _empty(where: str) -> DataError:
    return DataError(f"{where} is empty; it must hold at least one problem")


# -- CSV


def _csv_rows(path: Path) -> Rows:
    """Rows below a line with the columns' names; the place of a row is its last line."""
    text = read_text(path)
    header = text.partition("\n")[0]
    delimiter = "\t" if path.suffix.lower() == ".tsv" else max(",;\t", key=header.count)
    csv.field_size_limit(max(csv.field_size_limit(), 2 * MAX_CELL.raised))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: Rows = []
    try:
        columns = [name.strip() for name in next(reader, [])]
        if len(set(columns)) < len(columns):
            raise DataError(f"problem file {path} has a column more than once; leave one of them")
        for cells in reader:
            if not cells:  # an empty line
                continue
            where = f"{path}, line {reader.line_num}"
            if len(cells) != len(columns):
                raise DataError(
                    f"{where} has {len(cells)} cells, but the first line names {len(columns)} "
                    f"columns ({shorten(', '.join(columns))}); put texts with '{delimiter}' in quotes"
                )
            filled = {key: cell for key, cell in zip(columns, cells, strict=True) if cell.strip()}
            rows.append((where, filled))
    except csv.Error as error:
        raise DataError(
            f"problem file {path}, line {reader.line_num} is not valid CSV: {error}"
        ) from None
    if not rows:
        raise _empty(f"problem file {path}")
    return rows


def _with_steps(row: dict[str, Any], column: str) -> dict[str, Any]:
    """A row with the steps that a text in its column holds: a JSON list, or one in each line."""
    text = row.get(column)
    if type(text) is not str or not text.strip():  # numbers are texts of another class
        return row
    steps = text.strip().splitlines()
    if text.strip().startswith("["):
        with suppress(ValueError):  # a step that begins with a bracket
            steps = json.loads(text)
    return {**row, column: steps}
