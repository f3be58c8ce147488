"""`ltts report -o`: prediction runs as one HTML page that needs no network, as images, and as tables for a paper."""

import csv
import errno
import json
import os
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import torch
from jinja2 import Environment
from plotly.offline import get_plotlyjs

from lightning_ltts.analysis.statistics import mcnemar
from lightning_ltts.errors import ConfigError
from lightning_ltts.report.ablation_figures import ablation_figures
from lightning_ltts.report.accuracy_figures import accuracy_figures
from lightning_ltts.report.drawing import Titled
from lightning_ltts.report.runs import Run, same_problems
from lightning_ltts.report.score_figures import score_figures, survival_figure
from lightning_ltts.report.thought_figures import lens_tables, thought_figures
from lightning_ltts.voting.bootstrap import bootstrap_interval

_REST = ("p_value", "headroom", "samples_used")
DETAIL_BYTES = 9_000_000  # of questions and samples in a page; with plotting library and figures it stays under 15 MB
_ROW_BYTES = 150  # of a question beside its text and samples


def write_html(runs: Sequence[Run], path: Path) -> None:
    """One page with figures, tables and questions of one or several runs.

    Where the samples of all questions would make it too large, the questions that come last are listed without theirs, and
    the page says so.
    """
    tabs = {
        "Accuracy": accuracy_figures(runs),
        "LatentRM": [*score_figures(runs), *survival_figure(runs)],
        "Thoughts": [*ablation_figures(runs), *thought_figures(runs)],
    }
    figures = [(tab, *titled) for tab, made in tabs.items() for titled in made]
    texts = sum(
        len(row.get("question", "").encode()) + _ROW_BYTES for run in runs for row in run.rows
    )
    questions, left = [], max(DETAIL_BYTES - texts, 0)
    for run in runs:
        table, used = question_table(run, left)
        questions.append(table)
        left -= used
    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
        files(__package__).joinpath("report.html").read_text("utf-8")
    )
    page = template.render(
        tabs=tabs,
        runs=runs,
        notes=notes(runs),
        between=between_runs(runs),
        lens={run.name: tables for run in runs if (tables := lens_tables(run))},
        plotly=get_plotlyjs(),
        figures=_json([json.loads(figure.to_json()) for *_, figure in figures]),
        questions=_json(questions),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")


def notes(runs: Sequence[Run]) -> list[str]:
    """What a reader must know before comparing."""
    said = []
    if not same_problems(runs):
        said.append(
            "These runs are of different problems: their accuracies are side by side, but not comparable."
        )
    for run in runs:
        if run.pool.scores is None:
            said.append(
                f"{run.name} was predicted without a LatentRM: it has votes and coverage, and no scores."
            )
        if run.num_samples == 1:
            said.append(f"{run.name} has one sample per question: every selection takes it.")
        if not bool(run.pool.correct.any()):
            said.append(
                f"{run.name} has no right sample at all, so that no selection can be told from another."
            )
        elif bool(run.pool.correct.all()):
            said.append(
                f"{run.name} has no wrong sample at all, so that no selection can be told from another."
            )
    return said


def between_runs(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Paired comparison of each further run with the first, method by method; empty where the problems differ."""
    if len(runs) < 2 or not same_problems(runs):
        return []
    first, lines = runs[0], []
    places = {row["id"]: i for i, row in enumerate(first.rows)}
    for run in runs[1:]:
        order = torch.tensor([places[row["id"]] for row in run.rows])
        for method in run.summary.methods:
            other = first.summary.method(method.name)
            if other is None:
                continue
            gain = method.values - other.values[order]
            low, high = bootstrap_interval(gain)
            p = mcnemar(method.values, other.values[order]) if method.chooses else None
            line = {
                "run": run.name,
                "against": first.name,
                "method": method.title,
                "gain": float(gain.mean()),
            }
            lines.append(line | {"low": low, "high": high, "p": p})
    return lines


def question_table(run: Run, limit: int) -> tuple[dict[str, Any], int]:
    """Every question for the page's table, and the bytes that its samples take.

    Args:
        run: whose questions.
        limit: bytes of samples that there is room for; questions beyond are listed without theirs.
    """
    methods = [method for method in run.summary.methods if method.chooses]
    right = torch.stack([method.values for method in methods]).T.tolist()
    choices = torch.stack(list(run.choices.values())).T.tolist()
    questions: list[dict[str, Any]] = []
    used, shown = 0, 0
    for i, row in enumerate(run.rows):
        samples = _samples_of(run, i)
        size = len(json.dumps(samples, separators=(",", ":")))
        fits = used + size <= limit
        used, shown = used + size * fits, shown + fits
        questions.append(
            {
                "id": row["id"],
                "text": row.get("question", ""),
                "answer": row["answer"],
                "greedy": row["greedy"]["answer"],
                "share": round(float(run.pool.correct[i].mean()), 3),  # of right samples
                "right": [round(value, 3) for value in right[i]],  # of each method
                "chosen": choices[i],  # sample of each selection, -1 for none
                "samples": samples if fits else None,
            }
        )
    table = {
        "run": run.name,
        "methods": [{"name": method.name, "title": method.title} for method in methods],
        "selections": list(run.choices),
        "shown": shown,
        "questions": questions,
    }
    return table, used


def _samples_of(run: Run, question: int) -> dict[str, list[Any]]:
    """The samples of a question in columns, which take half the room of an object for each."""
    samples, scores = run.rows[question]["samples"], run.pool.scores
    steps = [
        [*s.get("scores", []), *([s["answer_score"]] if "answer_score" in s else [])]
        for s in samples
    ]
    return {
        "answer": [sample["answer"] for sample in samples],
        "right": [int(right) for right in run.pool.correct[question].tolist()],
        "score": [] if scores is None else [round(score, 3) for score in scores[question].tolist()],
        "steps": [[round(x, 2) for x in of_sample] for of_sample in steps],
    }


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


def write_png(runs: Sequence[Run], folder: Path) -> list[Path]:
    """Every figure as an image.

    Raises:
        ConfigError: kaleido, which draws them, or the browser that it needs is not there.
        OSError: the folder cannot be written.
    """
    made: list[Titled] = [
        *accuracy_figures(runs),
        *score_figures(runs),
        *survival_figure(runs),
        *ablation_figures(runs),
        *thought_figures(runs),
    ]
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    images = [_image(figure) for _, _, figure in made]  # nothing is written where this fails
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for (title, *_), image in zip(made, images, strict=True):
        name = "".join(c if c.isalnum() else "_" for c in title.lower()).strip("_")
        paths.append(folder / f"{name}.png")
        paths[-1].write_bytes(image)
    return paths


def _image(figure: go.Figure) -> bytes:
    """A figure as PNG."""
    try:
        image: bytes = figure.to_image("png", width=900, height=540, scale=2)
        return image
    except (
        ValueError,
        ImportError,
        RuntimeError,
    ) as error:  # by the versions of plotly and kaleido
        said = str(error).lower()
        if "chrome" in said:
            raise ConfigError(
                "--png needs Chrome or Chromium, which kaleido draws with; install it from your system's packages"
            ) from error
        if "kaleido" in said:
            raise ConfigError(
                "--png needs the package kaleido; install it with pip install 'lightning-ltts[png]'"
            ) from error
        raise


def _json(value: Any) -> str:
    """For a script element: a tag in a question must not end it."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")
