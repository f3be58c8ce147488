"""The figures of a report, with plotly: what the extra compute bought, and what the LatentRM's scores are worth."""

import math
from collections.abc import Callable, Sequence

import plotly.graph_objects as go
import torch
from plotly.colors import qualitative
from torch import Tensor

from lightning_ltts.report.runs import Run
from lightning_ltts.voting.per_question import bootstrap_interval
from lightning_ltts.voting.selection import Majority, WeightedVote

Titled = tuple[str, str, go.Figure]  # title, one sentence that explains it, figure
_COLORS = {
    name: qualitative.D3[i]
    for i, name in enumerate(
        (
            "majority",
            "weighted_vote",
            "best_of_n",
            "agreeing_best_of_n",
            "beam",
            "beam_vote",
            "adaptive_majority",
            "coverage",
            "greedy",
        )
    )
}
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
_RIGHT, _WRONG = "#2ca02c", "#d62728"


def accuracy_figures(runs: Sequence[Run]) -> list[Titled]:
    """Accuracy against N, pass@k, and accuracy against compute."""
    by_n = _figure("samples per question, N", "accuracy", log=True)
    pass_at_k = _figure("samples per question, k", "pass@k", log=True)
    for i, run in enumerate(runs):
        for name, curve in run.summary.curve_values.items():
            by_n.add_trace(_curve(run, name, curve, i, runs))
        by_n.add_trace(_level(run, "greedy", list(run.summary.curves["coverage"]), i, runs))
        pass_at_k.add_trace(_curve(run, "coverage", run.summary.curve_values["coverage"], i, runs))
    figures = [
        (
            "Accuracy against N",
            "Each selection with N samples, 95 % bootstrap intervals over questions; coverage is the oracle that always finds "
            "a right sample, greedy takes one trajectory.",
            by_n,
        ),
        (
            "Coverage (pass@k)",
            "The share of questions with a right answer among k samples, unbiased, with 95 % intervals.",
            pass_at_k,
        ),
    ]
    budget = _budget(runs)
    if budget.data:
        figures.append(
            (
                "Accuracy against compute",
                "Token forwards per question, prompt included: methods at the same place on the axis cost the same. Those of N "
                "samples are the stored run's share; scoring by the LatentRM is not among them.",
                budget,
            )
        )
    if any(len({row.get("steps", 0) for row in run.rows}) > 1 for run in runs):
        figures.append(
            (
                "Accuracy by steps",
                "Questions by the number of steps of their reference solution, with 95 % intervals over each part.",
                _strata(runs, "steps of the reference solution", lambda run: [row.get("steps", 0) for row in run.rows]),
            )
        )
    figures.append(
        (
            "Accuracy by difficulty",
            "Questions by the share of right samples, in quarters: selection can help where it is neither 0 nor 1.",
            _strata(runs, "right samples, up to (%)", lambda run: _quarters(run.pool.correct.mean(1))),
        )
    )
    clock = _clock(runs)
    if clock.data:
        figures.append(
            (
                "Accuracy against seconds",
                "Wall clock per question on the machine that predicted, reading the prompt and, where it is used, scoring "
                "included; runs are comparable where the machine was the same and did nothing else.",
                clock,
            )
        )
    return figures


def _strata(runs: Sequence[Run], title: str, of: Callable[[Run], Sequence[int]]) -> go.Figure:
    """Accuracy of each part of the questions; a part is what `of` gives its questions."""
    figure = _figure(title, "accuracy")
    for i, run in enumerate(runs):
        parts = torch.tensor(of(run))
        for line, values in run.summary.values.items():
            name = line.split("@")[0]
            if name in _COLORS and name != "adaptive_majority":
                points = {int(part): values[parts == part] for part in parts.unique()}
                figure.add_trace(_curve(run, name, points, i, runs))
    return figure


def _quarters(shares: Tensor) -> list[int]:
    """Shares (Q,) -> 0 for none, then the quarter's upper end in percent."""
    return [25 * math.ceil(4 * share - 1e-9) for share in shares.tolist()]


def _clock(runs: Sequence[Run]) -> go.Figure:
    figure = _figure("seconds per question", "accuracy")
    parts = {
        "greedy": ("greedy",),
        "majority": ("sampling",),
        "coverage": ("sampling",),
        "beam": ("beam",),
        "beam_vote": ("beam",),
    }
    for i, run in enumerate(runs):
        for line, values in run.summary.values.items():
            name = line.split("@")[0]
            seconds = run.seconds("prompt", *parts.get(name, ("sampling", "scoring")))
            if name in _COLORS and name != "adaptive_majority" and seconds is not None:  # drawing stopped early is not timed
                figure.add_trace(_curve(run, name, {seconds: values}, i, runs))
    return figure


