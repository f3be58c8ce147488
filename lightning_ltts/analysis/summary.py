"""What the extra compute bought: accuracies with intervals, and curves over N, from prediction rows alone."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from torch import Tensor

from lightning_ltts.analysis.ablation import ablation_lines
from lightning_ltts.analysis.comparisons import at_dearest, find_recoverable, lines_of
from lightning_ltts.analysis.method_names import COVERAGE, GREEDY_MAJORITY, PASS
from lightning_ltts.analysis.methods import (
    GREEDY_VOTES,
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
from lightning_ltts.analysis.result import Result
from lightning_ltts.analysis.rows import Rows
from lightning_ltts.errors import DataError
from lightning_ltts.voting.adaptive import Adaptive, BetaStopping, StoppingRule
from lightning_ltts.voting.estimates import pass_at_k
from lightning_ltts.voting.selection import (
    AgreeingBestOfN,
    Majority,
    Selection,
    WeightedVote,
    fitted_in,
    selections,
)
from lightning_ltts.voting.votes import mixed_questions

GREEDY_COUNTED = 4  # samples that the greedy answer counts as, where that was not chosen


@dataclass(frozen=True)
class Summary(Result):
    """The result of a prediction run, with what it was computed from."""

    # what the lines sum up, question by question
    methods: list[Method] = field(default_factory=list, repr=False)
    # method -> N -> accuracy on each question (Q,)
    curve_values: dict[str, dict[int, Tensor]] = field(default_factory=dict, repr=False)

    def method(self, name: str) -> Method | None:
        """The method of this name, `@N` left out; None where the run has none."""
        return next((method for method in self.methods if method.name == name), None)


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
        len(rows), against, found, lines, means, by_rank, traced, replaced, methods, curves
    )


def selections_for(
    rows: Sequence[dict[str, Any]], pool: SamplePool, temperature: float | None = None
) -> list[Selection]:
    """The selections that stored samples allow, with parameters fitted on validation where none are given.

    They were fitted for sums of scores. A mean over T steps is a sum at 1 / T of what divides or is added to it; other rules
    take them as they are.
    """
    fitted = dict(fitted_in(rows[0]))
    if pool.steps is not None and pool.steps.rule == "mean":
        steps = float(pool.steps.mask.sum(-1).mean())
        for name in {WeightedVote.parameter, AgreeingBestOfN.parameter} & set(fitted):
            fitted[name] /= max(steps, 1.0)
    given = {} if temperature is None else {WeightedVote.parameter: temperature}
    return selections({**fitted, **given}, pool.signals)


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
