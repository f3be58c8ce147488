"""What a prediction run writes to loggers."""

from lightning_ltts.analysis.method_names import PASS
from lightning_ltts.analysis.rows import Rows
from lightning_ltts.analysis.summary import Summary
from lightning_ltts.monitoring.boards import Board
from lightning_ltts.report.picture import scaling_figure


def log_predictions(board: Board, summary: Summary, rows: Rows, per_second: float | None) -> None:
    """Accuracy against N as scalars (the step is N) and as a figure; cost and speed as a table.

    Args:
        board: where to.
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
    curves = {**levels, **summary.curves}
    for n in sizes:  # a logger's steps run upwards
        at = {f"predict/{name}": curve[n] for name, curve in curves.items() if n in curve}
        board.scalars(at, n)
    others = {}
    for part, cost in rows.costs.items():
        ratio = cost["token_forwards"] / max(cost["tree_nodes"], 1 / len(rows))
        others[f"predict/token_forward_ratio/{part}"] = ratio
    if per_second is not None:
        others["predict/questions_per_second"] = per_second
    board.table("predict/cost", others)
    board.figure("predict/accuracy_against_n", scaling_figure(summary))
    board.flush()
