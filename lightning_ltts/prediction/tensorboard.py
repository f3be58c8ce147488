"""What a prediction run writes to TensorBoard."""

from torch.utils.tensorboard import SummaryWriter

from lightning_ltts.analysis.rows import Rows
from lightning_ltts.analysis.summary import Summary
from lightning_ltts.report.picture import scaling_figure


def log_predictions(
    writer: SummaryWriter, summary: Summary, rows: Rows, per_second: float | None
) -> None:
    """Accuracy against N as scalars (the step is N) and as a figure, the cost, and the speed.

    Args:
        writer: where to.
        summary: of the run.
        rows: its predictions.
        per_second: questions per second and device; none where all had been predicted before.
    """
    sizes = next(iter(summary.curves.values()))
    for name, curve in {
        "greedy": dict.fromkeys(sizes, summary["greedy"]),
        **summary.curves,
    }.items():
        for n, accuracy in curve.items():
            writer.add_scalar(f"predict/{name}", accuracy, n)
    for part, cost in rows.costs.items():
        ratio = cost["token_forwards"] / max(cost["tree_nodes"], 1 / len(rows))
        writer.add_scalar(f"predict/token_forward_ratio/{part}", ratio, 0)
    if per_second is not None:
        writer.add_scalar("predict/questions_per_second", per_second, 0)
    writer.add_figure("predict/accuracy_against_n", scaling_figure(summary))
    writer.flush()
