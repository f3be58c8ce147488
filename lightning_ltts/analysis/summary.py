"""What the extra compute bought: accuracies with intervals, and curves over N, from prediction rows alone."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from textwrap import wrap
from typing import Any

from torch import Tensor

from lightning_ltts.analysis.ablation import ReplacedLine, ablation_lines, ablation_table
from lightning_ltts.analysis.lines import Line, at_dearest, find_recoverable, lines_of
from lightning_ltts.analysis.methods import (
    COVERAGE,
    GREEDY,
    GREEDY_MAJORITY,
    GREEDY_VOTES,
    PASS,
    Method,
    greedy_majority,
    greedy_majority_method,
    greedy_method,
    parts_of,
    search_methods,
    searches_of,
    selected,
    selected_accuracy,
    tuned_methods,
    with_samples,
)
from lightning_ltts.analysis.predictions import SamplePool, sample_pool
from lightning_ltts.analysis.rows import Rows
from lightning_ltts.errors import DataError
from lightning_ltts.voting.adaptive import Adaptive, BetaStopping, StoppingRule
from lightning_ltts.voting.estimates import pass_at_k
from lightning_ltts.voting.selection import (
    Majority,
    Selection,
    WeightedVote,
    fitted_in,
    selections,
)
from lightning_ltts.voting.votes import mixed_questions

GREEDY_COUNTED = 4  # samples that the greedy answer counts as, where that was not chosen
_NAME_WIDTH = 19  # of the table, so that all columns fit into 100


@dataclass(frozen=True)
class Summary:
    """The result of a prediction run."""

    num_problems: int
    against: str  # the method that gains are over
    recoverable: int  # problems where greedy decoding is wrong, and some sample right
    lines: list[Line]
    curves: dict[str, dict[int, float]]  # method -> N -> accuracy
    by_rank: list[
        float
    ]  # accuracy of the samples with the highest, second highest, ... score; empty without scores
    survival: dict[str, list[float]]  # tree search that was traced -> per step, see `_survival`
    methods: list[Method] = field(repr=False)  # what the lines sum up, question by question
    curve_values: dict[str, dict[int, Tensor]] = field(
        repr=False
    )  # method -> N -> accuracy on each question (Q,)
    replaced: list[ReplacedLine] = field(default_factory=list)  # greedy, with thoughts replaced

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
        fixed = {
            "num_problems": self.num_problems,
            "against": self.against,
            "recoverable": self.recoverable,
        }
        return {
            **fixed,
            "results": lines,
            "curves": self.curves,
            "by_rank": self.by_rank,
            "survival": self.survival,
            **({"replaced": [x.as_dict() for x in self.replaced]} if self.replaced else {}),
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
        for name, steps in self.survival.items():
            shares = ", ".join(f"{share:.1%}" for share in steps)
            rows += wrap(
                f"questions whose right branches survive each step of {name}: {shares}", 100
            )
        paired = "differences are paired, in points, with 95 % intervals; n: samples on average"
        return "\n".join(
            [
                f"{self.num_problems} problems; {paired}",
                *rows,
                "",
                *self._costs(),
                *ablation_table(self.replaced),
            ]
        )

    def _costs(self) -> list[str]:
        """Lines of a second table: what each method took, and how it differs from greedy decoding."""
        width = min(max(len(line.name) for line in self.lines), _NAME_WIDTH)
        heads = "as greedy  recovered  positions     MFLOPs  at the dearest's FLOPs"
        rows = [f"{'':{width}}  {heads}"]
        for line in self.lines:
            if line.as_greedy is None:  # gives no answer of its own
                continue
            cells = [f"{line.as_greedy:9.1%}"]
            cells.append(f"{'' if line.recovered is None else format(line.recovered, '.1%'):>9}")
            cells.append(f"{'' if line.positions is None else format(line.positions, '.0f'):>9}")
            mega = "" if line.flops is None else format(line.flops / 1e6, ".1f")
            cells.append(f"{mega:>9}")
            if line.at_dearest is not None:
                cells.append("{1:.1%} @{0}".format(*line.at_dearest))
            rows.append(f"{_cut(line.name, width):{width}}  {'  '.join(cells)}".rstrip())
        about = (
            f"recovered: of {self.recoverable} problems that greedy decoding gets wrong and some "
            "sample right"
        )
        return [*rows, about]

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
    """Sums up prediction rows: greedy, pass@1, coverage, every selection and every tree search.

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
    rows = Rows.of(rows)
    whole = sample_pool(rows, rule)  # which a budget may reach beyond `num_samples`
    if num_samples is not None:
        rows = rows.changed(partial(with_samples, num_samples=num_samples))
    pool = whole if num_samples is None else sample_pool(rows, rule)
    size = pool.correct.shape[1]
    scored = pool.scores is not None
    chosen_by = selections_for(rows, pool, temperature)

    # accuracy on every question, for each method at every N: all that follows is taken from these
    counted = int(fitted_in(rows[0]).get(GREEDY_VOTES, GREEDY_COUNTED))
    sizes = [2**i for i in range(size.bit_length()) if 2**i < size] + [size]
    curves = _curves(pool, chosen_by, sizes, counted)
    adaptive = Adaptive(Majority(), stopping or BetaStopping())
    greedy = greedy_method(rows)
    methods = [greedy]
    methods += [Method(PASS, 1, curves[COVERAGE][1], chooses=False)]
    methods += [Method(COVERAGE, size, curves[COVERAGE][size], chooses=False)] if size > 1 else []
    methods += [selected(s, pool, curves[s.name][size], parts_of(s, rows)) for s in chosen_by]
    adapted = selected_accuracy(adaptive, pool)
    extra = [selected(adaptive, pool, adapted, parts_of(Majority(), rows)), *tuned_methods(rows)]
    extra.append(greedy_majority_method(pool, counted))
    at = next(i for i, method in enumerate(methods) if method.name == Majority.name) + 1
    methods[at:at] = extra  # the rules without training stand together
    for name in searches_of(rows):
        methods += search_methods(name, rows, chosen_by, rule)

    # comparisons on the same questions
    compared = next((method for method in methods if method.name == against), None)
    if compared is None:
        known = ", ".join(method.name for method in methods)
        raise DataError(f"there is no method '{against}' to compare with; there are {known}")
    majority, oracle = curves[Majority.name][size], curves[COVERAGE][size]
    lines = lines_of(methods, compared, majority, oracle, rows, whole.votes.shape[1])
    lines = at_dearest(lines, methods, rows, whole, chosen_by, counted)
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
    traced = {name: steps for name in searches_of(rows) if (steps := _survival(name, rows))}
    found = int(find_recoverable(greedy, oracle).sum())
    replaced = ablation_lines(rows)
    return Summary(
        len(rows), against, found, lines, means, by_rank, traced, methods, curves, replaced
    )


