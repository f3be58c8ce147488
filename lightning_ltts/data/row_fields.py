"""Fields of rows that problems are made of, each checked."""

from collections.abc import Mapping
from typing import Any

from lightning_ltts.data.json_rows import Number
from lightning_ltts.data.ranges import RAISE_IT, Bound
from lightning_ltts.errors import DataError, shorten

FIELDS = ("question", "answer", "steps", "id")
MAX_CHARACTERS = Bound(1_000_000)  # of a field


def with_our_names(where: str, row: Any, columns: Mapping[str, str] | None) -> Any:
    """A row under the names of our fields.

    Args:
        where: its place, for messages.
        row: as it was read.
        columns: our field -> the row's; what is not named has our name.

    Raises:
        DataError: the row has no such column.
    """
    if not columns or not isinstance(row, dict):
        return row
    for ours, theirs in columns.items():
        if theirs not in row and ours in ("question", "answer"):
            raise DataError(
                f"{where} has no column {shorten(theirs)} for the {ours}; it has "
                f"{', '.join(map(str, row))}"
            )
    names = {**{field: field for field in FIELDS}, **columns}
    return {ours: row[theirs] for ours, theirs in names.items() if theirs in row}


def text_field(where: str, row: Mapping[str, Any], field: str, answers: str | None = None) -> str:
    """A field as text, of which an answer can also be a number, or true or false among texts."""
    if field not in row:
        others = ", ".join(shorten(name) for name in row if name not in FIELDS)
        advice = f"; it has {others}: set columns={{{field}: ...}} of its source" if others else ""
        raise DataError(f"{where} has no field '{field}'{advice}")
    value = row[field]
    if isinstance(value, bool) and answers == "text":
        value = str(value)
    usable = isinstance(value, str) and (answers is not None or not isinstance(value, Number))
    if not usable or not value.strip():
        kinds = "a text" if answers is None else "a text or number"
        raise DataError(
            f"{where}, field '{field}' is {shorten(value)}; it must be {kinds} that is not empty"
        )
    _require_text(where, field, value)
    return str(value)


def steps_field(where: str, steps: Any) -> tuple[str, ...]:
    """Steps that are a list of texts; nothing stands for none."""
    steps = [] if steps is None else steps
    if not isinstance(steps, list) or not all(
        isinstance(step, str) and not isinstance(step, Number) for step in steps
    ):
        raise DataError(f"{where}, field 'steps' must be a list of texts, not {shorten(steps)}")
    for step in steps:
        _require_text(where, "steps", step)
    return tuple(steps)


def id_field(where: str, row: Mapping[str, Any]) -> str | None:
    """The row's own name, where it has one."""
    value = row.get("id")
    if value is None:
        return None
    digits = value.removeprefix("-") if isinstance(value, Number) else "0"
    if not isinstance(value, str) or not value.strip() or not digits.isdigit():
        raise DataError(
            f"{where}, field 'id' is {shorten(value)}; it must be a text or whole number that is not "
            "empty, or be left out"
        )
    _require_text(where, "id", value)
    return str(value)


def _require_text(where: str, field: str, text: str) -> None:
    """Refuses a text that no tokenizer should be given."""
    if len(text) > MAX_CHARACTERS.raised:
        raise DataError(
            f"{where}, field '{field}' has {len(text)} characters; it can have at most "
            f"{MAX_CHARACTERS.raised}; {RAISE_IT}"
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"{where}, field '{field}' holds half of a character "
            f"(U+{ord(text[error.start]):04X}), which is no text; write the character out"
        ) from None
