"""Figures of what the extra compute bought: accuracy against compute, samples, seconds, difficulty."""

import math
from collections.abc import Callable, Sequence

import plotly.graph_objects as go
import torch
from torch import Tensor

from lightning_ltts.analysis.method_names import GREEDY
from lightning_ltts.analysis.methods import GROWING, Method
from lightning_ltts.report.drawing import (
    Titled,
    add_line_to_beat,
    curve,
    drawn,
    is_worth_drawing,
    new_figure,
)
from lightning_ltts.report.runs import Run

_DOUBLING = math.log10(2)  # distance of ticks, so that each doubles


def accuracy_figures(runs: Sequence[Run]) -> list[Titled]:
    """Accuracy against compute, N, FLOPs, steps, difficulty and seconds, where there is enough."""
    figures = [
        (
            "Accuracy against compute",
            "Token forwards per problem of all models, with 95 % intervals: prompts, the greedy "
            "trajectory where it is read, samples or beams, and all that the LatentRM reads. "
            "Methods at the same place cost the same.",
            _by_cost(runs, "token_forwards", "token forwards per problem"),
        ),
        (
            "Accuracy against N",
            "Each selection with N samples, with 95 % intervals; coverage is pass@N.",
            _by_samples(runs),
        ),
        (
            "Accuracy against FLOPs",
            "Token forwards weighed by the size of the model that reads them.",
            _by_cost(runs, "flops", "FLOPs per problem"),
        ),
        (
            "Accuracy by steps",
            "Problems by the number of steps of their reference solution.",
            _strata(
                runs,
                "steps of the reference solution",
                lambda run: [row.get("steps", 0) for row in run.rows],
                1,
            ),
        ),
        (
            "Accuracy by difficulty",
            "Problems by the share of right samples, in quarters: selection can help where it is "
            "neither 0 nor 1.",
            _strata(
                runs,
                "right samples, up to (%)",
                lambda run: _quarters(run.pool.correct.mean(1)),
                25,
            ),
        ),
        (
            "Accuracy against seconds",
            "Wall clock per problem on the machine that predicted, prompt and scoring included; "
            "runs compare where the machine was the same and did nothing else.",
            _by_seconds(runs),
        ),
    ]
    return [titled for titled in figures if is_worth_drawing(titled[2])]


def _by_samples(runs: Sequence[Run]) -> go.Figure:
    figure = new_figure("samples per problem, N", "accuracy", _DOUBLING, log=True)
    for run in runs:
        for name, points in run.summary.curve_values.items():
            if name in drawn(run, runs):
                figure.add_trace(curve(run, name, points, runs))
    add_line_to_beat(figure, runs)
    return figure


def _by_cost(runs: Sequence[Run], unit: str, title: str) -> go.Figure:
    figure = new_figure(title, "accuracy", log=True)
    for run in runs:
        curves = run.summary.curve_values
        for method in _drawn_methods(run, runs):
            growing = run.cost(unit, *(part for part in method.parts if part in GROWING))
            fixed = run.cost(unit, *(part for part in method.parts if part not in GROWING))
            if growing is None or fixed is None:
                continue
            by_n = curves.get(method.name, {method.n or run.drawn: method.values})
            points = {fixed + growing * n / run.drawn: values for n, values in by_n.items()}
            figure.add_trace(curve(run, method.name, points, runs))
    add_line_to_beat(figure, runs)
    return figure


def _by_seconds(runs: Sequence[Run]) -> go.Figure:
    figure = new_figure("seconds per problem", "accuracy")
    for run in runs:
        for method in _drawn_methods(run, runs):
            growing = run.seconds(*(part for part in method.parts if part in GROWING))
            fixed = run.seconds(*(part for part in method.parts if part not in GROWING))
            if growing is None or fixed is None:
                continue
            seconds = fixed + growing * run.num_samples / run.drawn  # as measured for all samples
            figure.add_trace(curve(run, method.name, {seconds: method.values}, runs))
    add_line_to_beat(figure, runs)
    figure.update_traces(marker_size=9)
    figure.update_xaxes(rangemode="tozero")
    return figure


def _strata(
    runs: Sequence[Run], title: str, part_of: Callable[[Run], Sequence[int]], ticks: int
) -> go.Figure:
    """Accuracy of each part of the problems; `part_of` says which part each problem is in."""
    figure = new_figure(title, "accuracy", ticks)
    for run in runs:
        parts = torch.tensor(part_of(run))
        for method in _drawn_methods(run, runs):
            points = {int(part): method.values[parts == part] for part in parts.unique()}
            trace = curve(run, method.name, points, runs)
            trace.line.dash = (
                "dash" if method.name == GREEDY and len(runs) == 1 else trace.line.dash
            )
            figure.add_trace(trace)
    return figure


def _drawn_methods(run: Run, runs: Sequence[Run]) -> list[Method]:
    """The methods of a run that a figure has."""
    return [method for method in run.summary.methods if method.name in drawn(run, runs)]


def _quarters(shares: Tensor) -> list[int]:
    """Shares (Q,) -> 0 for none, then the quarter's upper end in percent."""
    return [25 * math.ceil(4 * share - 1e-9) for share in shares.tolist()]
