"""Runs beside each other: what they have in common, and what a reader must know before comparing."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from lightning_ltts.analysis.statistics import mcnemar
from lightning_ltts.report.runs import Run
from lightning_ltts.report.words import Words, words_of
from lightning_ltts.voting.bootstrap import bootstrap_interval


class Difference(NamedTuple):
    """What a method gains in one run over another, on the problems that both have."""

    run: str
    against: str
    shared: int  # problems
    method: Words
    here: float  # accuracy on the shared problems
    there: float
    gain: float
    low: float
    high: float
    p: float | None  # of McNemar's exact test; None where the method gives no answer of its own


def between_runs(runs: Sequence[Run]) -> list[Difference]:
    """Paired comparison of each further run with the first, on the problems that both have."""
    lines = []
    for run in runs[1:]:
        own, others = shared_places(run, runs[0])
        for method in run.summary.methods if len(own) else ():
            other = runs[0].summary.method(method.name)
            if other is None:
                continue
            here, there = method.values[own], other.values[others]
            low, high = bootstrap_interval(here - there)
            p = mcnemar(here, there) if method.chooses else None
            means = float(here.mean()), float(there.mean()), float((here - there).mean())
            names = run.name, runs[0].name, len(own), words_of(method.name)
            lines.append(Difference(*names, *means, low, high, p))
    return lines


def shared_places(run: Run, other: Run) -> tuple[torch.Tensor, torch.Tensor]:
    """Places (n,) of the problems of two runs that are the same, in each; in the first's order.

    Problems are the same where question, reference answer and id are.
    """
    places = {_problem(row): i for i, row in enumerate(other.rows)}
    pairs = [(i, places[p]) for i, row in enumerate(run.rows) if (p := _problem(row)) in places]
    own, others = zip(*pairs, strict=True) if pairs else ((), ())
    return torch.tensor(own, dtype=torch.long), torch.tensor(others, dtype=torch.long)


def _problem(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["id"], row.get("question", ""), row["answer"]


def notes(runs: Sequence[Run]) -> list[str]:
    """What a reader must know before comparing."""
    said = [note for run in runs[1:] if (note := _overlap(run, runs[0]))]
    for run in runs:
        if run.pool.scores is None:
            said.append(
                f"{run.name} was predicted without a LatentRM: it has votes and coverage, and no scores."
            )
        if run.num_samples == 1:
            said.append(f"{run.name} has one sample per question: every selection takes it.")
        if not bool(run.pool.correct.any()):
            said.append(
                f"{run.name} has no right sample at all, so that no selection can be told from another."
            )
        elif bool(run.pool.correct.all()):
            said.append(
                f"{run.name} has no wrong sample at all, so that no selection can be told from another."
            )
    return said


def _overlap(run: Run, first: Run) -> str | None:
    """What to say of two runs whose problems are not the same; nothing where they are."""
    shared, own, others = len(shared_places(run, first)[0]), len(run.rows), len(first.rows)
    if shared == own == others:
        return None
    if not shared:
        return (
            f"{first.name} and {run.name} are of different problems: their accuracies are side by "
            "side, but not comparable."
        )
    return (
        f"{first.name} ({others} problems) and {run.name} ({own}) share {shared} problems: their "
        "difference is of these alone, and all other numbers are of each run's own."
    )
