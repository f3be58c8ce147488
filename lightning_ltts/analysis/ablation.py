"""Whether the thoughts matter: accuracies with thoughts replaced, from stored predictions."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_ltts.analysis.lines import Gain
from lightning_ltts.analysis.predictions import stored_answer, stored_truth
from lightning_ltts.voting.bootstrap import bootstrap_interval

TITLES = {
    "zero": "zero",
    "mean": "mean of other questions",
    "other": "another question's",
    "noise": "noise of equal norm",
}


@dataclass(frozen=True)
class ReplacedLine:
    """Greedy decoding with thoughts replaced: its accuracy, and how it differs."""

    by: str  # what is in their place
    step: int | None  # which thought, from 0; None for all
    accuracy: float
    interval: tuple[float, float]
    gain: Gain  # over greedy decoding with its own thoughts, on the same questions
    same: float  # share of questions that are answered alike

    @property
    def title(self) -> str:
        """What is in the thoughts' place, in words."""
        return TITLES.get(self.by, self.by)

    @property
    def place(self) -> str:
        """Which thoughts, in words."""
        return "all" if self.step is None else f"thought {self.step + 1}"

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


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
        truths = [stored_truth(row) for row, _ in found]
        own = [stored_answer(row["greedy"]["answer"]) for row, _ in found]
        given = [stored_answer(entry["answer"]) for _, entry in found]
        right, before = _equal(given, truths), _equal(own, truths)
        accuracy, interval = float(right.mean()), bootstrap_interval(right)
        same = float(_equal(given, own).mean())
        lines.append(ReplacedLine(by, step, accuracy, interval, Gain.of(right - before), same))
    return lines


def _equal(one: Sequence[object], other: Sequence[object]) -> Tensor:
    """(Q,) float: 1 where both are equal."""
    return torch.tensor([a == b for a, b in zip(one, other, strict=True)]).float()


def ablation_table(lines: Sequence[ReplacedLine]) -> list[str]:
    """Lines of a text table, at most 100 columns wide; none where nothing was replaced."""
    if not lines:
        return []
    width = max(len(line.title) for line in lines)
    heads = "place      accuracy  95 % interval   against greedy         as greedy"
    table = ["", f"{'thoughts replaced by':{max(width, 20)}}  {heads}"]
    for line in lines:
        interval = f"{line.interval[0]:.1%}..{line.interval[1]:.1%}"
        table.append(
            f"{line.title:{max(width, 20)}}  {line.place:10} {line.accuracy:7.1%}  {interval:14}  "
            f"{line.gain!s:21}  {line.same:9.1%}"
        )
    return table
