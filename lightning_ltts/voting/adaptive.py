"""Adaptive stopping: how many samples a question needs until its vote is settled.

Works on stored samples in their order, which stands for the order in which they would be drawn.
"""

from abc import ABC, abstractmethod
from math import comb

import torch
from torch import Tensor

from lightning_ltts.data.ranges import require_number, require_whole
from lightning_ltts.voting.selection import Selection

_AT_ONCE = 2**12  # questions


class StoppingRule(ABC):
    """When to stop drawing."""

    @abstractmethod
    def settled(self, votes: Tensor) -> Tensor:
        """Votes of the samples drawn so far (Q, n) -> whether each question is settled (Q,)."""


class BetaStopping(StoppingRule):
    """Stops when the answer in front would win with some confidence (Aggarwal et al. 2023, adaptive consistency).

    With v_1 and v_2 votes for the two most frequent answers, the share of the first among both has the posterior
    Beta(v_1 + 1, v_2 + 1); the question is settled when it lies above one half with the given probability.

    Args:
        confidence: that probability.
    """

    def __init__(self, confidence: float = 0.95):
        require_number("BetaStopping", "confidence", confidence, 0.5, 1, open_ends=True)
        self.confidence = confidence

    def settled(self, votes: Tensor) -> Tensor:  # noqa: D102
        first, second = _top_two(votes)
        pairs = zip(first.tolist(), second.tolist(), strict=True)
        return torch.tensor(
            [_beta_above_half(a + 1, b + 1) >= self.confidence for a, b in pairs], dtype=torch.bool
        )


class WindowStopping(StoppingRule):
    """Stops when the last samples all gave the same answer (Li et al. 2024, early-stopping self-consistency).

    Args:
        window: how many.
    """

    def __init__(self, window: int = 5):
        require_whole("WindowStopping", "window", window, 2)
        self.window = window

    def settled(self, votes: Tensor) -> Tensor:  # noqa: D102
        last = votes[:, -self.window :]
        return (
            (last == last[:, :1]).all(1)
            & (last[:, 0] >= 0)
            & torch.tensor(votes.shape[1] >= self.window)
        )


class Adaptive(Selection):
    """A selection among the samples that are drawn until the vote is settled.

    Args:
        selection: what chooses among them.
        rule: when to stop.
    """

    def __init__(self, selection: Selection, rule: StoppingRule):
        self.selection = selection
        self.rule = rule
        self.name = f"adaptive_{selection.name}"
        self.reads = selection.reads

    def samples_used(self, votes: Tensor) -> Tensor:
        """Votes (Q, N) -> samples drawn (Q,), N where the vote is never settled."""
        # some questions at once, since all pairs of samples are compared
        return torch.cat([self._used(some) for some in votes.split(_AT_ONCE)])

    def _used(self, votes: Tensor) -> Tensor:
        """What `samples_used` says, of some questions."""
        used = torch.full((len(votes),), votes.shape[1])
        open_questions = torch.arange(len(votes))
        for n in range(1, votes.shape[1]):
            drawn = votes[open_questions, :n]
            first, second = _top_two(drawn)
            settled = self.rule.settled(drawn) | (
                first - second > votes.shape[1] - n
            )  # the rest cannot turn the vote
            used[open_questions[settled]] = n
            open_questions = open_questions[~settled]
        return used

    def choose(self, votes: Tensor, scores: Tensor) -> Tensor:  # noqa: D102
        drawn = torch.arange(votes.shape[1]) < self.samples_used(votes)[:, None]
        return self.selection.choose(votes.where(drawn, -1), scores)


def _top_two(votes: Tensor) -> tuple[Tensor, Tensor]:
    """Votes (Q, n) -> how often the two most frequent answers were given (Q,), (Q,)."""
    same = (
        (votes[:, :, None] == votes[:, None, :])
        & (votes >= 0)[:, None, :]
        & (votes >= 0)[:, :, None]
    )
    counts = same.sum(-1)
    first = counts.amax(1)
    leader = votes.gather(1, counts.argmax(1, keepdim=True))
    return first, counts.masked_fill(votes == leader, 0).amax(1)


def _beta_above_half(a: int, b: int) -> float:
    """P(X > 1/2) for X ~ Beta(a, b) with whole a and b: the chance of fewer than a heads in a + b - 1 fair throws."""
    n = a + b - 1
    result: float = sum(comb(n, k) for k in range(a)) / 2**n
    return result
