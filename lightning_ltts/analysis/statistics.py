"""Comparing two methods on the same questions."""

from math import comb

import torch
from torch import Tensor


def mcnemar(one: Tensor, other: Tensor) -> float:
    """Exact two-sided McNemar test: the chance of so uneven a split of the questions on which two methods differ.

    Args:
        one: (Q,), 1 where the first method is right.
        other: (Q,), likewise of the second.
    """
    first, second = int(((one > 0) & (other == 0)).sum()), int(((other > 0) & (one == 0)).sum())
    n = first + second
    return min(1.0, 2 * sum(comb(n, k) for k in range(min(first, second) + 1)) / 2**n)


def headroom_closed(selected: Tensor, majority: Tensor, oracle: Tensor) -> float:
    """(selected - majority) / (oracle - majority) of mean accuracies: 1 is as good as always choosing a right sample."""
    room = float(oracle.mean() - majority.mean())
    return float(selected.mean() - majority.mean()) / room if room > 0 else float("nan")


def headroom_interval(
    selected: Tensor, majority: Tensor, oracle: Tensor, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Percentile interval of `headroom_closed` under resampling of questions, seeded."""
    generator = torch.Generator().manual_seed(seed)
    n, shares = len(selected), []
    for _ in range(resamples):
        drawn = torch.randint(n, (n,), generator=generator)
        shares.append(headroom_closed(selected[drawn], majority[drawn], oracle[drawn]))
    bounds = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    low, high = torch.tensor(shares, dtype=torch.float64).nanquantile(bounds).tolist()
    return low, high
