"""The rows of a prediction file as a sequence, of which none needs to be held."""

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any, overload

Row = dict[str, Any]
UNITS = ("token_forwards", "tree_nodes", "flops")


class Rows(Sequence[Row]):
    """Rows that are held, or read when they are asked for.

    Args:
        rows: what holds or reads them.
        change: what is done to a row when it is asked for, which leaves its costs as they are.
    """

    def __init__(self, rows: Sequence[Row], change: Callable[[Row], Row] | None = None):
        self._rows = rows
        self._change = change

    @classmethod
    def of(cls, rows: Sequence[Row]) -> "Rows":
        """The rows themselves, where they are such, or rows that are these."""
        return rows if isinstance(rows, Rows) else cls(rows)

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | Sequence[Row]:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        row = self._rows[index]
        return row if self._change is None else self._change(row)

    def changed(self, change: Callable[[Row], Row]) -> "Rows":
        """The same rows, each changed when it is asked for."""
        return Rows(self, change)

    @cached_property
    def costs(self) -> dict[str, dict[str, float]]:
        """Part of the search -> unit -> what it took per question, on average.

        A part or unit that a row lacks is left out. It takes one pass over the rows.
        """
        if isinstance(self._rows, Rows):
            return self._rows.costs
        return _mean_costs(self._rows)


def _mean_costs(rows: Iterable[Row]) -> dict[str, dict[str, float]]:
    totals: dict[tuple[str, str], float] = {}
    counts: dict[tuple[str, str], int] = {}
    parts: dict[str, int] = {}
    questions = 0
    for row in rows:
        questions += 1
        for part, cost in row.get("cost", {}).items():
            parts[part] = parts.get(part, 0) + 1
            for unit in UNITS:
                if unit in cost:
                    totals[part, unit] = totals.get((part, unit), 0.0) + cost[unit]
                    counts[part, unit] = counts.get((part, unit), 0) + 1
    return {
        part: {
            unit: totals[part, unit] / questions
            for unit in UNITS
            if counts.get((part, unit), 0) == questions
        }
        for part, count in parts.items()
        if count == questions
    }
