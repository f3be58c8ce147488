"""Figures of what the LatentRM's scores are worth."""

import math
from collections import defaultdict
from collections.abc import Sequence

import plotly.graph_objects as go
import torch
from torch import Tensor

from lightning_ltts.report.colors import NEUTRAL, RIGHT, WRONG
from lightning_ltts.report.drawing import (
    Titled,
    is_worth_drawing,
    label,
    line,
    method_color,
    new_figure,
    rounded,
)
from lightning_ltts.report.runs import Run
from lightning_ltts.report.words import words_of
from lightning_ltts.voting.selection import BestOfN, Majority, WeightedVote


def score_figures(runs: Sequence[Run]) -> list[Titled]:
    """What trajectory and step scores are worth; nothing for runs without a LatentRM."""
    scored = [run for run in runs if run.pool.scores is not None]
    if not scored:
        return []
    figures = [
        (
            "Scores of right and wrong trajectories",
            "How far the LatentRM keeps them apart."
            + " Further runs can be turned on." * (len(scored) > 1),
            _histogram(scored),
        ),
        (
            "Scores by step",
            "Mean step score of trajectories that end right and wrong; the last is the answer's, where it is scored.",
            _by_step(scored),
        ),
        (
            "Accuracy by score",
            "All samples of all questions in ten parts by their score: it rises where the score means what it should.",
            _by_score(scored),
        ),
        (
            "Accuracy by rank",
            "Within questions that have right and wrong samples; a low start shows that outliers are scored too high.",
            _by_rank(scored),
        ),
        (
            "Calibration",
            "The weight that a vote gave its answer, in ten parts of the questions, against how often that answer was right.",
            _calibration(scored),
        ),
    ]
    return [titled for titled in figures if is_worth_drawing(titled[2])]


def survival_figure(runs: Sequence[Run]) -> list[Titled]:
    """How long right branches live in a tree search; nothing where none was traced."""
    figure = new_figure("step of the tree search", "questions that keep a right branch", 1)
    for run in runs:
        for name, shares in run.summary.survival.items():
            steps = range(1, len(shares) + 1)
            color = method_color(name, runs)
            figure.add_trace(line(run, words_of(name).title, steps, shares, runs, color))
    about = "Among questions with candidates that lead to the right answer, the share that keeps one at each pruning."
    return [("Survival of right branches", about, figure)] if is_worth_drawing(figure) else []


def _histogram(runs: Sequence[Run]) -> go.Figure:
    figure = new_figure("trajectory score", "density", percent=False)
    for i, run in enumerate(runs):
        scores, correct = _scores(run), run.pool.correct
        low, high = float(scores.min()), float(scores.max())
        edges = torch.linspace(low, high if high > low else low + 1, 41)
        for name, color, part in (
            ("right", RIGHT, scores[correct > 0]),
            ("wrong", WRONG, scores[correct == 0]),
        ):
            if len(part):
                density = torch.histogram(part.float(), bins=edges, density=True).hist
                figure.add_trace(
                    go.Bar(
                        x=rounded((edges[1:] + edges[:-1]) / 2),
                        y=rounded(density),
                        name=label(run, name, runs),
                        marker_color=color,
                        opacity=0.55,
                        visible=True if i == 0 else "legendonly",
                    )
                )
    figure.update_layout(barmode="overlay")
    return figure


def _by_step(runs: Sequence[Run]) -> go.Figure:
    figure = new_figure("step", "mean step score", 1, percent=False)
    for run in runs:
        for name, color, right in (("right", RIGHT, True), ("wrong", WRONG, False)):
            means = _step_scores(run, right)
            if means:
                figure.add_trace(line(run, name, range(1, len(means) + 1), means, runs, color))
    return figure


