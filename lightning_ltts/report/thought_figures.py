"""Figures of the space that thoughts explore, with plotly, for one or several prediction runs."""

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
import torch
from plotly.colors import qualitative
from plotly.subplots import make_subplots
from torch import Tensor

from lightning_ltts.analysis.methods import COVERAGE, PASS
from lightning_ltts.analysis.thought_store import StoredThoughts, read_thoughts
from lightning_ltts.analysis.thoughts import diversity, measures, project
from lightning_ltts.report.drawing import RIGHT, WRONG, Titled
from lightning_ltts.report.runs import Run

_QUESTIONS = 3  # that are projected
_POINTS = 400  # thoughts per run and question in a projection: t-SNE takes seconds for more
_SYMBOLS = (
    "circle",
    "square",
    "diamond",
    "cross",
    "triangle-up",
    "pentagon",
    "hexagon2",
    "star-triangle-up",
)
_KINDS = {"right": RIGHT, "wrong": WRONG, "deterministic": "black"}


def thought_figures(runs: Sequence[Run]) -> list[Titled]:
    """Projections, measures by step, and coverage against diversity; empty where no run stored thoughts."""
    stored = [(run, thoughts) for run in runs if (thoughts := read_thoughts(run.folder))]
    if not stored:
        return []
    common = set.intersection(*({t.id for t in thoughts} for _, thoughts in stored)) or {
        stored[0][1][0].id
    }
    names = [t.id for t in stored[0][1] if t.id in common][:_QUESTIONS]
    figures = [
        (
            f"Thoughts of {name}",
            "Every sample's thoughts in two dimensions, fitted on all runs together; the shape is the step, black is the "
            "deterministic trajectory, green and red say whether the sample's answer was right.",
            _projection(
                name, [(run, t) for run, thoughts in stored for t in thoughts if t.id == name]
            ),
        )
        for name in names
    ]
    figures.append(
        (
            "Exploration by step",
            "Means over the stored questions: distance of the samples' mean from the deterministic thought (drift), of "
            "samples from their mean (spread), evenness of the directions they spread in (isotropy), and cosine and "
            "Euclidean distance of pairs, and norms.",
            _measures(stored),
        )
    )
    figures.append(
        (
            "Coverage against diversity",
            "One point a run: coverage of all questions, with a 95 % interval, against 1 minus the mean pairwise cosine of the "
            "samples' thoughts at a step, over steps and stored questions. Give one run for each p or sigma.",
            _sweet_spot(stored),
        )
    )
    return figures


def lens_tables(run: Run) -> dict[str, list[dict[str, Any]]]:
    """Question -> what its thoughts say: rows of trajectory, step, tokens with their probabilities.

    Where a step decoder has read the thoughts, every row has the text of the step that is complete
    with its thought, nothing for others.
    """
    return {
        thoughts.id: [
            {
                "which": "deterministic" if row["sample"] is None else f"sample {row['sample']}",
                "step": row["step"] + 1,
                "tokens": [
                    f"{t!r} {p:.0%}"
                    for t, p in zip(row["tokens"], row["probabilities"], strict=True)
                ],
                **(
                    {"text": row.get("text", "")} if any("text" in r for r in thoughts.lens) else {}
                ),
            }
            for row in thoughts.lens
        ]
        for thoughts in read_thoughts(run.folder)[:_QUESTIONS]
    }


