"""`ltts report --csv`: tables for a paper."""

import csv
from collections.abc import Sequence
from pathlib import Path

from lightning_ltts.report.runs import Run
from lightning_ltts.voting.bootstrap import bootstrap_interval

_REST = ("p_value", "headroom", "samples_used")


def write_csv(runs: Sequence[Run], folder: Path) -> None:
    """`results.csv`, `curves.csv` and `questions.csv`."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "results.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(
            (
                "run",
                "method",
                "accuracy",
                "low",
                "high",
                "against",
                "gain",
                "gain_low",
                "gain_high",
                *_REST,
            )
        )
        for run in runs:
            for line in run.summary.lines:
                gain = line.gain_interval or (None, None)
                given = (
                    run.name,
                    line.name,
                    line.accuracy,
                    *line.interval,
                    run.summary.against,
                    line.gain,
                    *gain,
                )
                writer.writerow(
                    "" if x is None else x
                    for x in (*given, *(getattr(line, name) for name in _REST))
                )
    with (folder / "curves.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("run", "method", "n", "accuracy", "low", "high"))
        for run in runs:
            for name, curve in run.summary.curve_values.items():
                writer.writerows(
                    (run.name, name, n, float(v.mean()), *bootstrap_interval(v))
                    for n, v in curve.items()
                )
    with (folder / "questions.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("run", "id", "method", "value"))
        for run in runs:
            for method in run.summary.methods:
                pairs = zip(run.rows, method.values.tolist(), strict=True)
                writer.writerows((run.name, row["id"], method.title, value) for row, value in pairs)
