"""What the report's figures have in common: colours, axes, curves with intervals."""

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go
from plotly.colors import qualitative
from torch import Tensor

from lightning_ltts.analysis.methods import COVERAGE, GREEDY
from lightning_ltts.report.runs import Run
from lightning_ltts.voting import selection
from lightning_ltts.voting.bootstrap import bootstrap_interval

Titled = tuple[str, str, go.Figure]  # title, one sentence that explains it, figure
RIGHT, WRONG = "#2ca02c", "#d62728"
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
_PALETTE = [*qualitative.D3, *qualitative.Dark24]


def color_of(method: str, runs: Sequence[Run]) -> str:
    """The colour of a method, the same in every figure of a report.

    Those that every run has come first, so that they look alike in all reports; tree searches
    follow in the order of the runs.
    """
    known = [kind.name for kind in selection.SELECTIONS]
    known += [f"adaptive_{selection.Majority.name}", COVERAGE, GREEDY]
    others = [m.name for run in runs for m in run.summary.methods if m.name not in known]
    order = [*known, *dict.fromkeys(others), method]
    return str(_PALETTE[order.index(method) % len(_PALETTE)])


def new_figure(x: str, y: str, log: bool = False, dtick: float | None = None) -> go.Figure:
    """An empty figure.

    Args:
        x: title of the horizontal axis.
        y: title of the vertical axis.
        log: whether the horizontal axis is logarithmic, with a tick for each doubling.
        dtick: distance of ticks on the horizontal axis; by default plotly's choice.
    """
    layout = {"template": "plotly_white", "xaxis_title": x, "yaxis_title": y, "height": 460}
    figure = go.Figure(layout=layout)
    figure.update_layout(
        margin={"l": 60, "r": 20, "t": 20, "b": 50}, legend={"groupclick": "togglegroup"}
    )
    if log:
        figure.update_xaxes(type="log", dtick=0.30103, tickformat="~s")
    elif dtick is not None:
        figure.update_xaxes(dtick=dtick)
    return figure


def curve(
    run: Run,
    method: str,
    points: Mapping[int, Tensor] | Mapping[float, Tensor],
    runs: Sequence[Run],
) -> go.Scatter:
    """Mean accuracies with 95 % intervals.

    Args:
        run: whose they are.
        method: name of the method, which gives the colour.
        points: place on the horizontal axis -> accuracy on each question (Q,).
        runs: all runs of the figure; the place among them gives the dash.
    """
    means = [float(values.mean()) for values in points.values()]
    bounds = [bootstrap_interval(values) for values in points.values()]
    trace = line(run, method, [round(x, 5) for x in points], means, runs, color_of(method, runs))
    above = [high - mean for mean, (_, high) in zip(means, bounds, strict=True)]
    below = [mean - low for mean, (low, _) in zip(means, bounds, strict=True)]
    trace.error_y = {
        "type": "data",
        "symmetric": False,
        "thickness": 1,
        "array": rounded(above),
        "arrayminus": rounded(below),
    }
    return trace


def level(run: Run, method: str, at: Sequence[int], runs: Sequence[Run]) -> go.Scatter:
    """A method that takes no samples, as a dotted line over these places."""
    accuracy = [run.summary[method]] * len(at)
    return line(run, method, at, accuracy, runs, color_of(method, runs), dash="dot")


def line(
    run: Run,
    name: str,
    x: Sequence[float],
    y: Sequence[float],
    runs: Sequence[Run],
    color: str,
    mode: str = "lines+markers",
    dash: str | None = None,
) -> go.Scatter:
    """A line of one run among several, without intervals."""
    return go.Scatter(
        x=list(x),
        y=rounded(y),
        name=label(run, name, runs),
        legendgroup=run.name if len(runs) > 1 else None,
        mode=mode,
        line={"color": color, "dash": dash or _DASHES[runs.index(run) % len(_DASHES)]},
    )


def label(run: Run, name: str, runs: Sequence[Run]) -> str:
    """What a legend says: the run's name only where there are several."""
    return name if len(runs) == 1 else f"{run.name}: {name}"


def rounded(values: Sequence[float] | Tensor) -> list[float]:
    """Values as a page holds them."""
    return [round(float(value), 4) for value in values]
