"""The first tab of the page: what each method reached, and what it took."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from lightning_ltts.analysis.lines import Line
from lightning_ltts.report.drawing import method_color
from lightning_ltts.report.runs import Run
from lightning_ltts.report.words import Words, words_of


class Entry(NamedTuple):
    """A line of the table, with what a page needs to show it."""

    line: Line
    words: Words
    color: str
    times: float | None  # its token forwards over greedy decoding's
    is_answer: bool  # whether it is what the run stands for


def groups_of(run: Run, runs: Sequence[Run]) -> dict[str, list[Entry]]:
    """The lines of a run in the order of what they need; groups without lines are left out."""
    groups: dict[str, list[Entry]] = {
        "no extra compute": [],
        "without training": [],
        "with the LatentRM": [],
        "to compare with": [],
    }
    no_compute, untrained, scored, bounds = groups.values()
    for line, method in zip(run.summary.lines, run.summary.methods, strict=True):
        group = scored if method.scored else untrained
        if line.n is None:
            group = no_compute
        elif not method.chooses:
            group = bounds
        group.append(
            Entry(
                line,
                words_of(line.method),
                method_color(line.method, runs),
                run.summary.times_greedy(line),
                line == run.summary.answer,
            )
        )
    return {name: entries for name, entries in groups.items() if entries}


def words_in(runs: Sequence[Run]) -> dict[str, Words]:
    """The words of every method of the runs, by its name."""
    return {m.name: words_of(m.name) for run in runs for m in run.summary.methods}


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as single values, named like `beam.candidates`."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found
