"""Comparing two methods on the same questions."""

from math import comb

import torch
from torch import Tensor

from lightning_ltts.voting.bootstrap import interval_of


def mcnemar(one: Tensor, other: Tensor) -> float:
    """Exact two-sided McNemar test: the chance of so uneven a split of the questions on which two methods differ.

    Args:
        one: (Q,), 1 where the first method is right.
        other: (Q,), likewise of the second.
    """
    first, second = int(((one > 0) & (other == 0)).sum()), int(((other > 0) & (one == 0)).sum())
    n = first + second
    result: float = min(1.0, 2 * sum(comb(n, k) for k in range(min(first, second) + 1)) / 2**n)
    return result


def headroom_closed(selected: Tensor, majority: Tensor, oracle: Tensor) -> float:
    """(selected - majority) / (oracle - majority) of mean accuracies: 1 is as good as always choosing a right sample."""
    room = float(oracle.mean() - majority.mean())
    return float(selected.mean() - majority.mean()) / room if room > 0 else float("nan")


def headroom_interval(selected: Tensor, majority: Tensor, oracle: Tensor) -> tuple[float, float]:
    """95 % percentile interval of `headroom_closed` under resampling of questions, seeded."""

    def shares(means: Tensor) -> Tensor:
        room = means[:, 2] - means[:, 1]
        return ((means[:, 0] - means[:, 1]) / room).masked_fill(room <= 0, float("nan"))

    return interval_of(torch.stack([selected, majority, oracle], dim=1), shares)
