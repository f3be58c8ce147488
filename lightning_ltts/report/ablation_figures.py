"""Figures of greedy decoding with its thoughts replaced."""

from collections.abc import Sequence

import plotly.graph_objects as go
from plotly.colors import qualitative

from lightning_ltts.report.drawing import Titled, label, new_figure, rounded
from lightning_ltts.report.runs import Run


def ablation_figures(runs: Sequence[Run]) -> list[Titled]:
    """Accuracy by what thoughts were replaced by, and at which step; empty where none were."""
    return [
        (
            title_of(run, runs),
            "Accuracy of greedy decoding with thoughts replaced, all of them or one of them, with 95 % "
            "intervals; the dotted line is greedy decoding with its own thoughts. Where bars reach it, "
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
            marker_color=qualitative.D3[number % len(qualitative.D3)],
            error_y={
                "type": "data",
                "symmetric": False,
                "thickness": 1,
                "array": rounded([line.interval[1] - line.accuracy for line in own]),
                "arrayminus": rounded([line.accuracy - line.interval[0] for line in own]),
            },
        )
    figure.add_hline(y=run.summary["greedy"], line_dash="dot")
    figure.update_yaxes(rangemode="tozero", tickformat=".0%")
    return figure
