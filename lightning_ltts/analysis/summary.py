"""What the extra compute bought: accuracies with intervals, and curves over N, from prediction rows alone."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from textwrap import wrap
from typing import Any

import torch
from torch import Tensor

from lightning_ltts.analysis.predictions import SamplePool, sample_pool, stored_answer
from lightning_ltts.analysis.statistics import headroom_closed, headroom_interval, mcnemar
from lightning_ltts.errors import DataError
from lightning_ltts.voting.adaptive import Adaptive, BetaStopping, StoppingRule
from lightning_ltts.voting.per_question import PassAtK, SelectedAccuracy, bootstrap_interval
from lightning_ltts.voting.selection import AgreeingBestOfN, BestOfN, Majority, Selection, WeightedVote

_SCORED = ("weighted_vote", "best_of_n", "agreeing_best_of_n", "beam")
_NAME_WIDTH = 24  # of the table, so that all columns fit into 100


@dataclass(frozen=True)
class Line:
    """One line of the table: a method's accuracy, and its paired difference to another's on the same questions."""

    name: str
    accuracy: float
    interval: tuple[float, float]
    gain: float | None = None  # over the method it is compared with
    gain_interval: tuple[float, float] | None = None
    p_value: float | None = None  # of McNemar's exact test against that method
    headroom: float | None = None  # share of the way from majority to the oracle
    headroom_interval: tuple[float, float] | None = None
    samples_used: float | None = None  # on average, where that is not the same for all questions


@dataclass(frozen=True)
class Summary:
    """The result of a prediction run."""

    num_problems: int
    against: str  # the method that gains are over
    lines: list[Line]
    curves: dict[str, dict[int, float]]  # method -> N -> accuracy
    by_rank: list[float]  # accuracy of the samples with the highest, second highest, ... score; empty without scores
    survival: list[float]  # per step of the beam search, see `_survival`; empty where it was not traced
    values: dict[str, Tensor] = field(repr=False)  # of each line, per question (Q,)
    curve_values: dict[str, dict[int, Tensor]] = field(repr=False)  # of each point of a curve, likewise

    def __getitem__(self, name: str) -> float:
        return next(line.accuracy for line in self.lines if line.name == name)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        lines = {
            line.name: {name: value for name, value in vars(line).items() if name != "name" and value is not None}
            for line in self.lines
        }
        fixed = {"num_problems": self.num_problems, "against": self.against}
        return {**fixed, "results": lines, "curves": self.curves, "by_rank": self.by_rank, "survival": self.survival}

    def table(self) -> str:
        """A text table, at most 100 columns wide."""
        width = min(max(len(line.name) for line in self.lines), _NAME_WIDTH)
        rows = [f"{'':{width}}  accuracy  95 % interval  {f'against {_cut(self.against, 15)}, paired':25} McNemar  headroom"]
        for line in self.lines:
            interval = f"{line.interval[0]:.1%} .. {line.interval[1]:.1%}"
            row = f"{_cut(line.name, width):{width}}   {line.accuracy:6.1%}  {interval:15}"
            if line.gain is not None and line.gain_interval is not None:
                gain, low, high = (f"{100 * x:+.1f}" for x in (line.gain, *line.gain_interval))
                row += f"{f'{gain:>5} ({low} .. {high})':26}"
                row += "" if line.p_value is None else f"{f'p={line.p_value:.1g}':9}"
                row += "" if line.headroom is None else f"{line.headroom:6.0%}"
            rows.append(row.rstrip() if line.samples_used is None else f"{row}{line.samples_used:.1f} samples")
        if self.survival:
            shares = ", ".join(f"{share:.1%}" for share in self.survival)
            rows += wrap(f"questions whose right branches survive each step of the beam search: {shares}", 100)
        return "\n".join([f"{self.num_problems} problems", *rows])


def _cut(name: str, width: int) -> str:
    return name if len(name) <= width else f"{name[: width - 1]}…"


def summarize(
    rows: Sequence[dict[str, Any]],
    temperature: float | None = None,
    rule: str = "sum",
    against: str = Majority.name,
    stopping: StoppingRule | None = None,
    num_samples: int | None = None,
) -> Summary:
    """Greedy, pass@1, coverage, every selection and the beams of prediction rows.

    Coverage (the oracle) and pass@1 are the unbiased pass@k; a selection at N below the number of samples is averaged over
    disjoint blocks of N samples.

    Args:
        rows: lines of one prediction file.
        temperature: of the weighted vote; by default the one the rows name, which was fitted on validation.
        rule: how step scores make a trajectory's score, see `sample_pool`.
        against: the method that others are compared with, as the table names it, `@N` left out.
        stopping: when adaptive majority voting stops drawing.
        num_samples: use only this many samples of each question, the first ones.

    Raises:
        DataError: the rows do not belong together, or there is no such method.
    """
    # the means are taken here, not by `compute`, which would wait for other processes that have no part in this
    rows = [row | {"samples": row["samples"][:num_samples]} for row in rows]
    pool = sample_pool(rows, rule)
    if temperature is None:
        temperature = float(rows[0].get("temperature", 1.0))
    size = pool.correct.shape[1]
    sizes = [2**i for i in range(size.bit_length()) if 2**i < size] + [size]
    selections = selections_for(rows, pool, temperature)
    scores = pool.scores if pool.scores is not None else torch.zeros_like(pool.correct)

    curves: dict[str, dict[int, Tensor]] = {"coverage": {}}
    values: dict[str, Tensor] = {"greedy": torch.tensor([_right(row, row["greedy"]) for row in rows]).double()}
    for k in sizes:
        pass_at_k = PassAtK(k)
        pass_at_k.update(pool.correct)
        curves["coverage"][k] = pass_at_k.per_question()
        if k in (1, size):
            values["pass@1" if k == 1 else f"coverage@{k}"] = pass_at_k.per_question()
    for selection in selections:
        curves[selection.name] = {}
        for k in sizes:
            accuracy = SelectedAccuracy(selection, k, shuffles=4)
            accuracy.update(pool.votes, pool.correct, scores)
            curves[selection.name][k] = accuracy.per_question()
            if k == size:
                values[f"{selection.name}@{size}"] = accuracy.per_question()
    adaptive = Adaptive(Majority(), stopping or BetaStopping())
    accuracy = SelectedAccuracy(adaptive)
    accuracy.update(pool.votes, pool.correct, scores)
    values[f"{adaptive.name}@{size}"] = accuracy.per_question()
    if "beam" in rows[0]:
        values |= _beam_values(rows, temperature, rule)

    other = next((value for name, value in values.items() if name.split("@")[0] == against), None)
    if other is None:
        known = ", ".join(dict.fromkeys(name.split("@")[0] for name in values))
        raise DataError(f"there is no method '{against}' to compare with; there are {known}")
    majority, oracle = values[f"majority@{size}"], values["pass@1" if size == 1 else f"coverage@{size}"]
    lines = []
    for name, value in values.items():
        line = Line(name, float(value.mean()), bootstrap_interval(value))
        if name.split("@")[0] not in (against, "pass", "coverage"):
            gain = value - other
            line = replace(
                line,
                gain=float(gain.mean()),
                gain_interval=bootstrap_interval(gain),
                p_value=mcnemar(value, other),
            )
        if name.startswith(_SCORED) and oracle.mean() > majority.mean():
            line = replace(
                line,
                headroom=headroom_closed(value, majority, oracle),
                headroom_interval=headroom_interval(value, majority, oracle),
            )
        if name.startswith(adaptive.name):
            line = replace(line, samples_used=float(adaptive.samples_used(pool.votes).double().mean()))
        lines.append(line)
    by_rank = [] if pool.scores is None else _accuracy_by_rank(pool.correct, pool.scores)
    means = {name: {k: float(value.mean()) for k, value in curve.items()} for name, curve in curves.items()}
    return Summary(len(rows), against, lines, means, by_rank, _survival(rows), values, curves)


def selections_for(rows: Sequence[dict[str, Any]], pool: SamplePool, temperature: float | None = None) -> list[Selection]:
    """The selections that stored samples allow, with the parameters that were fitted on validation where none are given."""
    if pool.scores is None:
        return [Majority()]
    if temperature is None:
        temperature = float(rows[0].get("temperature", 1.0))
    return [Majority(), WeightedVote(temperature), BestOfN(), AgreeingBestOfN(float(rows[0].get("agreement", 0.0)))]


def _accuracy_by_rank(correct: Tensor, scores: Tensor) -> list[float]:
    """Share of right samples at each rank of the score, over questions with both right and wrong samples.

    It falls from left to right where the score means what it should; a low start shows that outliers are scored too high.
    """
    mixed = (correct.amax(1) > 0) & (correct.amin(1) < 1)
    ranked = correct.gather(1, scores.argsort(dim=1, descending=True, stable=True))
    return ranked[mixed].mean(0).tolist() if bool(mixed.any()) else []


def _survival(rows: list[dict[str, Any]]) -> list[float]:
    """At each step of the beam search, among questions with candidates that lead to the right answer, those that keep one."""
    steps = [row["beam"]["survival"] for row in rows if "survival" in row.get("beam", {})]
    shares = []
    for pruned in zip(*steps, strict=True):
        had = [question for question in pruned if question["right"]]
        shares.append(sum(question["kept"] > 0 for question in had) / max(len(had), 1))
    return shares


def _beam_values(rows: list[dict[str, Any]], temperature: float, rule: str) -> dict[str, Tensor]:
    """The best final beam, and a weighted vote over the final beams."""
    budget = rows[0]["beam"]["budget"]
    pool = sample_pool([{**row, "samples": row["beam"]["beams"]} for row in rows], rule)
    assert pool.scores is not None, "beams are always scored"
    values = {}
    for name, selection in ((f"beam@{budget}", BestOfN()), (f"beam_vote@{budget}", WeightedVote(temperature))):
        accuracy = SelectedAccuracy(selection)
        accuracy.update(pool.votes, pool.correct, pool.scores)
        values[name] = accuracy.per_question()
    return values


def _right(row: dict[str, Any], given: dict[str, Any]) -> float:
    return float(given["answer"] is not None and stored_answer(given["answer"]) == stored_answer(row["answer"]))
