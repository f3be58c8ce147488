"""Compares methods on the same questions: each gets a line of the table."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from lightning_ltts.analysis.lines import Gain, Line
from lightning_ltts.analysis.method_names import COVERAGE, GREEDY_MAJORITY
from lightning_ltts.analysis.methods import (
    GROWING,
    Method,
    cost_of,
    greedy_majority,
    selected_accuracy,
)
from lightning_ltts.analysis.predictions import SamplePool
from lightning_ltts.analysis.statistics import headroom_closed, headroom_interval, mcnemar
from lightning_ltts.voting.bootstrap import bootstrap_interval
from lightning_ltts.voting.selection import Selection


def gain_of(differences: Tensor) -> Gain:
    """The mean of differences (Q,), one of each question, with its interval."""
    return Gain(float(differences.mean()), *bootstrap_interval(differences))


def lines_of(
    methods: Sequence[Method],
    compared: Method,
    majority: Tensor,
    oracle: Tensor,
    rows: Sequence[dict[str, Any]],
    drawn: int,
) -> list[Line]:
    """A line for each method, the first of which is greedy decoding.

    Args:
        methods: of one run.
        compared: the one that the others are compared with.
        majority: (Q,) accuracy of majority voting, where the headroom begins.
        oracle: (Q,) coverage, where it ends.
        rows: the run's predictions, which hold what everything took.
        drawn: samples of each question that were drawn, of which a method uses its own N.
    """
    greedy = methods[0]
    lines = [_compared(method, compared, greedy, majority, oracle) for method in methods]
    recoverable = find_recoverable(greedy, oracle)
    found = []
    for line, method in zip(lines, methods, strict=True):
        cost = cost_of(rows, method.parts, (method.n or 0) / drawn) or {}
        if method.chooses and method.as_greedy is not None:
            line = replace(line, as_greedy=method.as_greedy)
            if bool(recoverable.any()):
                line = replace(line, recovered=float(method.values[recoverable].mean()))
        # what stops early takes less than what was stored
        if method.name != COVERAGE and not method.name.startswith("adaptive_"):
            line = replace(line, positions=cost.get("token_forwards"), flops=cost.get("flops"))
        found.append(line)
    return found


def find_recoverable(greedy: Method, oracle: Tensor) -> Tensor:
    """(Q,) bool: questions that greedy decoding gets wrong and some sample right."""
    return (greedy.values == 0) & (oracle > 0)


def at_dearest(
    lines: Sequence[Line],
    methods: Sequence[Method],
    rows: Sequence[dict[str, Any]],
    pool: SamplePool,
    chosen_by: Sequence[Selection],
    counted: int,
) -> list[Line]:
    """The lines with what each selection reaches for as many FLOPs as the dearest method takes.

    That many samples can be more than were drawn; then it is what all of those reach.

    Args:
        lines: of the methods.
        methods: likewise.
        rows: the run's predictions.
        pool: all samples that were drawn.
        chosen_by: the selections among the methods.
        counted: as how many samples the greedy answer counts in `greedy_majority`.
    """
    flops = [line.flops for line in lines if line.flops is not None]
    if not flops:
        return list(lines)
    drawn, by_name, found = pool.votes.shape[1], {s.name: s for s in chosen_by}, []
    for line, method in zip(lines, methods, strict=True):
        growing = cost_of(rows, [part for part in method.parts if part in GROWING])
        fixed = cost_of(rows, [part for part in method.parts if part not in GROWING])
        repeats = method.name in by_name or method.name == GREEDY_MAJORITY
        if repeats and growing and fixed and growing.get("flops"):
            each = growing["flops"] / drawn
            n = min(drawn, max(1, int((max(flops) - fixed["flops"]) / each + 1e-6)))
            if method.name == GREEDY_MAJORITY:
                values = greedy_majority(pool, counted, n, shuffles=4)
            else:
                values = selected_accuracy(by_name[method.name], pool, n, shuffles=4)
            line = replace(line, at_dearest=(n, float(values.mean())))
        found.append(line)
    return found


def _compared(
    method: Method, compared: Method, greedy: Method, majority: Tensor, oracle: Tensor
) -> Line:
    """A method's accuracy, its differences to two others, and the headroom it closes."""
    values = method.values
    line = Line(method.name, method.n, float(values.mean()), bootstrap_interval(values))
    if method.chooses and method.name != greedy.name:
        line = replace(line, against_greedy=gain_of(values - greedy.values))
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
