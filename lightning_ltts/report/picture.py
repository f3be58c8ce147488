"""Accuracy against N as one small picture, with matplotlib: for TensorBoard, and as a file for a page."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from torch import Tensor

from lightning_ltts.analysis.method_names import COVERAGE, FIRST, GREEDY
from lightning_ltts.analysis.summary import Summary
from lightning_ltts.report.colors import color_of
from lightning_ltts.report.words import words_of
from lightning_ltts.voting.bootstrap import bootstrap_interval


def scaling_figure(summary: Summary, intervals: bool = False) -> Figure:
    """Draws accuracy against the number of samples, one line for each of a few methods, and greedy decoding as a level.

    Colours and names are those of the report's page.

    Args:
        summary: the prediction run.
        intervals: shade 95 % bootstrap intervals over questions.
    """
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name in (name for name in FIRST if name in summary.curves):
        curve, color = summary.curves[name], color_of(name)
        axes.plot(
            list(curve), list(curve.values()), marker="o", color=color, label=words_of(name).title
        )
        if intervals and name != COVERAGE:
            low, high = _bounds(summary.curve_values[name])
            axes.fill_between(list(curve), low, high, color=color, alpha=0.12, linewidth=0)
    greedy = f"greedy {summary[GREEDY]:.1%}"
    axes.axhline(summary[GREEDY], color=color_of(GREEDY), linestyle="--", label=greedy)
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes := list(summary.curves[COVERAGE]), [str(size) for size in sizes])
    axes.set_xlabel("samples per problem, N")
    axes.set_ylabel("accuracy")
    axes.set_title(f"{summary.num_problems} problems")
    axes.legend(fontsize="small")
    return figure


def write_svg(summary: Summary, path: Path) -> None:
    """Writes the picture; the same predictions give the same file, byte for byte."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context({"svg.hashsalt": "lightning_ltts", "svg.fonttype": "none"}):
        scaling_figure(summary, intervals=True).savefig(path, format="svg", metadata={"Date": None})


def _bounds(curve: Mapping[int, Tensor]) -> tuple[list[float], list[float]]:
    bounds = [bootstrap_interval(values) for values in curve.values()]
    return [low for low, _ in bounds], [high for _, high in bounds]
