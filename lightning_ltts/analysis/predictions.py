"""Prediction files: JSON Lines, one line per question, from which every selection and curve can be computed again."""

import json
import math
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

from lightning_ltts.analysis.prediction_files import require_predictions
from lightning_ltts.analysis.row_checks import fault_of
from lightning_ltts.analysis.rows import Row, Rows
from lightning_ltts.data.answers import Answer, parse_stored
from lightning_ltts.data.latex_answers import LatexTruth, Truth, require_library
from lightning_ltts.data.problems import key_of
from lightning_ltts.data.ranges import IN_MEMORY
from lightning_ltts.errors import DataError
from lightning_ltts.files import read_at
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


class StoredRows(Sequence[Row]):
    """The rows of a prediction file, which are read when they are asked for where they are many.

    A last line cut off by a kill is left out.

    Args:
        path: of the file, or of its folder.

    Raises:
        DataError: it is missing, empty, holds a problem twice, or a line that is not the last
            cannot be read or is no prediction.
    """

    def __init__(self, path: str | Path):
        self.path = require_predictions(path)
        self._held: list[Row] | None = [] if self.path.stat().st_size <= IN_MEMORY else None
        places, keys, offset = array("q"), array("Q"), 0
        for number, line in enumerate(self._lines(), start=1):
            row = _row_in(line, f"prediction file {self.path}, line {number}")
            if row is None:
                break
            keys.append(key_of(row["id"]))
            places.extend((offset, len(line)))
            offset += len(line)
            if self._held is not None:
                self._held.append(row)
        if not len(keys):
            raise DataError(f"prediction file {self.path} holds no predictions")
        self._places = np.array(places).reshape(-1, 2)
        self._refuse_twice(np.array(keys))

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        if self._held is not None:
            return self._held[index]
        offset, size = self._places[index].tolist()
        row: Row = json.loads(read_at(self.path, offset, size))
        return row

    def _lines(self) -> Iterator[bytes]:
        with self.path.open("rb") as file:
            yield from file

    def _refuse_twice(self, keys: Any) -> None:
        _, first = np.unique(keys, return_index=True)
        if len(first) < len(keys):  # it would count twice
            again = int(np.setdiff1d(np.arange(len(keys)), first)[0])
            raise DataError(
                f"prediction file {self.path}, line {again + 1} is a second row of problem "
                f"'{self[again]['id']}'; remove one"
            )


def open_rows(path: str | Path) -> Rows:
    """The rows of a prediction file, of which there may be millions; see `StoredRows`."""
    return Rows(StoredRows(path))


def read_rows(path: str | Path) -> list[Row]:
    """The rows of a prediction file as a list; see `StoredRows`."""
    return list(StoredRows(path))


def _row_in(line: bytes, where: str) -> Row | None:
    """The row in a line; None for a last line that was cut off."""
    try:
        row: Row = json.loads(line.decode())
    except (ValueError, RecursionError) as error:
        if not line.endswith(b"\n"):
            return None
        raise DataError(f"{where} {_why(error)}; remove it, or predict anew") from None
    if fault := fault_of(row):
        raise DataError(f"{where} {fault}; remove it, or predict anew")
    return row


def _why(error: Exception) -> str:
    """Why a line cannot be read."""
    if isinstance(error, UnicodeDecodeError):
        return f"is not UTF-8 text (byte {error.start} of the line)"
    if isinstance(error, json.JSONDecodeError):
        return f"is not valid JSON: {error.msg}"
    return "is nested too deeply or holds a number with too many digits"


def sample_pool(rows: Iterable[Row], rule: str = "sum") -> SamplePool:
    """The samples of prediction rows as tensors.

    Args:
        rows: lines of a prediction file; they are gone through once.
        rule: how step scores make a trajectory's score, a key of `RULES`; `answer` takes the answer's score alone.

    Raises:
        DataError: questions have different numbers of samples, as when two files were joined; or the rule has no meaning here.
    """
    if rule not in (*RULES, "answer"):
        raise DataError(
            f"the rule '{rule}' for scores is not known; use one of {', '.join((*RULES, 'answer'))}"
        )
    columns = _Columns()
    for row in rows:
        columns.add(row)
    return columns.pool(rule)