def _by_score(runs: Sequence[Run]) -> go.Figure:
    figure = new_figure("tenth of all samples, by trajectory score", "share of right samples", 1)
    for run in runs:
        order = _scores(run).flatten().argsort()
        shares = [
            float(part.mean())
            for part in run.pool.correct.flatten()[order].tensor_split(10)
            if len(part)
        ]
        color = method_color(WeightedVote.name, runs)
        figure.add_trace(line(run, "all samples", range(1, len(shares) + 1), shares, runs, color))
    return figure


def _by_rank(runs: Sequence[Run]) -> go.Figure:
    figure = new_figure("rank of the score among a question's samples", "accuracy of the samples")
    for run in runs:
        ranks = run.summary.by_rank
        if ranks:
            figure.add_trace(
                line(
                    run,
                    "samples",
                    range(1, len(ranks) + 1),
                    ranks,
                    runs,
                    method_color(BestOfN.name, runs),
                )
            )
    return figure


def _calibration(runs: Sequence[Run]) -> go.Figure:
    figure = new_figure("weight of the chosen answer", "accuracy of the choice")
    figure.add_trace(
        go.Scatter(
            x=[0, 1],
            y=[0, 1],
            mode="lines",
            line={"color": NEUTRAL, "dash": "dot"},
            name="calibrated",
        )
    )
    for run in runs:
        for name, weight in _weight_of_choice(run).items():
            x, y = _bins(weight, _right(run, name))
            figure.add_trace(line(run, words_of(name).title, x, y, runs, method_color(name, runs)))
    return figure


def _scores(run: Run) -> Tensor:
    """(Q, N) trajectory scores of a run that has them."""
    assert run.pool.scores is not None, "only runs with a LatentRM get here"
    return run.pool.scores


def _step_scores(run: Run, right: bool) -> list[float]:
    """Mean score of each step over samples that are right, or wrong; the last is the answers'."""
    totals, counts = defaultdict[float, float](float), defaultdict[float, int](int)
    for row, correct in zip(run.rows, run.pool.correct.tolist(), strict=True):
        for sample, is_right in zip(row["samples"], correct, strict=True):
            if bool(is_right) != right:
                continue
            scores: dict[float, float] = dict(enumerate(sample["scores"]))
            if "answer_score" in sample:
                scores[math.inf] = sample["answer_score"]  # behind the steps of all samples
            for step, score in scores.items():
                totals[step] += score
                counts[step] += 1
    return [round(totals[step] / counts[step], 4) for step in sorted(counts)]


def _weight_of_choice(run: Run) -> dict[str, Tensor]:
    """Selection -> the share of votes, or of weight, that its answer got (Q,); 0 where nothing was chosen."""
    votes, scores = run.pool.votes, _scores(run)
    answered = votes >= 0
    majority = answered.double() / answered.sum(1, keepdim=True).clamp(min=1)
    vote = next(s for s in run.selections if type(s) is WeightedVote)
    weighted = (
        (scores.double() / vote.temperature)
        .masked_fill(~answered, -torch.inf)
        .softmax(1)
        .nan_to_num()
    )
    weight_of = {}
    for name, weights in {Majority.name: majority, WeightedVote.name: weighted}.items():
        chosen = run.choices[name]
        same = votes == votes.gather(1, chosen.clamp(min=0)[:, None])
        weight_of[name] = (weights * same).sum(1) * (chosen >= 0)
    return weight_of


def _right(run: Run, selection: str) -> Tensor:
    """(Q,) 1 where the selection's choice is right."""
    chosen = run.choices[selection]
    return run.pool.correct.gather(1, chosen.clamp(min=0)[:, None])[:, 0] * (chosen >= 0)


def _bins(weight: Tensor, right: Tensor) -> tuple[list[float], list[float]]:
    """Means of both in ten parts of equal size by the weight."""
    order = weight.argsort()
    parts = [
        (w, r)
        for w, r in zip(weight[order].tensor_split(10), right[order].tensor_split(10), strict=True)
        if len(w)
    ]
    return [round(float(w.mean()), 4) for w, _ in parts], [
        round(float(r.mean()), 4) for _, r in parts
    ]
