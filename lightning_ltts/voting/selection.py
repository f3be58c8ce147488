"""Choosing an answer among samples: majority, weighted vote and best-of-N.

What weighs is the LatentRM's score or, for the baselines without training, how sure the reasoner
was of the answer, or how near its thoughts are to the greedy ones.

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
from collections.abc import Container, Mapping
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from lightning_ltts.errors import ConfigError
from lightning_ltts.voting.signals import Signal


class Selection(ABC):
    """A rule that chooses one sample per question."""

    name: str  # in files, options and tables
    title: ClassVar[str] = ""  # for readers of a page; by default the name with spaces
    reads: Signal | None = Signal.SCORE  # of each sample, beside the answer
    parameter: ClassVar[str | None] = None  # what it is called where fitted values are stored
    candidates: ClassVar[tuple[float, ...]] = ()  # what its parameter is fitted from, on validation

    @abstractmethod
    def choose(self, votes: Tensor, scores: Tensor) -> Tensor:
        """Chooses for every question; ties go to the earliest sample.

        Args:
            votes: (Q, N) int64 answers as numbers, -1 for none.
            scores: (Q, N) what `reads` names, such as trajectory scores; zeros where it is None.

        Returns the index of the chosen sample (Q,), -1 for none.
        """

    def read(self, signals: Mapping[Signal, Tensor], votes: Tensor) -> Tensor:
        """What it reads of the samples (Q, N) beside their answers; zeros where that is nothing."""
        nothing = torch.zeros((), device=votes.device).expand(votes.shape)
        return nothing if self.reads is None else signals[self.reads]

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
    title = "majority vote"
    reads = None

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
    title = "weighted vote"
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
    title = "best-of-N"

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
    title = "agreeing best-of-N"
    parameter = "agreement"
    candidates = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)

    def __init__(self, weight: float = 0.0):
        if not 0 <= weight < math.inf:
            raise ConfigError(
                f"weight={weight} of the vote in best-of-N must be a number that is not negative"
            )
        self.weight = weight

    def choose(self, votes: Tensor, scores: Tensor) -> Tensor:  # noqa: D102
        ones = torch.ones(votes.shape, dtype=torch.float64, device=votes.device)
        share = _sums(votes, ones) / votes.shape[1]
        return super().choose(votes, scores.double() + self.weight * share.log())


class MostProbable(BestOfN):
    """The answer that the reasoner gave with the highest probability, thoughts given."""

    name = "log_prob_best"
    title = "most probable answer"
    reads = Signal.LOG_PROB


class ProbableVote(WeightedVote):
    """The weighted vote where a sample weighs as its answer's probability."""

    name = "log_prob_vote"
    title = "vote by probability"
    reads = Signal.LOG_PROB
    parameter = "log_prob_temperature"


class MostCertain(BestOfN):
    """The answer with the highest self-certainty (Kang et al. 2025, arXiv 2502.18581)."""

    name = "certainty_best"
    title = "most certain answer"
    reads = Signal.SELF_CERTAINTY


class CertainVote(WeightedVote):
    """The weighted vote by self-certainty."""

    name = "certainty_vote"
    title = "vote by certainty"
    reads = Signal.SELF_CERTAINTY
    parameter = "certainty_temperature"


class Nearest(BestOfN):
    """The answer of the trajectory whose thoughts are nearest to the greedy ones."""

    name = "nearest_best"
    title = "nearest thoughts"
    reads = Signal.NEARNESS


class NearVote(WeightedVote):
    """The weighted vote by nearness to the greedy thoughts."""

    name = "nearest_vote"
    title = "vote by nearness"
    reads = Signal.NEARNESS
    parameter = "nearness_temperature"


# what stood in every description and row before there was `fitted`, with the value where nothing was
UNFITTED = {"temperature": 1.0, "agreement": 0.0}
# the list of selections, in the order of tables and figures
SELECTIONS: tuple[type[Selection], ...] = (
    *(Majority, MostProbable, ProbableVote, MostCertain, CertainVote, Nearest, NearVote),
    *(WeightedVote, BestOfN, AgreeingBestOfN),
)


def selections(fitted: Mapping[str, Any], signals: Container[Signal | None]) -> list[Selection]:
    """Every selection that can be used, with fitted parameters (name -> value) where there are such.

    Args:
        fitted: values of parameters such as `temperature`; others in it do no harm.
        signals: what is known of each sample beside its answer.
    """
    return [kind.fitted(fitted) for kind in kinds_for(signals)]


def kinds_for(signals: Container[Signal | None]) -> list[type[Selection]]:
    """The selections that read nothing but these signals of a sample, and its answer."""
    return [kind for kind in SELECTIONS if kind.reads is None or kind.reads in signals]


def fitted_in(stored: Mapping[str, Any]) -> dict[str, float]:
    """The fitted parameters that a LatentRM's description or a row of predictions holds.

    Those that were written before there was `fitted` hold the parameters of `UNFITTED` one by one.
    """
    early = {name: stored[name] for name in UNFITTED if name in stored}
    return {**early, **stored.get("fitted", {})}


def _heaviest(votes: Tensor, weights: Tensor) -> Tensor:
    """The first sample (Q,) that gave the answer with the largest total weight."""
    answered = votes >= 0
    totals = _sums(votes, weights.nan_to_num()).masked_fill(~answered, -torch.inf)
    # rounding makes equal sums differ in the last bits, which must not decide a tie
    chosen = (totals >= totals.amax(dim=1, keepdim=True) - 1e-9).to(torch.int8).argmax(dim=1)
    return chosen.where(answered.any(dim=1), -1)


def _sums(votes: Tensor, weights: Tensor) -> Tensor:
    """The weights (Q, N) of all samples that gave the same answer as each; of no answer, its own."""
    answered, none = votes >= 0, votes.shape[1]
    # numbers below N, so that each question's sums fit into as many places; no answer comes last
    numbers = votes if votes.numel() == 0 or int(votes.max()) < none else _renumbered(votes)
    places = numbers.where(answered, none)
    sums = weights.new_zeros(len(votes), none + 1).scatter_add_(1, places, weights)
    return sums.gather(1, places).where(answered, weights)


def _renumbered(votes: Tensor) -> Tensor:
    """Votes (Q, N) of any numbers -> the place (Q, N) of the first sample with the same one."""
    same = votes[:, :, None] == votes[:, None, :]
    return same.to(torch.int8).argmax(-1)
