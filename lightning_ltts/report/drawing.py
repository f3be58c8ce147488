"""What the report's figures have in common: axes, curves with intervals, the line to beat."""

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.colors import sample_colorscale
from torch import Tensor

from lightning_ltts.analysis.method_names import (
    ADAPTIVE,
    FIRST,
    GREEDY,
    MAJORITY,
    PASS,
)
from lightning_ltts.analysis.methods import searches_of
from lightning_ltts.report.colors import NEUTRAL, color_of
from lightning_ltts.report.runs import Run
from lightning_ltts.report.words import words_of
from lightning_ltts.voting.bootstrap import bootstrap_interval

Titled = tuple[str, str, go.Figure]  # title, one sentence that explains it, figure
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")


def new_figure(
    x: str, y: str, ticks: float | str | None = None, log: bool = False, percent: bool = True
) -> go.Figure:
    """An empty figure.

    Args:
        x: title of the horizontal axis.
        y: title of the vertical axis.
        ticks: distance of ticks on the horizontal axis; by default plotly's choice.
        log: whether the horizontal axis is logarithmic, by default with a tick at 1, 2 and 5.
        percent: whether the vertical axis shows shares.
    """
    layout = {"template": "plotly_white", "xaxis_title": x, "yaxis_title": y, "height": 400}
    figure = go.Figure(layout=layout)
    figure.update_layout(margin={"l": 60, "r": 15, "t": 20, "b": 50}, showlegend=True)
    if log:
        figure.update_xaxes(type="log", dtick=ticks or "D2", tickformat="~s")
    elif ticks is not None:
        figure.update_xaxes(dtick=ticks)
    if percent:
        figure.update_yaxes(tickformat=".0%", hoverformat=".1%")
    return figure


def drawn(run: Run, runs: Sequence[Run]) -> dict[str, bool]:
    """The methods of a run that a figure has -> whether they are drawn, or can be turned on.

    A few say what there is to say; of several runs, those that were drawn for one can be turned
    on, and the rest is in the tables. What has no cost of its own, pass@1 and drawing that stops
    early, is in none.
    """
    names = [
        m.name for m in run.summary.methods if m.name != PASS and not m.name.startswith(ADAPTIVE)
    ]
    first = [name for name in names if name in (*FIRST, *searches_of(run.rows))]
    if len(runs) == 1:
        return {name: name in first for name in names}
    few = {GREEDY, run.summary.answer.method, *([MAJORITY] if len(runs) == 2 else [])}
    return {name: name in few for name in first}


def method_color(method: str, runs: Sequence[Run]) -> str:
    """The colour of a method in the figures of these runs."""
    return color_of(method, [m.name for run in runs for m in run.summary.methods])


def run_color(run: Run, runs: Sequence[Run]) -> str:
    """The colour of a run where runs are compared, not methods: from dark to light."""
    place = (runs.index(run) + 1) / (len(runs) + 1)
    return NEUTRAL if len(runs) == 1 else str(sample_colorscale("Viridis", [place])[0])


def curve(
    run: Run,
    method: str,
    points: Mapping[int, Tensor] | Mapping[float, Tensor],
    runs: Sequence[Run],
) -> go.Scatter:
    """Mean accuracies with 95 % intervals.

    Args:
        run: whose they are.
        method: name of the method, which gives colour, title, and whether it is drawn at first.
        points: place on the horizontal axis -> accuracy on each question (Q,).
        runs: all runs of the figure; the place among them gives the dash.
    """
    means = [float(values.mean()) for values in points.values()]
    intervals = [bootstrap_interval(values) for values in points.values()]
    places, title = [round(x, 5) for x in points], words_of(method).title
    trace = line(run, title, places, means, runs, method_color(method, runs))
    trace.error_y = error_bars(means, intervals)
    trace.visible = True if drawn(run, runs).get(method, True) else "legendonly"
    return trace


def error_bars(means: Sequence[float], intervals: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """Intervals about means, as plotly has them."""
    pairs = list(zip(means, intervals, strict=True))
    return {
        "type": "data",
        "symmetric": False,
        "thickness": 1,
        "width": 3,
        "array": rounded([high - mean for mean, (_, high) in pairs]),
        "arrayminus": rounded([mean - low for mean, (low, _) in pairs]),
    }


def add_line_to_beat(figure: go.Figure, runs: Sequence[Run]) -> None:
    """Draws greedy decoding's accuracy across the figure; runs that agree have one line."""
    levels: dict[float, list[str]] = {}
    for run in runs:
        levels.setdefault(round(run.summary[GREEDY], 4), []).append(run.name)
    for place, (accuracy, names) in enumerate(sorted(levels.items(), reverse=True)):
        whose = f" ({', '.join(names)})" if len(levels) > 1 else ""
        figure.add_hline(
            y=accuracy,
            line={"dash": "dash", "color": NEUTRAL, "width": 1.5},
            annotation={"text": f"greedy{whose} {accuracy:.1%}", "font": {"size": 12}},
            # two that are near each other do not write over each other
            annotation_position="bottom right" if place else "top right",
        )


def line(
    run: Run,
    name: str,
    x: Sequence[float],
    y: Sequence[float],
    runs: Sequence[Run],
    color: str,
    mode: str = "lines+markers",
) -> go.Scatter:
    """A line of one run among several, without intervals."""
    return go.Scatter(
        x=list(x),
        y=rounded(y),
        name=label(run, name, runs),
        mode=mode,
        line={"color": color, "dash": _DASHES[runs.index(run) % len(_DASHES)]},
    )


def label(run: Run, name: str, runs: Sequence[Run]) -> str:
    """What a legend says: the run's name only where there are several."""
    return name if len(runs) == 1 else f"{run.name}: {name}"


def rounded(values: Sequence[float] | Tensor) -> list[float]:
    """Values as a page holds them."""
    return [round(float(value), 4) for value in values]


def is_worth_drawing(figure: go.Figure) -> bool:
    """Whether a figure has more than dots above one place."""
    if any(trace.type != "scatter" for trace in figure.data):
        return True
    return len({x for trace in figure.data for x in trace.x or ()}) > 1
