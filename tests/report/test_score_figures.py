"""What figures of scores show, by hand."""

import json
from pathlib import Path

import pytest
import torch

from lightning_ltts.report.runs import Run, load_runs
from lightning_ltts.report.score_figures import _step_scores, _weight_of_choice
from lightning_ltts.voting.adaptive import BetaStopping
from tests.report.helpers import write


def load_run(folder: Path) -> Run:
    (run,) = load_runs([str(folder)], None, "sum", "majority", BetaStopping(), None)
    return run


def rewritten(folder: Path, **changes: object) -> Path:
    """Predictions by hand in which samples know their probability, and rows hold `changes`."""
    write(folder)
    path = folder / "predictions.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        for sample in row["samples"]:
            sample["log_prob"] = -1.0
    path.write_text("".join(json.dumps({**row, **changes}) + "\n" for row in rows))
    return folder


def test_calibration_is_that_of_the_vote_by_scores(tmp_path: Path) -> None:
    """With its own temperature, and not that of the vote by probability."""
    run = load_run(rewritten(tmp_path / "p", fitted={"temperature": 8.0}))
    scores = run.pool.scores
    answered = run.pool.votes >= 0
    weights = (scores / 8).masked_fill(~answered, -torch.inf).softmax(1)
    chosen = run.choices["weighted_vote"]
    same = run.pool.votes == run.pool.votes.gather(1, chosen[:, None])
    expected = (weights * same).sum(1)
    assert _weight_of_choice(run)["weighted_vote"].tolist() == pytest.approx(expected.tolist())


def test_the_last_step_is_the_answers(tmp_path: Path) -> None:
    """Also where samples have different numbers of thoughts."""
    folder = tmp_path / "p"
    write(folder, questions=1, samples=2, kind="right")
    path = folder / "predictions.jsonl"
    row = json.loads(path.read_text())
    row["samples"][0] |= {"scores": [1.0], "answer_score": 10.0}
    row["samples"][1] |= {"scores": [3.0, 5.0], "answer_score": 20.0}
    path.write_text(json.dumps(row) + "\n")
    run = load_run(folder)
    assert _step_scores(run, True) == [2.0, 5.0, 15.0]
    assert _step_scores(run, False) == []
