"""What the extra compute bought: accuracies with intervals, and curves over N, from prediction rows alone."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from textwrap import wrap
from typing import Any

import torch
from torch import Tensor

from lightning_ltts.analysis.predictions import SamplePool, sample_pool, stored_answer
from lightning_ltts.analysis.statistics import headroom_closed, headroom_interval, mcnemar
from lightning_ltts.errors import DataError
from lightning_ltts.voting.adaptive import Adaptive, BetaStopping, StoppingRule
from lightning_ltts.voting.bootstrap import bootstrap_interval
from lightning_ltts.voting.per_question import PassAtK, SelectedAccuracy
from lightning_ltts.voting.selection import BestOfN, Majority, Selection, WeightedVote, selections
from lightning_ltts.voting.votes import mixed_questions

GREEDY, COVERAGE, PASS = "greedy", "coverage", "pass"
BEAM, BEAM_VOTE = "beam", "beam_vote"
_NAME_WIDTH = 19  # of the table, so that all columns fit into 100


@dataclass(frozen=True)
class Method:
    """What answered the questions, with how many samples or candidates, and how well."""

    name: str  # greedy, pass, coverage, beam, or a selection's
    n: int | None  # samples per question; None where there is one trajectory without noise
    values: Tensor = field(repr=False)  # (Q,) float64: accuracy on each question
    chooses: bool = True  # whether it gives one answer a question, which pass@1 and coverage do not
    scored: bool = False  # whether it reads the LatentRM's scores

    @property
    def title(self) -> str:
        """The name in tables, such as `majority@32`."""
        return self.name if self.n is None else f"{self.name}@{self.n}"


@dataclass(frozen=True)
class Gain:
    """A paired difference of two accuracies on the same questions, with its 95 % interval."""

    gain: float
    low: float
    high: float

    @classmethod
    def of(cls, differences: Tensor) -> "Gain":
        """The mean of differences (Q,), one of each question."""
        return cls(float(differences.mean()), *bootstrap_interval(differences))

    def __str__(self) -> str:
        gain, low, high = (f"{100 * x:+.1f}" for x in (self.gain, self.low, self.high))
        return f"{gain:>5} ({low}..{high})"


@dataclass(frozen=True)
class Line:
    """One line of the table: a method's accuracy, and its paired difference to another's on the same questions."""

    method: str
    n: int | None
    accuracy: float
    interval: tuple[float, float]
    gain: float | None = None  # over the method it is compared with
    gain_interval: tuple[float, float] | None = None
    p_value: float | None = None  # of McNemar's exact test against that method
    against_greedy: Gain | None = None  # paired, too; None for greedy decoding itself
    headroom: float | None = None  # share of the way from majority to the oracle
    headroom_interval: tuple[float, float] | None = None
    samples_used: float | None = None  # on average, where that is not the same for all questions

    @property
    def name(self) -> str:
        """The method with its N, such as `majority@32`."""
        return self.method if self.n is None else f"{self.method}@{self.n}"

    @property
    def over_compared(self) -> "Gain | None":
        """The difference to the method that this is compared with."""
        if self.gain is None or self.gain_interval is None:
            return None
        return Gain(self.gain, *self.gain_interval)


@dataclass(frozen=True)
class Summary:
    """The result of a prediction run."""

    num_problems: int
    against: str  # the method that gains are over
    lines: list[Line]
    curves: dict[str, dict[int, float]]  # method -> N -> accuracy
    by_rank: list[
        float
    ]  # accuracy of the samples with the highest, second highest, ... score; empty without scores
    survival: list[
        float
    ]  # per step of the beam search, see `_survival`; empty where it was not traced
    methods: list[Method] = field(repr=False)  # what the lines sum up, question by question
    curve_values: dict[str, dict[int, Tensor]] = field(
        repr=False
    )  # method -> N -> accuracy on each question (Q,)

    def __getitem__(self, name: str) -> float:
        return next(line.accuracy for line in self.lines if line.name == name)

    def method(self, name: str) -> Method | None:
        """The method of this name, `@N` left out; None where the run has none."""
        return next((method for method in self.methods if method.name == name), None)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        lines = {
            line.name: {name: value for name, value in asdict(line).items() if value is not None}
            for line in self.lines
        }
        fixed = {"num_problems": self.num_problems, "against": self.against}
        return {
            **fixed,
            "results": lines,
            "curves": self.curves,
            "by_rank": self.by_rank,
            "survival": self.survival,
        }

    def table(self) -> str:
        """A text table, at most 100 columns wide."""
        width = min(max(len(line.name) for line in self.lines), _NAME_WIDTH)
        both = self.against != GREEDY
        heads = ["against greedy", *([f"against {_cut(self.against, 13)}"] if both else [])]
        columns = "".join(f"{head:23}" for head in heads)
        rows = [f"{'':{width}}  accuracy  95 % interval  {columns}headroom"]
        for line in self.lines:
            interval = f"{line.interval[0]:.1%}..{line.interval[1]:.1%}"
            row = f"{_cut(line.name, width):{width}}   {line.accuracy:6.1%}  {interval:14} "
            gains = [line.against_greedy, *([line.over_compared] if both else [])]
            row += "".join(f"{'' if gain is None else str(gain):23}" for gain in gains)
            row += "" if line.headroom is None else f"{line.headroom:6.0%}"
            if line.samples_used is not None:
                row += f"n={line.samples_used:.4g}"
            rows.append(row.rstrip())
        if self.survival:
            shares = ", ".join(f"{share:.1%}" for share in self.survival)
            rows += wrap(
                f"questions whose right branches survive each step of the beam search: {shares}",
                100,
            )
        paired = "differences are paired, in points, with 95 % intervals; n: samples on average"
        return "\n".join([f"{self.num_problems} problems; {paired}", *rows])

    def bought(self) -> str:
        """One sentence on what the extra compute bought over greedy decoding, whatever that is.

        It is about the weighted vote, or majority voting where nothing is scored, and not about the
        selection that happens to do best on these problems.
        """
        names = (WeightedVote.name, Majority.name)
        line = next(line for name in names for line in self.lines if line.method == name)
        gain = line.against_greedy
        assert gain is not None, "a vote is compared with greedy decoding"
        verdict = "above" if gain.low > 0 else "below" if gain.high < 0 else "level with"
        return (
            f"What the extra compute bought: {line.name} is {verdict} greedy decoding, by "
            f"{100 * gain.gain:+.1f} points (95 % interval {100 * gain.low:+.1f} to "
            f"{100 * gain.high:+.1f}) on {self.num_problems} problems."
        )


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
    """Sums up prediction rows: greedy, pass@1, coverage, every selection and the beams.

    Coverage (the oracle) and pass@1 are the unbiased pass@k; a selection at N below the number of samples is averaged over
    disjoint blocks, in several orders of the samples.

    Args:
        rows: lines of a prediction file.
        temperature: divides scores in the weighted vote; by default the one that predictions were made with.
        rule: how step scores make a trajectory's score, see `sample_pool`.
        against: the method that others are compared with, named without its `@N`.
        stopping: when adaptive majority voting stops drawing.
        num_samples: use only this many samples of each question, the first ones.

    Raises:
        DataError: the rows do not belong together, or there is no such method.
    """
    rows = [row | {"samples": row["samples"][:num_samples]} for row in rows]
    pool = sample_pool(rows, rule)
    size = pool.correct.shape[1]
    scored = pool.scores is not None
    chosen_by = selections_for(rows, pool, temperature)

    # accuracy on every question, for each method at every N: all that follows is taken from these
    curves = _curves(
        pool, chosen_by, [2**i for i in range(size.bit_length()) if 2**i < size] + [size]
    )
    adaptive = Adaptive(Majority(), stopping or BetaStopping())
    methods = [
        Method(GREEDY, None, torch.tensor([_right(row, row["greedy"]) for row in rows]).double())
    ]
    methods += [Method(PASS, 1, curves[COVERAGE][1], chooses=False)]
    methods += [Method(COVERAGE, size, curves[COVERAGE][size], chooses=False)] if size > 1 else []
    methods += [
        Method(s.name, size, curves[s.name][size], scored=s.needs_scores) for s in chosen_by
    ]
    methods += [Method(adaptive.name, size, _accuracy(adaptive, pool))]
    methods += _beam_methods(rows, chosen_by, rule) if BEAM in rows[0] else []

    # comparisons on the same questions
    compared = next((method for method in methods if method.name == against), None)
    if compared is None:
        known = ", ".join(method.name for method in methods)
        raise DataError(f"there is no method '{against}' to compare with; there are {known}")
    majority, oracle = curves[Majority.name][size], curves[COVERAGE][size]
    lines = [_line(method, compared, methods[0], majority, oracle) for method in methods]
    used = float(adaptive.samples_used(pool.votes).double().mean())
    lines = [
        replace(line, samples_used=used) if line.method == adaptive.name else line for line in lines
    ]

    by_rank = (
        _accuracy_by_rank(pool.correct, pool.scores) if scored and pool.scores is not None else []
    )
    means = {
        name: {k: float(value.mean()) for k, value in curve.items()}
        for name, curve in curves.items()
    }
    return Summary(len(rows), against, lines, means, by_rank, _survival(rows), methods, curves)


def selections_for(
    rows: Sequence[dict[str, Any]], pool: SamplePool, temperature: float | None = None
) -> list[Selection]:
    """The selections that stored samples allow, with parameters fitted on validation where none are given."""
    given = {} if temperature is None else {WeightedVote.parameter: temperature}
    return selections({**rows[0], **given}, scored=pool.scores is not None)


def _curves(
    pool: SamplePool, chosen_by: Sequence[Selection], sizes: Sequence[int]
) -> dict[str, dict[int, Tensor]]:
    """Coverage and each selection -> N -> accuracy on each question."""
    # the metrics are asked per question, not for `compute`, which would wait for other processes
    curves: dict[str, dict[int, Tensor]] = {COVERAGE: {}}
    for k in sizes:
        pass_at_k = PassAtK(k)
        pass_at_k.update(pool.correct)
        curves[COVERAGE][k] = pass_at_k.per_question()
    for selection in chosen_by:
        curves[selection.name] = {k: _accuracy(selection, pool, k, shuffles=4) for k in sizes}
    return curves


def _accuracy(
    selection: Selection, pool: SamplePool, num_samples: int | None = None, shuffles: int = 1
) -> Tensor:
    scores = pool.scores if pool.scores is not None else torch.zeros_like(pool.correct)
    accuracy = SelectedAccuracy(selection, num_samples, shuffles)
    accuracy.update(pool.votes, pool.correct, scores)
    return accuracy.per_question()


def _beam_methods(
    rows: list[dict[str, Any]], chosen_by: Sequence[Selection], rule: str
) -> list[Method]:
    """The best final beam, and a weighted vote over the final beams."""
    budget = rows[0][BEAM]["budget"]
    pool = sample_pool([{**row, "samples": row[BEAM]["beams"]} for row in rows], rule)
    assert pool.scores is not None, "beams are always scored"
    vote = next((s for s in chosen_by if isinstance(s, WeightedVote)), WeightedVote())
    chosen: list[tuple[str, Selection]] = [(BEAM, BestOfN()), (BEAM_VOTE, vote)]
    return [
        Method(name, budget, _accuracy(selection, pool), scored=True) for name, selection in chosen
    ]


def _line(
    method: Method, compared: Method, greedy: Method, majority: Tensor, oracle: Tensor
) -> Line:
    """A method's accuracy, its differences to two others, and the headroom it closes."""
    values = method.values
    line = Line(method.name, method.n, float(values.mean()), bootstrap_interval(values))
    if method.chooses and method.name != greedy.name:
        line = replace(line, against_greedy=Gain.of(values - greedy.values))
    if method.chooses and method.name != compared.name:
        gain = values - compared.values
        p_value = mcnemar(values, compared.values)
        line = replace(
            line, gain=float(gain.mean()), gain_interval=bootstrap_interval(gain), p_value=p_value
        )
    if method.scored and oracle.mean() > majority.mean():
        interval = headroom_interval(values, majority, oracle)
        line = replace(
            line, headroom=headroom_closed(values, majority, oracle), headroom_interval=interval
        )
    return line


def _accuracy_by_rank(correct: Tensor, scores: Tensor) -> list[float]:
    """Share of right samples at each rank of the score, over questions with both right and wrong samples.

    It falls from left to right where the score means what it should; a low start shows that outliers are scored too high.
    """
    mixed = mixed_questions(correct)
    ranked = correct.gather(1, scores.argsort(dim=1, descending=True, stable=True))
    return ranked[mixed].mean(0).tolist() if bool(mixed.any()) else []


def _survival(rows: list[dict[str, Any]]) -> list[float]:
    """At each step of the beam search, among questions with candidates that lead to the right answer, those that keep one."""
    steps = [row[BEAM]["survival"] for row in rows if "survival" in row.get(BEAM, {})]
    shares = []
    for pruned in zip(*steps, strict=True):
        had = [question for question in pruned if question["right"]]
        shares.append(sum(question["kept"] > 0 for question in had) / max(len(had), 1))
    return shares


def _right(row: dict[str, Any], given: dict[str, Any]) -> float:
    return float(
        given["answer"] is not None
        and stored_answer(given["answer"]) == stored_answer(row["answer"])
    )
