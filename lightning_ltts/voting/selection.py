"""Choosing an answer among samples: majority, LatentRM-weighted vote and best-of-N.

A selection needs only the samples' answers and scores, so it runs on stored predictions. All work
on a batch of questions at once: votes (Q, N) are integers that are equal where two samples of a
question gave the same answer, and -1 where a sample gave none, which never votes. The choice is
the index of a sample, or -1 where no sample has an answer.

A new selection is one class here and its entry in `SELECTIONS`; predictions, tables, figures and
the metrics of LatentRM training find it there. So do the values of parameters that are fitted with
a LatentRM: its checkpoint and its predictions hold them under `fitted`, by the parameter's name.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from lightning_ltts.errors import ConfigError


class Selection(ABC):
    """A rule that chooses one sample per question."""

    name: str  # in tables and figures
    needs_scores: ClassVar[bool] = True
    parameter: ClassVar[str | None] = None  # what it is called where fitted values are stored
    candidates: ClassVar[tuple[float, ...]] = ()  # what its parameter is fitted from, on validation

    @abstractmethod
    def choose(self, votes: Tensor, scores: Tensor) -> Tensor:
        """Chooses for every question; ties go to the earliest sample.

        Args:
            votes: (Q, N) int64 answers as numbers, -1 for none.
            scores: (Q, N) trajectory scores; zeros where there is no LatentRM.

        Returns the index of the chosen sample (Q,), -1 for none.
        """

    @classmethod
    def variants(cls) -> "list[Selection]":
        """The selection with each candidate of its parameter, or the one there is."""
        return [cls(*([value] if cls.parameter else [])) for value in cls.candidates or (None,)]

    @classmethod
    def fitted(cls, values: Mapping[str, Any]) -> Self:
        """The selection with its parameter out of `values`, or its own default where that lacks it."""
        given = (
            [] if cls.parameter is None or cls.parameter not in values else [values[cls.parameter]]
        )
        return cls(*given)


class Majority(Selection):
    """The most frequent answer (self-consistency)."""

    name = "majority"
    needs_scores = False

    def choose(self, votes: Tensor, scores: Tensor) -> Tensor:  # noqa: D102
        return _heaviest(votes, torch.ones(votes.shape, dtype=torch.float64, device=votes.device))


class WeightedVote(Selection):
    """The answer with the most weight, where a sample weighs softmax(score / temperature) among its question's samples.

    Args:
        temperature: low approaches best-of-N, high approaches majority.

    Raises:
        ConfigError: the temperature is not above 0.
    """

    name = "weighted_vote"
    parameter = "temperature"
    candidates = tuple(2.0 ** (i / 2) for i in range(-4, 9))

    def __init__(self, temperature: float = 1.0):
        if not 0 < temperature < math.inf:
            raise ConfigError(
                f"temperature={temperature} of the weighted vote must be a number above 0"
            )
        self.temperature = temperature

    def choose(self, votes: Tensor, scores: Tensor) -> Tensor:  # noqa: D102
        weights = (
            (scores.double() / self.temperature).masked_fill(votes < 0, -torch.inf).softmax(dim=1)
        )
        return _heaviest(votes, weights)


class BestOfN(Selection):
    """The answer of the trajectory with the highest score."""

    name = "best_of_n"

    def choose(self, votes: Tensor, scores: Tensor) -> Tensor:  # noqa: D102
        best = scores.double().masked_fill(votes < 0, -torch.inf).argmax(dim=1)
        return best.where((votes >= 0).any(dim=1), -1)


class AgreeingBestOfN(BestOfN):
    """Best-of-N where the vote has a say: the highest of score + weight * log(share of samples with the same answer).

    Args:
        weight: 0 is best-of-N; a high one approaches majority.

    Raises:
        ConfigError: the weight is negative.
    """

    name = "agreeing_best_of_n"
    parameter = "agreement"
    candidates = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)

    def __init__(self, weight: float = 0.0):
        if not 0 <= weight < math.inf:
            raise ConfigError(
                f"weight={weight} of the vote in best-of-N must be a number that is not negative"
            )
        self.weight = weight

    def choose(self, votes: Tensor, scores: Tensor) -> Tensor:  # noqa: D102
        share = (votes[:, :, None] == votes[:, None, :]).double().mean(-1)
        return super().choose(votes, scores.double() + self.weight * share.log())


# what stood in every description and row before there was `fitted`, with the value where nothing was
UNFITTED = {"temperature": 1.0, "agreement": 0.0}
# the list of selections, in the order of tables and figures
SELECTIONS: tuple[type[Selection], ...] = (Majority, WeightedVote, BestOfN, AgreeingBestOfN)


def selections(fitted: Mapping[str, Any], scored: bool) -> list[Selection]:
    """Every selection that can be used, with fitted parameters (name -> value) where there are such.

    Args:
        fitted: values of parameters such as `temperature`; others in it do no harm.
        scored: whether trajectories have scores.
    """
    return [kind.fitted(fitted) for kind in SELECTIONS if scored or not kind.needs_scores]


def fitted_in(stored: Mapping[str, Any]) -> dict[str, float]:
    """The fitted parameters that a LatentRM's description or a row of predictions holds.

    Those that were written before there was `fitted` hold the parameters of `UNFITTED` one by one.
    """
    early = {name: stored[name] for name in UNFITTED if name in stored}
    return {**early, **stored.get("fitted", {})}


def _heaviest(votes: Tensor, weights: Tensor) -> Tensor:
    """The first sample (Q,) that gave the answer with the largest total weight."""
    answered = votes >= 0
    same = (votes[:, :, None] == votes[:, None, :]) & answered[:, None, :]  # (Q, N, N)
    totals = (same * weights[:, None, :].nan_to_num()).sum(-1).masked_fill(~answered, -torch.inf)
    # rounding makes equal sums differ in the last bits, which must not decide a tie
    chosen = (totals >= totals.amax(dim=1, keepdim=True) - 1e-9).to(torch.int8).argmax(dim=1)
    return chosen.where(answered.any(dim=1), -1)