def selections_for(
    rows: Sequence[dict[str, Any]], pool: SamplePool, temperature: float | None = None
) -> list[Selection]:
    """The selections that stored samples allow, with parameters fitted on validation where none are given."""
    given = {} if temperature is None else {WeightedVote.parameter: temperature}
    return selections({**fitted_in(rows[0]), **given}, pool.signals)


def _curves(
    pool: SamplePool, chosen_by: Sequence[Selection], sizes: Sequence[int], counted: int
) -> dict[str, dict[int, Tensor]]:
    """Coverage and each selection -> N -> accuracy on each question."""
    curves: dict[str, dict[int, Tensor]] = {
        COVERAGE: {k: pass_at_k(pool.correct, k) for k in sizes}
    }
    for selection in chosen_by:
        curves[selection.name] = {
            k: selected_accuracy(selection, pool, k, shuffles=4) for k in sizes
        }
        if type(selection) is Majority:  # beside it, in every figure
            curves[GREEDY_MAJORITY] = {k: greedy_majority(pool, counted, k, 4) for k in sizes}
    return curves


def _accuracy_by_rank(correct: Tensor, scores: Tensor) -> list[float]:
    """Share of right samples at each rank of the score, over questions with both right and wrong samples.

    It falls from left to right where the score means what it should; a low start shows that outliers are scored too high.
    """
    mixed = mixed_questions(correct)
    ranked = correct.gather(1, scores.argsort(dim=1, descending=True, stable=True))
    return ranked[mixed].mean(0).tolist() if bool(mixed.any()) else []


def _survival(search: str, rows: Sequence[dict[str, Any]]) -> list[float]:
    """At each step of a tree search, among questions with candidates that lead to the right answer, those that keep one.

    It is empty where the search was not traced.
    """
    steps = [row[search]["survival"] for row in rows if "survival" in row.get(search, {})]
    shares = []
    for pruned in zip(*steps, strict=True):
        had = [question for question in pruned if question["right"]]
        shares.append(sum(question["kept"] > 0 for question in had) / max(len(had), 1))
    return shares
