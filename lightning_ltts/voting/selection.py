"""Choosing an answer among samples: majority, LatentRM-weighted vote and best-of-N.

A selection needs only the samples' answers and scores, so it runs on stored predictions. All work on a batch of questions
at once: votes (Q, N) are integers that are equal where two samples of a question gave the same answer, and -1 where a sample
gave none, which never votes. The choice is the index of a sample, or -1 where no sample has an answer.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from lightning_ltts.errors import ConfigError


class Selection(ABC):
    """A rule that chooses one sample per question."""

    name: str

    @abstractmethod
    def choose(self, votes: Tensor, scores: Tensor) -> Tensor:
        """Votes (Q, N) and trajectory scores (Q, N) -> chosen sample (Q,), -1 for none. Ties go to the earliest sample."""


class Majority(Selection):
    """The most frequent answer (self-consistency)."""

    name = "majority"

    def choose(self, votes: Tensor, scores: Tensor) -> Tensor:  # noqa: D102
        return _heaviest(votes, torch.ones(votes.shape, dtype=torch.float64, device=votes.device))


class WeightedVote(Selection):
    """The answer with the most weight, where a sample weighs softmax(score / temperature) among its question's samples.

    Args:
        temperature: low approaches best-of-N, high approaches majority.
    """

    name = "weighted_vote"

    def __init__(self, temperature: float = 1.0):
        if temperature <= 0:
            raise ConfigError(f"temperature={temperature} of the weighted vote must be above 0")
        self.temperature = temperature

    def choose(self, votes: Tensor, scores: Tensor) -> Tensor:  # noqa: D102
        weights = (scores.double() / self.temperature).masked_fill(votes < 0, -torch.inf).softmax(dim=1)
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
    """

    name = "agreeing_best_of_n"

    def __init__(self, weight: float = 0.0):
        if weight < 0:
            raise ConfigError(f"weight={weight} of the vote in best-of-N must not be negative")
        self.weight = weight

    def choose(self, votes: Tensor, scores: Tensor) -> Tensor:  # noqa: D102
        share = (votes[:, :, None] == votes[:, None, :]).double().mean(-1)
        return super().choose(votes, scores.double() + self.weight * share.log())


def _heaviest(votes: Tensor, weights: Tensor) -> Tensor:
    """The first sample (Q,) that gave the answer with the largest total weight."""
    answered = votes >= 0
    same = (votes[:, :, None] == votes[:, None, :]) & answered[:, None, :]  # (Q, N, N)
    totals = (same * weights[:, None, :].nan_to_num()).sum(-1).masked_fill(~answered, -torch.inf)
    # rounding makes equal sums differ in the last bits, which must not decide a tie
    chosen = (totals >= totals.amax(dim=1, keepdim=True) - 1e-9).to(torch.int8).argmax(dim=1)
    return chosen.where(answered.any(dim=1), -1)