def _projection(name: str, runs: Sequence[tuple[Run, StoredThoughts]]) -> go.Figure:
    titles = [
        f"{method}, {run.name}: {run.rows[0].get('sampler', '')}"
        for method in ("PCA", "t-SNE")
        for run, _ in runs
    ]
    figure = make_subplots(2, len(runs), subplot_titles=titles, vertical_spacing=0.1)
    points = [_points(run, thoughts) for run, thoughts in runs]
    vectors = torch.cat([made for made, _ in points])
    for r, method in enumerate(("PCA", "t-SNE"), start=1):
        flat = project(vectors, method).split([len(made) for made, _ in points])
        for c, (xy, (_, labels)) in enumerate(zip(flat, points, strict=True), start=1):
            for kind, color in _KINDS.items():
                at = [i for i, (k, _, _) in enumerate(labels) if k == kind]
                if not at:
                    continue
                marker = {
                    "color": color,
                    "size": 12 if kind == "deterministic" else 6,
                    "opacity": 0.8,
                }
                symbols = [_SYMBOLS[labels[i][1] % len(_SYMBOLS)] for i in at]
                figure.add_trace(
                    go.Scatter(
                        x=[round(float(xy[i, 0]), 3) for i in at],
                        y=[round(float(xy[i, 1]), 3) for i in at],
                        text=[labels[i][2] for i in at],
                        hoverinfo="text",
                        mode="markers",
                        name=kind,
                        legendgroup=kind,
                        showlegend=r == c == 1,
                        marker={**marker, "symbol": symbols},
                    ),
                    row=r,
                    col=c,
                )
    figure.update_layout(
        template="plotly_white", height=760, margin={"l": 30, "r": 10, "t": 40, "b": 30}
    )
    return figure


def _points(run: Run, thoughts: StoredThoughts) -> tuple[Tensor, list[tuple[str, int, str]]]:
    """Thoughts (n, d), and of each its kind, step and text."""
    place = next(i for i, row in enumerate(run.rows) if row["id"] == thoughts.id)
    samples, correct = run.rows[place]["samples"], run.pool.correct[place].tolist()
    vectors, labels = [], []
    for t, made in enumerate(thoughts.deterministic):
        vectors.append(made)
        labels.append(("deterministic", t, f"step {t + 1}, deterministic"))
    for n, (sample, right) in enumerate(zip(samples, correct, strict=True)):
        for t in range(int(thoughts.counts[n])):
            if len(vectors) < _POINTS:
                vectors.append(thoughts.samples[n, t])
                labels.append(
                    (
                        "right" if right else "wrong",
                        t,
                        f"step {t + 1}, sample {n}: {sample['answer']}",
                    )
                )
    return torch.stack(vectors), labels


def _measures(stored: Sequence[tuple[Run, list[StoredThoughts]]]) -> go.Figure:
    made = [(run, measures(thoughts)) for run, thoughts in stored]
    names = list(dict.fromkeys(name for _, columns in made for name in columns)) or ["drift"]
    figure = make_subplots(2, 3, subplot_titles=names, vertical_spacing=0.14)
    for i, (run, columns) in enumerate(made):
        for k, (name, values) in enumerate(columns.items()):
            line = go.Scatter(
                x=list(range(1, len(values) + 1)),
                y=values,
                name=run.name,
                legendgroup=run.name,
                showlegend=k == 0,
                mode="lines+markers",
                line={"color": qualitative.D3[i % 10]},
            )
            figure.add_trace(line, row=names.index(name) // 3 + 1, col=names.index(name) % 3 + 1)
    figure.update_xaxes(dtick=1)
    figure.update_layout(
        template="plotly_white", height=620, margin={"l": 40, "r": 10, "t": 40, "b": 30}
    )
    return figure


def _sweet_spot(stored: Sequence[tuple[Run, list[StoredThoughts]]]) -> go.Figure:
    figure = go.Figure()
    for i, (run, thoughts) in enumerate(stored):
        oracle = PASS if run.num_samples == 1 else COVERAGE
        line = next(line for line in run.summary.lines if line.method == oracle)
        mean = sum(map(diversity, thoughts)) / len(thoughts)
        figure.add_trace(
            go.Scatter(
                x=[round(mean, 4)],
                y=[round(line.accuracy, 4)],
                name=f"{run.name}: {run.rows[0].get('sampler', '')}",
                mode="markers",
                marker={"size": 11, "color": qualitative.D3[i % 10]},
                error_y={
                    "type": "data",
                    "symmetric": False,
                    "array": [round(line.interval[1] - line.accuracy, 4)],
                    "arrayminus": [round(line.accuracy - line.interval[0], 4)],
                },
            )
        )
    figure.update_layout(
        template="plotly_white",
        height=460,
        xaxis_title="diversity",
        yaxis_title="coverage",
        showlegend=True,
    )
    return figure
