"""Whether the thoughts matter: accuracies with thoughts replaced, from stored predictions."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_ltts.analysis.comparisons import gain_of
from lightning_ltts.analysis.predictions import stored_answer
from lightning_ltts.analysis.replaced_lines import ReplacedLine
from lightning_ltts.voting.bootstrap import bootstrap_interval


def ablation_lines(rows: Sequence[dict[str, Any]]) -> list[ReplacedLine]:
    """A line for everything that thoughts were replaced by, in the order of the rows.

    Questions whose prompts were too long have no such answers, and are left out.

    Args:
        rows: lines of a prediction file; without such answers there are no lines.
    """
    rows = [row for row in rows if row.get("ablation")]
    kinds = dict.fromkeys((e["by"], e["step"]) for row in rows for e in row["ablation"])
    lines = []
    for by, step in kinds:
        found = [
            (row, e) for row in rows for e in row["ablation"] if (e["by"], e["step"]) == (by, step)
        ]
        truths = [stored_answer(row["answer"]) for row, _ in found]
        own = [stored_answer(row["greedy"]["answer"]) for row, _ in found]
        given = [stored_answer(entry["answer"]) for _, entry in found]
        right, before = _equal(given, truths), _equal(own, truths)
        accuracy, interval = float(right.mean()), bootstrap_interval(right)
        same = float(_equal(given, own).mean())
        lines.append(ReplacedLine(by, step, accuracy, interval, gain_of(right - before), same))
    return lines


def _equal(one: Sequence[object], other: Sequence[object]) -> Tensor:
    """(Q,) float: 1 where both are equal."""
    return torch.tensor([a == b for a, b in zip(one, other, strict=True)]).float()