def _budget(runs: Sequence[Run]) -> go.Figure:
    figure = _figure("token forwards per question", "accuracy", log=True)
    for i, run in enumerate(runs):
        prompt, sampling = run.cost("prompt"), run.cost("sampling")
        if prompt is None or sampling is None:
            continue
        for name, curve in run.summary.curve_values.items():
            points = {prompt + sampling * n / run.num_samples: values for n, values in curve.items()}
            figure.add_trace(_curve(run, name, points, i, runs))
        for name, part in (("greedy", "greedy"), ("beam", "beam"), ("beam_vote", "beam")):
            values = next((v for line, v in run.summary.values.items() if line.split("@")[0] == name), None)
            cost = run.cost(part)
            if values is not None and cost is not None:
                figure.add_trace(_curve(run, name, {prompt + cost: values}, i, runs))
    return figure


def score_figures(runs: Sequence[Run]) -> list[Titled]:
    """What trajectory and step scores are worth; nothing for runs without a LatentRM."""
    scored = [run for run in runs if run.pool.scores is not None]
    if not scored:
        return []
    histogram = _figure("trajectory score", "density")
    steps = _figure("step", "mean step score")
    rank = _figure("rank of the score among a question's samples", "accuracy of the samples")
    by_score = _figure("tenth of all samples, by trajectory score", "share of right samples")
    confidence = _figure("weight of the chosen answer", "accuracy of the choice")
    confidence.add_trace(go.Scatter(x=[0, 1], y=[0, 1], mode="lines", line={"color": "lightgray"}, name="calibrated"))
    for i, run in enumerate(scored):
        scores, correct = run.pool.scores, run.pool.correct
        assert scores is not None, "chosen above"
        low, high = float(scores.min()), float(scores.max())
        edges = torch.linspace(low, high if high > low else low + 1, 41)
        for label, color, part in (("right", _RIGHT, scores[correct > 0]), ("wrong", _WRONG, scores[correct == 0])):
            if len(part):
                density = torch.histogram(part.float(), bins=edges, density=True).hist
                histogram.add_trace(
                    go.Bar(
                        x=_rounded((edges[1:] + edges[:-1]) / 2),
                        y=_rounded(density),
                        name=_label(run, label, scored),
                        marker_color=color,
                        opacity=0.55,
                        visible=True if i == 0 else "legendonly",
                    )
                )
            by_step = _step_scores(run, label == "right")
            if by_step:
                steps.add_trace(_line(run, label, list(range(1, len(by_step) + 1)), by_step, i, scored, color))
        order = scores.flatten().argsort()
        shares = [float(part.mean()) for part in correct.flatten()[order].tensor_split(10) if len(part)]
        by_score.add_trace(
            _line(run, "all samples", list(range(1, len(shares) + 1)), shares, i, scored, _COLORS["weighted_vote"])
        )
        ranks = run.summary.by_rank
        if ranks:
            rank.add_trace(_line(run, "samples", list(range(1, len(ranks) + 1)), ranks, i, scored, _COLORS["best_of_n"]))
        for selection, weight in _confidence(run).items():
            x, y = _bins(weight, _right(run, selection))
            name = selection.split("@")[0]
            confidence.add_trace(_line(run, name, x, y, i, scored, _COLORS[name], mode="markers+lines"))
    histogram.update_layout(barmode="overlay")
    return [
        (
            "Scores of right and wrong trajectories",
            "How far the LatentRM keeps them apart; further runs are in the legend.",
            histogram,
        ),
        (
            "Scores by step",
            "Mean step score of trajectories that end right and wrong; the last is the answer's, where it is scored.",
            steps,
        ),
        (
            "Accuracy by score",
            "All samples of all questions in ten parts by their score: it rises where the score means what it should.",
            by_score,
        ),
        (
            "Accuracy by rank",
            "Within questions that have right and wrong samples; a low start shows that outliers are scored too high.",
            rank,
        ),
        (
            "Calibration",
            "The weight that a vote gave its answer, in ten parts of the questions, against how often that answer was right.",
            confidence,
        ),
    ]


def survival_figure(runs: Sequence[Run]) -> list[Titled]:
    """How long right branches live in guided beam search; nothing where it was not traced."""
    figure = _figure("step of the beam search", "questions that keep a right branch")
    for i, run in enumerate(runs):
        if run.summary.survival:
            steps = list(range(1, len(run.summary.survival) + 1))
            figure.add_trace(_line(run, "survival", steps, run.summary.survival, i, runs, _COLORS["beam"]))
    about = "Among questions with candidates that lead to the right answer, the share that keeps one at each pruning."
    return [("Survival of right branches", about, figure)] if figure.data else []


