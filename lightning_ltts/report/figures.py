"""All figures of a report."""

from collections.abc import Sequence

from lightning_ltts.report.ablation_figures import ablation_figures
from lightning_ltts.report.accuracy_figures import accuracy_figures
from lightning_ltts.report.drawing import Titled
from lightning_ltts.report.runs import Run
from lightning_ltts.report.score_figures import score_figures, survival_figure
from lightning_ltts.report.thought_figures import thought_figures


def figures_by_tab(runs: Sequence[Run]) -> dict[str, list[Titled]]:
    """The tabs of the page that hold figures -> their figures, the most important first."""
    return {
        "Accuracy": accuracy_figures(runs),
        "LatentRM": [*score_figures(runs), *survival_figure(runs)],
        "Thoughts": [*ablation_figures(runs), *thought_figures(runs)],
    }
