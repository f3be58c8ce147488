"""Figures of the space that thoughts explore, with plotly, for one or several prediction runs."""

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
import torch
from torch import Tensor

from lightning_ltts.analysis.method_names import COVERAGE, PASS
from lightning_ltts.analysis.thought_store import StoredThoughts, read_thoughts
from lightning_ltts.analysis.thoughts import diversity, measures, project
from lightning_ltts.report.colors import NEUTRAL, RIGHT, WRONG
from lightning_ltts.report.drawing import (
    Titled,
    error_bars,
    is_worth_drawing,
    label,
    new_figure,
    rounded,
    run_color,
)
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
_KINDS = {"right": RIGHT, "wrong": WRONG, "greedy": NEUTRAL}
_MEASURES = {
    "drift": "Distance of the samples' mean from the greedy thought.",
    "spread": "Distance of the samples from their mean.",
    "isotropy": "How evenly the samples spread over directions: 1 in all alike, near 0 on a line.",
    "pairwise cosine": "Of two samples' thoughts: 1 where all think alike.",
    "pairwise L2": "Distance of two samples' thoughts.",
    "norm": "Length of the samples' thoughts.",
}
Stored = tuple[Run, list[StoredThoughts]]


def thought_figures(runs: Sequence[Run]) -> list[Titled]:
    """Projections, measures by step, and coverage against diversity; empty where no run stored thoughts."""
    stored = [(run, thoughts) for run in runs if (thoughts := _stored(run))]
    if not stored:
        return []
    common = set.intersection(*({t.id for t in thoughts} for _, thoughts in stored)) or {
        stored[0][1][0].id
    }
    names = [t.id for t in stored[0][1] if t.id in common][:_QUESTIONS]
    figures = []
    for number, name in enumerate(names, start=1):
        own = [(run, t) for run, thoughts in stored for t in thoughts if t.id == name]
        figures += _projections(number, name, own)
    figures += [*_measures(stored), _sweet_spot(stored)]
    return [titled for titled in figures if is_worth_drawing(titled[2])]


def _stored(run: Run) -> list[StoredThoughts]:
    """The thoughts of the problems that the prediction file still has."""
    ids = {row["id"] for row in run.rows}
    return [thoughts for thoughts in read_thoughts(run.folder) if thoughts.id in ids]


