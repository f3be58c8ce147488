"""Figures of a summary, with matplotlib."""

from matplotlib.figure import Figure

from lightning_ltts.analysis.summary import Summary


def scaling_figure(summary: Summary) -> Figure:
    """Accuracy against the number of samples, one line per method; greedy as a level."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name, curve in summary.curves.items():
        axes.plot(list(curve), list(curve.values()), marker="o", label=name)
    axes.axhline(summary["greedy"], color="gray", linestyle=":", label="greedy")
    axes.set_xscale("log", base=2)
    axes.set_xlabel("samples per problem, N")
    axes.set_ylabel("accuracy")
    axes.set_title(f"{summary.num_problems} problems")
    axes.legend()
    return figure
