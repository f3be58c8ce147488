"""Whether the thoughts matter: accuracies with thoughts replaced, from stored predictions."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_ltts.analysis.comparisons import gain_of
from lightning_ltts.analysis.predictions import stored_answer, stored_truth
from lightning_ltts.analysis.replaced_lines import ReplacedLine
from lightning_ltts.voting.bootstrap import bootstrap_interval


def ablation_lines(rows: Sequence[dict[str, Any]]) -> list[ReplacedLine]:
    """A line for everything that thoughts were replaced by, in the order of the rows.

    Questions whose prompts were too long have no such answers, and are left out.

    Args:
        rows: lines of a prediction file; without such answers there are no lines.
    """
    # what replaced thoughts -> right answer, greedy answer and answer of each question
    given: dict[tuple[str, int | None], list[tuple[object, str | None, str | None]]] = {}
    for row in rows:
        for entry in row.get("ablation") or ():
            answers = (stored_truth(row), row["greedy"]["answer"], entry["answer"])
            given.setdefault((entry["by"], entry["step"]), []).append(answers)
    lines = []
    for (by, step), triples in given.items():
        truths, before_answers, answers = zip(*triples, strict=True)
        own, new = (list(map(stored_answer, column)) for column in (before_answers, answers))
        right, before = _equal(new, truths), _equal(own, truths)
        accuracy, interval = float(right.mean()), bootstrap_interval(right)
        same = float(_equal(new, own).mean())
        lines.append(ReplacedLine(by, step, accuracy, interval, gain_of(right - before), same))
    return lines


def _equal(one: Sequence[object], other: Sequence[object]) -> Tensor:
    """(Q,) float: 1 where both are equal."""
    return torch.tensor([a == b for a, b in zip(one, other, strict=True)]).float()
