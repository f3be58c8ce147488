"""What the extra compute bought: accuracies with intervals, and curves over N, from prediction rows alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from lightning_ltts.analysis.predictions import sample_pool
from lightning_ltts.metrics.per_question import PassAtK, SelectedAccuracy, bootstrap_interval
from lightning_ltts.search.selection import BestOfN, Majority, Selection, WeightedVote


@dataclass(frozen=True)
class Line:
    """One line of the table: a method's accuracy, and its paired difference to majority voting on the same samples."""

    name: str
    accuracy: float
    interval: tuple[float, float]
    gain: float | None = None  # over majority with the same budget
    gain_interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Summary:
    """The result of a prediction run."""

    num_problems: int
    lines: list[Line]
    curves: dict[str, dict[int, float]]  # method -> N -> accuracy
    by_rank: list[float]  # accuracy of the samples with the highest, second highest, ... score; empty without scores

    def __getitem__(self, name: str) -> float:
        return next(line.accuracy for line in self.lines if line.name == name)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        lines = {
            line.name: {"accuracy": line.accuracy, "interval": line.interval}
            | ({} if line.gain is None else {"gain": line.gain, "gain_interval": line.gain_interval})
            for line in self.lines
        }
        return {"num_problems": self.num_problems, "results": lines, "curves": self.curves, "by_rank": self.by_rank}

    def table(self) -> str:
        """A text table, at most 80 columns wide."""
        width = max(len(line.name) for line in self.lines)
        rows = [f"{'':{width}}  accuracy   95 % interval    against majority, paired 95 % interval"]
        for line in self.lines:
            low, high = line.interval
            row = f"{line.name:{width}}  {line.accuracy:7.1%}    {low:5.1%} .. {high:5.1%}"
            if line.gain is not None and line.gain_interval is not None:
                row += f"   {100 * line.gain:+5.1f} ({100 * line.gain_interval[0]:+.1f} .. {100 * line.gain_interval[1]:+.1f})"
            rows.append(row)
        return "\n".join([f"{self.num_problems} problems", *rows])


def summarize(rows: Sequence[dict[str, Any]], temperature: float | None = None) -> Summary:
    """Greedy, pass@1, coverage, every selection and the beams of prediction rows.

    Coverage (the oracle) and pass@1 are the unbiased pass@k; a selection at N below the number of samples is averaged over
    the disjoint blocks of N samples.

    Args:
        rows: lines of one prediction file.
        temperature: of the weighted vote; by default the one the rows name, which was fitted on validation.

    Raises:
        DataError: the rows do not belong together.
    """
    # the means are taken here, not by `compute`, which would wait for other processes that have no part in this
    rows = list(rows)
    pool = sample_pool(rows)
    if temperature is None:
        temperature = float(rows[0].get("temperature", 1.0))
    size = pool.correct.shape[1]
    sizes = [2**i for i in range(size.bit_length()) if 2**i < size] + [size]
    selections: list[Selection] = [Majority()]
    if pool.scores is not None:
        selections += [WeightedVote(temperature), BestOfN()]
    scores = pool.scores if pool.scores is not None else torch.zeros_like(pool.correct)

    curves: dict[str, dict[int, float]] = {"coverage": {}}
    values: dict[str, Tensor] = {"greedy": torch.tensor([_right(row, row["greedy"]) for row in rows])}
    for k in sizes:
        pass_at_k = PassAtK(k)
        pass_at_k.update(pool.correct)
        curves["coverage"][k] = float(pass_at_k.per_question().mean())
        if k in (1, size):
            values["pass@1" if k == 1 else f"coverage@{k}"] = pass_at_k.per_question()
    for selection in selections:
        curves[selection.name] = {}
        for k in sizes:
            accuracy = SelectedAccuracy(selection, k)
            accuracy.update(pool.votes, pool.correct, scores)
            curves[selection.name][k] = float(accuracy.per_question().mean())
            if k == size:
                values[f"{selection.name}@{size}"] = accuracy.per_question()
    if "beam" in rows[0]:
        values |= _beam_values(rows, temperature)

    majority = values[f"majority@{size}"]
    lines = []
    for name, value in values.items():
        accuracy_interval = bootstrap_interval(value)
        compared = name.startswith(("weighted_vote", "best_of_n", "beam"))
        gain = value - majority if compared else None
        lines.append(
            Line(
                name,
                float(value.mean()),
                accuracy_interval,
                None if gain is None else float(gain.mean()),
                None if gain is None else bootstrap_interval(gain),
            )
        )
    return Summary(len(rows), lines, curves, [] if pool.scores is None else _accuracy_by_rank(pool.correct, pool.scores))


def _accuracy_by_rank(correct: Tensor, scores: Tensor) -> list[float]:
    """Share of right samples at each rank of the score, over questions with both right and wrong samples.

    It falls from left to right where the score means what it should; a low start shows that outliers are scored too high.
    """
    mixed = (correct.amax(1) > 0) & (correct.amin(1) < 1)
    ranked = correct.gather(1, scores.argsort(dim=1, descending=True, stable=True))
    return ranked[mixed].mean(0).tolist() if bool(mixed.any()) else []


def _beam_values(rows: list[dict[str, Any]], temperature: float) -> dict[str, Tensor]:
    """The best final beam, and a weighted vote over the final beams."""
    budget = rows[0]["beam"]["budget"]
    pool = sample_pool([{**row, "samples": row["beam"]["beams"]} for row in rows])
    assert pool.scores is not None, "beams are always scored"
    values = {}
    for name, selection in ((f"beam@{budget}", BestOfN()), (f"beam_vote@{budget}", WeightedVote(temperature))):
        accuracy = SelectedAccuracy(selection)
        accuracy.update(pool.votes, pool.correct, pool.scores)
        values[name] = accuracy.per_question()
    return values


def _right(row: dict[str, Any], given: dict[str, Any]) -> float:
    return float(given["answer"] is not None and Fraction(given["answer"]) == Fraction(row["answer"]))
