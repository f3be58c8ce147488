"""Figures of what the extra compute bought: accuracy against samples, token forwards, seconds, and difficulty."""

import math
from collections.abc import Callable, Sequence

import plotly.graph_objects as go
import torch
from torch import Tensor

from lightning_ltts.analysis.methods import COVERAGE, GREEDY, GROWING, Method
from lightning_ltts.report.drawing import Titled, curve, level, new_figure
from lightning_ltts.report.runs import Run


def accuracy_figures(runs: Sequence[Run]) -> list[Titled]:
    """Accuracy against N, pass@k, compute, steps, difficulty and seconds, where the runs hold what they need."""
    figures = [
        (title, about, figure)
        for title, about, figure in (
            (
                "Accuracy against compute",
                "FLOPs per question, of all that a method needs: prompts, the greedy trajectory where "
                "it is read, samples or beams, and the LatentRM. Methods at the same place on the axis "
                "cost the same.",
                _by_cost(runs, "flops", "FLOPs per question"),
            ),
            (
                "Accuracy against positions",
                "Token forwards per question, likewise of all that a method needs, whatever the size "
                "of the model that reads them.",
                _by_cost(runs, "token_forwards", "token forwards per question"),
            ),
        )
        if figure.data
    ]
    figures += [
        (
            "Accuracy against N",
            "Each selection with N samples, 95 % bootstrap intervals over questions; coverage is the oracle that always finds "
            "a right sample, greedy takes one trajectory.",
            _by_samples(runs),
        ),
        (
            "Coverage (pass@k)",
            "The share of questions with a right answer among k samples, unbiased, with 95 % intervals.",
            _pass_at_k(runs),
        ),
    ]
    if any(len({row.get("steps", 0) for row in run.rows}) > 1 for run in runs):
        figures.append(
            (
                "Accuracy by steps",
                "Questions by the number of steps of their reference solution, with 95 % intervals over each part.",
                _strata(
                    runs,
                    "steps of the reference solution",
                    lambda run: [row.get("steps", 0) for row in run.rows],
                    1,
                ),
            )
        )
    figures.append(
        (
            "Accuracy by difficulty",
            "Questions by the share of right samples, in quarters: selection can help where it is neither 0 nor 1.",
            _strata(
                runs,
                "right samples, up to (%)",
                lambda run: _quarters(run.pool.correct.mean(1)),
                25,
            ),
        )
    )
    clock = _by_seconds(runs)
    if clock.data:
        figures.append(
            (
                "Accuracy against seconds",
                "Wall clock per question on the machine that predicted, reading the prompt and, where it is used, scoring "
                "included; runs are comparable where the machine was the same and did nothing else.",
                clock,
            )
        )
    return figures


def _by_samples(runs: Sequence[Run]) -> go.Figure:
    figure = new_figure("samples per question, N", "accuracy", log=True)
    for run in runs:
        for name, points in run.summary.curve_values.items():
            figure.add_trace(curve(run, name, points, runs))
        figure.add_trace(level(run, GREEDY, list(run.summary.curves[COVERAGE]), runs))
    return figure


def _pass_at_k(runs: Sequence[Run]) -> go.Figure:
    figure = new_figure("samples per question, k", "pass@k", log=True)
    for run in runs:
        figure.add_trace(curve(run, COVERAGE, run.summary.curve_values[COVERAGE], runs))
    return figure


def _by_cost(runs: Sequence[Run], unit: str, title: str) -> go.Figure:
    figure = new_figure(title, "accuracy", log=True)
    for run in runs:
        curves = run.summary.curve_values
        for method in _shown(run):
            growing = run.cost(unit, *(part for part in method.parts if part in GROWING))
            fixed = run.cost(unit, *(part for part in method.parts if part not in GROWING))
            if growing is None or fixed is None:
                continue
            by_n = curves.get(method.name, {method.n or run.drawn: method.values})
            points = {fixed + growing * n / run.drawn: values for n, values in by_n.items()}
            figure.add_trace(curve(run, method.name, points, runs))
    return figure


def _by_seconds(runs: Sequence[Run]) -> go.Figure:
    figure = new_figure("seconds per question", "accuracy")
    for run in runs:
        for method in _shown(run):
            seconds = run.seconds(*method.parts)
            if seconds is not None:
                figure.add_trace(curve(run, method.name, {seconds: method.values}, runs))
    return figure


def _strata(
    runs: Sequence[Run], title: str, part_of: Callable[[Run], Sequence[int]], dtick: int
) -> go.Figure:
    """Accuracy of each part of the questions; `part_of` says which part each question is in."""
    figure = new_figure(title, "accuracy", dtick=dtick)
    for run in runs:
        parts = torch.tensor(part_of(run))
        for method in _shown(run):
            points = {int(part): method.values[parts == part] for part in parts.unique()}
            figure.add_trace(curve(run, method.name, points, runs))
    return figure


def _shown(run: Run) -> list[Method]:
    """Methods that stand for themselves: pass@1 is part of a curve, and drawing that stops early has no cost of its own."""
    return [
        m for m in run.summary.methods if m.name != "pass" and not m.name.startswith("adaptive_")
    ]


def _quarters(shares: Tensor) -> list[int]:
    """Shares (Q,) -> 0 for none, then the quarter's upper end in percent."""
    return [25 * math.ceil(4 * share - 1e-9) for share in shares.tolist()]
