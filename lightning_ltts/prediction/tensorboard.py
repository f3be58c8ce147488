"""What a prediction run writes to TensorBoard."""

from typing import Any

from torch.utils.tensorboard import SummaryWriter

from lightning_ltts.analysis.method_names import PASS
from lightning_ltts.analysis.summary import Summary
from lightning_ltts.report.picture import scaling_figure


def log_predictions(
    writer: SummaryWriter, summary: Summary, rows: list[dict[str, Any]], per_second: float | None
) -> None:
    """Accuracy against N as scalars (the step is N) and as a figure, the cost, and the speed.

    Args:
        writer: where to.
        summary: of the run.
        rows: its predictions.
        per_second: questions per second and device; none where all had been predicted before.
    """
    sizes = next(iter(summary.curves.values()))
    # what has one number of samples, or none, is a level, to be compared with the curves
    levels = {
        line.method: dict.fromkeys(sizes, line.accuracy)
        for line in summary.lines
        if line.method not in (*summary.curves, PASS)
    }
    for name, curve in {**levels, **summary.curves}.items():
        for n, accuracy in curve.items():
            writer.add_scalar(f"predict/{name}", accuracy, n)
    for part in rows[0]["cost"]:
        forwards, nodes = (
            sum(row["cost"][part][name] for row in rows)
            for name in ("token_forwards", "tree_nodes")
        )
        writer.add_scalar(f"predict/token_forward_ratio/{part}", forwards / max(nodes, 1), 0)
    if per_second is not None:
        writer.add_scalar("predict/questions_per_second", per_second, 0)
    writer.add_figure("predict/accuracy_against_n", scaling_figure(summary))
    writer.flush()
