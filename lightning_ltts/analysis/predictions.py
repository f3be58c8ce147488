"""Prediction files: JSON Lines, one line per question, from which every selection and curve can be computed again."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_ltts.analysis.prediction_files import require_predictions
from lightning_ltts.analysis.row_checks import fault_of
from lightning_ltts.data.answers import Answer, parse_stored
from lightning_ltts.data.latex_answers import LatexTruth, Truth, require_library
from lightning_ltts.errors import DataError
from lightning_ltts.voting.scoring import RULES
from lightning_ltts.voting.signals import Signal
from lightning_ltts.voting.votes import vote_numbers


@dataclass(frozen=True)
class StepScores:
    """Step scores of all samples, and the rule that makes trajectory scores of them."""

    values: Tensor  # (Q, N, T)
    mask: Tensor  # (Q, N, T): 1 where a trajectory has the step
    rule: str  # a key of `RULES`

    def of(self, samples: Tensor) -> Tensor:
        """Trajectory scores (Q, n) of some samples (n,), as if no others had been drawn."""
        return RULES[self.rule](self.values[:, samples], self.mask[:, samples])


@dataclass(frozen=True)
class SamplePool:
    """The samples of all questions of a prediction file."""

    votes: Tensor  # (Q, N) int64, see `vote_numbers`
    correct: Tensor  # (Q, N) float
    signals: dict[Signal, Tensor]  # (Q, N) each: what is known of all samples
    greedy_vote: Tensor  # (Q,): the greedy answer as a vote, -1 for none
    greedy_correct: Tensor  # (Q,) float
    steps: StepScores | None = None  # what the scores are made of

    @property
    def scores(self) -> Tensor | None:
        """(Q, N): trajectory scores; None where no LatentRM was used."""
        return self.signals.get(Signal.SCORE)

    @property
    def as_greedy(self) -> Tensor:
        """(Q, N) float: 1 where a sample's answer is the greedy one."""
        return ((self.votes == self.greedy_vote[:, None]) & (self.votes >= 0)).float()


def read_rows(path: str | Path) -> list[dict[str, Any]]:
    """The lines of a prediction file; a last line cut off by a kill is left out.

    Raises:
        DataError: it is missing, empty, holds a problem twice, or a line that is not the last
            cannot be read or is no prediction.
    """
    path = require_predictions(path)
    rows: list[dict[str, Any]] = []
    seen: set[str] = set()
    lines = path.read_bytes().split(b"\n")
    torn = lines.pop()  # nothing where the last line is whole
    for number, line in enumerate([*lines, torn] if torn else lines, start=1):
        where = f"prediction file {path}, line {number}"
        try:
            row = json.loads(line.decode())
        except (ValueError, RecursionError) as error:
            if number > len(lines):
                break
            raise DataError(f"{where} {_why(error)}; remove it, or predict anew") from None
        if fault := fault_of(row):
            raise DataError(f"{where} {fault}; remove it, or predict anew")
        if row["id"] in seen:  # it would count twice
            raise DataError(f"{where} is a second row of problem '{row['id']}'; remove one")
        seen.add(row["id"])
        rows.append(row)
    if not rows:
        raise DataError(f"prediction file {path} holds no predictions")
    return rows


def _why(error: Exception) -> str:
    """Why a line cannot be read."""
    if isinstance(error, UnicodeDecodeError):
        return f"is not UTF-8 text (byte {error.start} of the line)"
    if isinstance(error, json.JSONDecodeError):
        return f"is not valid JSON: {error.msg}"
    return "is nested too deeply or holds a number with too many digits"


def sample_pool(rows: Sequence[dict[str, Any]], rule: str = "sum") -> SamplePool:
    """The samples of prediction rows as tensors.

    Args:
        rows: lines of a prediction file.
        rule: how step scores make a trajectory's score, a key of `RULES`; `answer` takes the answer's score alone.

    Raises:
        DataError: questions have different numbers of samples, as when two files were joined; or the rule has no meaning here.
    """
    if rule not in (*RULES, "answer"):
        raise DataError(
            f"the rule '{rule}' for scores is not known; use one of {', '.join((*RULES, 'answer'))}"
        )
    if len({len(row["samples"]) for row in rows}) != 1:
        raise DataError(
            "the questions of the prediction file have different numbers of samples; report each run by itself"
        )
    answers = [[stored_answer(sample["answer"]) for sample in row["samples"]] for row in rows]
    greedy = [stored_answer(row["greedy"]["answer"]) for row in rows]
    # the greedy answer last, so that it does not change the numbers of the others
    votes = torch.tensor(
        [vote_numbers([*given, g]) for given, g in zip(answers, greedy, strict=True)]
    )
    truths = [stored_truth(row) for row in rows]
    correct = torch.tensor(
        [
            [a == truth for a in (*given, g)]
            for given, g, truth in zip(answers, greedy, truths, strict=True)
        ]
    ).float()
    samples = [row["samples"] for row in rows]
    signals = {}
    for signal in Signal:
        if all(signal in sample for question in samples for sample in question):
            values = [[sample[signal] for sample in question] for question in samples]
            signals[signal] = torch.tensor(values)
    steps = None
    if all("scores" in sample for question in samples for sample in question):
        if rule == "answer":
            signals[Signal.SCORE] = _answer_scores(samples)
        else:
            steps = StepScores(*_step_scores(samples), rule)
            signals[Signal.SCORE] = steps.of(torch.arange(votes.shape[1] - 1))
    own = (votes[:, :-1], correct[:, :-1], signals)
    return SamplePool(*own, votes[:, -1], correct[:, -1], steps)


def _answer_scores(samples: list[list[dict[str, Any]]]) -> Tensor:
    """Stored samples of every question -> scores of their answers (Q, N)."""
    if "answer_score" not in samples[0][0]:
        raise DataError(
            "these predictions hold no scores of answers; use another rule than 'answer'"
        )
    return torch.tensor([[sample["answer_score"] for sample in question] for question in samples])


def _step_scores(samples: list[list[dict[str, Any]]]) -> tuple[Tensor, Tensor]:
    """Stored samples of every question -> step scores and their mask, (Q, N, T) each.

    A score that was read after the answer is one more step at the end.
    """
    steps = [
        [
            [*sample["scores"], *([sample["answer_score"]] if "answer_score" in sample else [])]
            for sample in question
        ]
        for question in samples
    ]
    longest = max(len(scores) for question in steps for scores in question)
    padded = [
        [scores + [0.0] * (longest - len(scores)) for scores in question] for question in steps
    ]
    counts = torch.tensor([[len(scores) for scores in question] for question in steps])
    mask = (torch.arange(longest) < counts[..., None]).float()
    return torch.tensor(padded, dtype=torch.float32), mask


@lru_cache(maxsize=2**16)  # of thousands of samples, most say the same
def stored_answer(text: str | None) -> Answer | None:
    """An answer as `format_answer` wrote it: a number where it is one, and otherwise the text."""
    return parse_stored(text)


def stored_truth(row: dict[str, Any]) -> Truth | None:
    """What equals the right answers of a row.

    Raises:
        ConfigError: it is LaTeX, and `math-verify`, which compares that, is not installed.
    """
    if row.get("answer_is") == "latex":
        require_library()
        return LatexTruth(row["answer"])
    return stored_answer(row["answer"])