def _step_scores(run: Run, right: bool) -> list[float]:
    """Mean score of each step over samples that are right, or wrong."""
    rows: list[list[float]] = []
    for row, correct in zip(run.rows, run.pool.correct.tolist(), strict=True):
        for sample, is_right in zip(row["samples"], correct, strict=True):
            if bool(is_right) == right:
                rows.append([*sample["scores"], *([sample["answer_score"]] if "answer_score" in sample else [])])
    longest = max(map(len, rows), default=0)
    columns = [[scores[t] for scores in rows if len(scores) > t] for t in range(longest)]
    return [round(sum(column) / len(column), 4) for column in columns]


def _confidence(run: Run) -> dict[str, Tensor]:
    """Selection -> the share of votes, or of weight, that its answer got (Q,); 0 where nothing was chosen."""
    votes, scores = run.pool.votes, run.pool.scores
    assert scores is not None, "checked by the caller"
    temperature = run.temperature if run.temperature is not None else float(run.rows[0].get("temperature", 1.0))
    answered = votes >= 0
    majority = answered.double() / answered.sum(1, keepdim=True).clamp(min=1)
    weighted = (scores.double() / temperature).masked_fill(~answered, -torch.inf).softmax(1).nan_to_num()
    given = {f"{Majority.name}@{run.num_samples}": majority, f"{WeightedVote.name}@{run.num_samples}": weighted}
    made = {}
    for name, weights in given.items():
        chosen = run.choices[name]
        same = votes == votes.gather(1, chosen.clamp(min=0)[:, None])
        made[name] = (weights * same).sum(1) * (chosen >= 0)
    return made


def _right(run: Run, selection: str) -> Tensor:
    chosen = run.choices[selection]
    return run.pool.correct.gather(1, chosen.clamp(min=0)[:, None])[:, 0] * (chosen >= 0)


def _bins(weight: Tensor, right: Tensor) -> tuple[list[float], list[float]]:
    """Means of both in ten parts of equal size by the weight."""
    order = weight.argsort()
    parts = [(w, r) for w, r in zip(weight[order].tensor_split(10), right[order].tensor_split(10), strict=True) if len(w)]
    return [round(float(w.mean()), 4) for w, _ in parts], [round(float(r.mean()), 4) for _, r in parts]


def _figure(x: str, y: str, log: bool = False) -> go.Figure:
    figure = go.Figure(layout={"template": "plotly_white", "xaxis_title": x, "yaxis_title": y, "height": 460})
    figure.update_layout(margin={"l": 60, "r": 20, "t": 20, "b": 50}, legend={"groupclick": "togglegroup"})
    if x.startswith(("step", "tenth")):
        figure.update_xaxes(dtick=1)
    if x.startswith("right samples"):
        figure.update_xaxes(dtick=25)
    if log:
        figure.update_xaxes(type="log", dtick=0.30103, tickformat="~s")  # a tick for each doubling
    return figure


def _label(run: Run, name: str, runs: Sequence[Run]) -> str:
    return name if len(runs) == 1 else f"{run.name}: {name}"


def _curve(run: Run, name: str, points: dict[int, Tensor] | dict[float, Tensor], index: int, runs: Sequence[Run]) -> go.Scatter:
    """Means with intervals."""
    means = [float(values.mean()) for values in points.values()]
    bounds = [bootstrap_interval(values) for values in points.values()]
    return go.Scatter(
        x=[round(x, 5) for x in points],
        y=_rounded(means),
        name=_label(run, name, runs),
        legendgroup=run.name if len(runs) > 1 else None,
        mode="lines+markers",
        line={"color": _COLORS[name], "dash": _DASHES[index % len(_DASHES)]},
        error_y={
            "type": "data",
            "symmetric": False,
            "thickness": 1,
            "array": _rounded([high - mean for mean, (_, high) in zip(means, bounds, strict=True)]),
            "arrayminus": _rounded([mean - low for mean, (low, _) in zip(means, bounds, strict=True)]),
        },
    )


def _level(run: Run, name: str, at: list[int], index: int, runs: Sequence[Run]) -> go.Scatter:
    return _line(run, name, at, [run.summary[name]] * len(at), index, runs, _COLORS[name], dash="dot")


def _line(
    run: Run, name: str, x: Sequence[float], y: Sequence[float], index: int, runs: Sequence[Run], color: str,
    mode: str = "lines+markers", dash: str | None = None,
) -> go.Scatter:  # fmt: skip
    return go.Scatter(
        x=list(x), y=_rounded(y), name=_label(run, name, runs), legendgroup=run.name if len(runs) > 1 else None, mode=mode,
        line={"color": color, "dash": dash or _DASHES[index % len(_DASHES)]},
    )  # fmt: skip


def _rounded(values: Sequence[float] | Tensor) -> list[float]:
    return [round(float(value), 4) for value in values]