def lens_tables(run: Run) -> dict[str, list[dict[str, Any]]]:
    """Question -> what its thoughts say: rows of trajectory, step, tokens with their probabilities.

    Where a step decoder has read the thoughts, every row has the text of the step that is complete
    with its thought, nothing for others.
    """
    return {
        thoughts.id: [
            {
                "which": "greedy" if row["sample"] is None else f"sample {row['sample']}",
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
        for thoughts in _stored(run)[:_QUESTIONS]
    }


def _projections(
    number: int, name: str, runs: Sequence[tuple[Run, StoredThoughts]]
) -> list[Titled]:
    """The thoughts of one question in two dimensions, by two methods, a figure for each run."""
    points = [_points(run, thoughts) for run, thoughts in runs]
    vectors = torch.cat([made for made, _ in points])
    figures = []
    for method in ("PCA", "t-SNE"):
        flat = project(vectors, method)
        frame = _frame(flat)
        parts = flat.split([len(made) for made, _ in points])
        for (run, _), xy, (_, labels) in zip(runs, parts, points, strict=True):
            row = next(row for row in run.rows if row["id"] == name)
            about = (
                f"“{row.get('question', name)}” {row['answer']}. A sample's thoughts have the "
                "colour of its answer, grey is the greedy trajectory, the shape is the step"
                f"{', projected together with the other runs' if len(runs) > 1 else ''}."
                + " Hollow points lie beyond the frame."
                * bool((xy != xy.clamp(*frame)).any())
            )
            title = label(run, f"Thoughts of question {number}, {method}", [r for r, _ in runs])
            figures.append((title, about, _scatter(xy, frame, labels)))
    return figures


def _frame(flat: Tensor) -> Tensor:
    """What is shown of points (n, 2): lowest and highest place on each axis (2, 2).

    A few far points would flatten all others, so these are left out of it.
    """
    bounds = torch.tensor([0.02, 0.98])
    low, high = flat.quantile(bounds, dim=0)
    room = 0.5 * (high - low).clamp(min=1e-3)
    return torch.stack(
        [torch.maximum(low - room, flat.amin(0)), torch.minimum(high + room, flat.amax(0))]
    )


def _scatter(xy: Tensor, frame: Tensor, labels: Sequence[tuple[str, int, str]]) -> go.Figure:
    """Points (n, 2) with their kinds, steps and texts; those beyond the frame at its edge."""
    figure = new_figure("", "", percent=False)
    shown = xy.clamp(frame[0], frame[1])
    beyond = (shown != xy).any(1).tolist()
    for kind, color in _KINDS.items():
        at = [i for i, (k, _, _) in enumerate(labels) if k == kind]
        symbols = [_SYMBOLS[labels[i][1] % len(_SYMBOLS)] + "-open" * beyond[i] for i in at]
        marker = {"color": color, "symbol": symbols, "size": 6, "opacity": 0.75}
        if kind == "greedy":
            marker |= {"size": 13, "opacity": 1, "line": {"width": 2, "color": "white"}}
        if at:
            figure.add_trace(
                go.Scatter(
                    x=rounded(shown[at, 0]),
                    y=rounded(shown[at, 1]),
                    text=[labels[i][2] for i in at],
                    hoverinfo="text",
                    mode="markers",
                    name=kind,
                    marker=marker,
                )
            )
    figure.update_layout(height=330, margin={"l": 15, "b": 20})
    figure.update_xaxes(showticklabels=False)
    figure.update_yaxes(showticklabels=False)
    return figure


def _points(run: Run, thoughts: StoredThoughts) -> tuple[Tensor, list[tuple[str, int, str]]]:
    """Thoughts (n, d), and of each its kind, step and text."""
    place = next(i for i, row in enumerate(run.rows) if row["id"] == thoughts.id)
    samples, correct = run.rows[place]["samples"], run.pool.correct[place].tolist()
    vectors, labels = [], []
    for t, made in enumerate(thoughts.deterministic):
        vectors.append(made)
        labels.append(("greedy", t, f"step {t + 1}, greedy"))
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


def _measures(stored: Sequence[Stored]) -> list[Titled]:
    """Each measure by step, with a line for each run."""
    runs = [run for run, _ in stored]
    made = [(run, measures(thoughts)) for run, thoughts in stored]
    figures = []
    for name, about in _MEASURES.items():
        figure = new_figure("step", name, 1, percent=False)
        for run, columns in made:
            values = columns.get(name, [])
            figure.add_scatter(
                x=list(range(1, len(values) + 1)),
                y=values,
                name=run.name,
                mode="lines+markers",
                line={"color": run_color(run, runs)},
            )
        figure.update_layout(height=260, showlegend=len(runs) > 1)
        figures.append((f"{name[0].upper()}{name[1:]} by step", about, figure))
    return figures


def _sweet_spot(stored: Sequence[Stored]) -> Titled:
    """Coverage against diversity, a point for each run."""
    figure, runs = new_figure("diversity", "coverage"), [run for run, _ in stored]
    for run, thoughts in stored:
        oracle = PASS if run.num_samples == 1 else COVERAGE
        line = next(line for line in run.summary.lines if line.method == oracle)
        mean = sum(map(diversity, thoughts)) / len(thoughts)
        figure.add_scatter(
            x=rounded([mean]),
            y=rounded([line.accuracy]),
            name=f"{run.name}: {run.rows[0].get('sampler', '')}",
            mode="markers",
            marker={"size": 11, "color": run_color(run, runs)},
            error_y=error_bars([line.accuracy], [line.interval]),
        )
    about = (
        "A point for each run: coverage of all problems, with a 95 % interval, against 1 minus the "
        "mean pairwise cosine of the samples' thoughts at a step."
    )
    return "Coverage against diversity", about, figure
