"""Figures of greedy decoding with its thoughts replaced."""

from collections.abc import Sequence

import plotly.graph_objects as go

from lightning_ltts.report.colors import SPARE
from lightning_ltts.report.drawing import (
    Titled,
    add_line_to_beat,
    error_bars,
    label,
    new_figure,
    rounded,
)
from lightning_ltts.report.runs import Run


def ablation_figures(runs: Sequence[Run]) -> list[Titled]:
    """Accuracy by what thoughts were replaced by, and at which step; empty where none were."""
    return [
        (
            title_of(run, runs),
            "Accuracy of greedy decoding with thoughts replaced, all of them or one of them, with 95 % "
            "intervals; the dashed line is greedy decoding with its own thoughts. Where bars reach it, "
            "the answer does not depend on these thoughts.",
            _figure(run, runs),
        )
        for run in runs
        if run.summary.replaced
    ]


def title_of(run: Run, runs: Sequence[Run]) -> str:
    """The figure's title, with the run's name where there are several."""
    return label(run, "Do the thoughts matter?", runs)


def _figure(run: Run, runs: Sequence[Run]) -> go.Figure:
    figure, lines = new_figure("thoughts that are replaced", "accuracy"), run.summary.replaced
    for number, by in enumerate(dict.fromkeys(line.by for line in lines)):
        own = [line for line in lines if line.by == by]
        figure.add_bar(
            x=[line.place for line in own],
            y=rounded([line.accuracy for line in own]),
            name=own[0].title,
            marker_color=SPARE[number % len(SPARE)],
            error_y=error_bars([x.accuracy for x in own], [x.interval for x in own]),
        )
    add_line_to_beat(figure, [run])
    figure.update_yaxes(rangemode="tozero")
    return figure
