"""Prediction files: JSON Lines, one line per question, from which every selection and curve can be computed again."""

import json
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_ltts.engine.grading import vote_numbers
from lightning_ltts.errors import DataError


@dataclass(frozen=True)
class SamplePool:
    """The samples of all questions of a prediction file."""

    votes: Tensor  # (Q, N) int64, see `vote_numbers`
    correct: Tensor  # (Q, N) float
    scores: Tensor | None  # (Q, N): trajectory scores; None where no LatentRM was used


def read_rows(path: str | Path) -> list[dict[str, Any]]:
    """The lines of a prediction file; a last line cut off by a kill is left out.

    Raises:
        DataError: it is missing, empty, or a line that is not the last cannot be read.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "predictions.jsonl"
    if not path.is_file():
        raise DataError(f"prediction file {path} does not exist; make it with 'ltts predict'")
    rows, lines = [], path.read_text(encoding="utf-8").splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            if number == len(lines) and not line.endswith("\n"):
                break
            raise DataError(f"prediction file {path}, line {number} is not valid JSON: {error.msg}") from None
        if not isinstance(rows[-1], dict) or not {"id", "answer", "greedy", "samples"} <= rows[-1].keys():
            raise DataError(f"prediction file {path}, line {number} is not a prediction: it lacks id, answer or samples")
    if not rows:
        raise DataError(f"prediction file {path} holds no predictions")
    return rows


def sample_pool(rows: list[dict[str, Any]]) -> SamplePool:
    """The samples of prediction rows as tensors.

    Raises:
        DataError: questions have different numbers of samples, as when two files were joined.
    """
    if len({len(row["samples"]) for row in rows}) != 1:
        raise DataError("the questions of the prediction file have different numbers of samples; report each run by itself")
    answers = [[_fraction(sample["answer"]) for sample in row["samples"]] for row in rows]
    votes = torch.tensor([vote_numbers(given) for given in answers])
    truths = [Fraction(row["answer"]) for row in rows]
    correct = torch.tensor([[a == truth for a in given] for given, truth in zip(answers, truths, strict=True)]).float()
    scores = None
    if all("scores" in sample for row in rows for sample in row["samples"]):
        scores = torch.tensor([[_trajectory_score(sample) for sample in row["samples"]] for row in rows])
    return SamplePool(votes, correct, scores)


def _trajectory_score(sample: dict[str, Any]) -> float:
    """The score of the answer where it was scored, otherwise the sum over thoughts."""
    return float(sample["answer_score"] if "answer_score" in sample else sum(sample["scores"]))


def _fraction(text: str | None) -> Fraction | None:
    return None if text is None else Fraction(text)