@dataclass
class _Columns:
    """What the samples of all questions hold, in columns: numbers alone, as rows go by."""

    samples: int | None = None  # N
    votes: "array[int]" = field(default_factory=lambda: array("q"))  # with the greedy one, last
    correct: "array[int]" = field(default_factory=lambda: array("b"))  # likewise
    # of every sample: what is known of it; a signal that any sample lacks is left out
    signals: "dict[str, array[float]]" = field(
        default_factory=lambda: {name: array("f") for name in (*Signal, "answer_score")}
    )
    scores: "array[float] | None" = field(default_factory=lambda: array("f"))  # of all steps
    counts: "array[int]" = field(default_factory=lambda: array("l"))  # steps of every sample
    # of every sample: the score that was read after its answer, or not a number
    after: "array[float]" = field(default_factory=lambda: array("f"))

    def add(self, row: Row) -> None:
        """Takes up a question."""
        samples = row["samples"]
        if self.samples not in (None, len(samples)):
            raise DataError(
                "the questions of the prediction file have different numbers of samples; report each run by itself"
            )
        self.samples = len(samples)
        # the greedy answer last, so that it does not change the numbers of the others
        given = [stored_answer(sample["answer"]) for sample in samples]
        given.append(stored_answer(row["greedy"]["answer"]))
        truth = stored_truth(row)
        self.votes.extend(vote_numbers(given))
        self.correct.extend(answer == truth for answer in given)
        for name in list(self.signals):
            if all(name in sample for sample in samples):
                self.signals[name].extend(sample[name] for sample in samples)
            else:
                del self.signals[name]
        self._add_scores(samples)

    def _add_scores(self, samples: list[Row]) -> None:
        """Scores of steps, and the one that was read after the answer."""
        if self.scores is None or not all("scores" in sample for sample in samples):
            self.scores = None
            return
        for sample in samples:
            self.scores.extend(sample["scores"])
            self.counts.append(len(sample["scores"]))
            self.after.append(sample.get("answer_score", math.nan))

    def pool(self, rule: str) -> SamplePool:
        """All of it as tensors."""
        size = self.samples or 0
        votes = torch.from_numpy(np.frombuffer(self.votes, np.int64)).view(-1, size + 1)
        correct = torch.from_numpy(np.frombuffer(self.correct, np.int8)).view(-1, size + 1).float()
        answer_scores = self.signals.pop("answer_score", None)
        signals = {Signal(name): _column(values, size) for name, values in self.signals.items()}
        steps = None
        if self.scores is not None and rule == "answer":
            if answer_scores is None:
                raise DataError(
                    "these predictions hold no scores of answers; use another rule than 'answer'"
                )
            signals[Signal.SCORE] = _column(answer_scores, size)
        elif self.scores is not None:
            steps = StepScores(*self._steps(size), rule)
            signals[Signal.SCORE] = steps.of(torch.arange(size))
        greedy = (votes[:, -1].clone(), correct[:, -1].clone())
        return SamplePool(votes[:, :-1].clone(), correct[:, :-1].clone(), signals, *greedy, steps)

    def _steps(self, size: int) -> tuple[Tensor, Tensor]:
        """Step scores and their mask, (Q, N, T) each; an answer's is the last, however long they are."""
        counts = torch.from_numpy(np.array(self.counts)).view(-1, size)
        mask = torch.arange(int(counts.max())) < counts[..., None]
        values = torch.zeros(mask.shape)
        values[mask] = torch.from_numpy(np.array(self.scores, np.float32))
        after = torch.from_numpy(np.array(self.after, np.float32)).view(-1, size, 1)
        if not after.isnan().all():
            values = torch.cat([values, after.nan_to_num()], -1)
            mask = torch.cat([mask, ~after.isnan()], -1)
        return values, mask.float()


def _column(values: "array[float]", size: int) -> Tensor:
    """Numbers of all samples -> (Q, N)."""
    return torch.from_numpy(np.frombuffer(values, np.float32)).view(-1, size)


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


def is_right(text: str | None, row: dict[str, Any]) -> bool:
    """Whether an answer, as it is stored, is right for a row; none is wrong."""
    return text is not None and stored_truth(row) == stored_answer(text)
