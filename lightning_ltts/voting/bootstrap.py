"""Bootstrap intervals over questions, seeded."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

MANY = 50_000  # questions beyond which they are resampled by their kinds
_AT_ONCE = 2**18  # values drawn together, 2 MB


def bootstrap_interval(
    values: Tensor, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Percentile interval of the mean of `values` (Q,) under resampling of questions.

    For two methods, pass their per-question differences.
    """
    return interval_of(values[:, None], lambda means: means[:, 0], level, resamples, seed)


def interval_of(
    columns: Tensor,
    statistic: Callable[[Tensor], Tensor],
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of a statistic of means, under resampling of questions.

    Args:
        columns: (Q, C) values of each question.
        statistic: means (resamples, C) -> (resamples,); NaN where a resample has none.
        level: share of the resamples that the interval holds.
        resamples: how many are drawn.
        seed: determines them.
    """
    if len(columns) > MANY:
        return _bounds(statistic(_means_by_counts(columns, resamples, seed)), level)
    generator = torch.Generator().manual_seed(seed)
    questions, means = len(columns), columns.new_empty(resamples, columns.shape[1])
    # written in place: small tensors kept between large ones would break up the memory
    for part in means.split(max(_AT_ONCE // columns.numel(), 1)):
        drawn = torch.randint(questions, (len(part), questions), generator=generator)
        part.copy_(columns[drawn].mean(1))
    return _bounds(statistic(means), level)


def _means_by_counts(columns: Tensor, resamples: int, seed: int) -> Tensor:
    """Means (resamples, C) of resampled questions, from how often each kind of them is drawn.

    Questions with equal values are of one kind: how many of each a resample has is multinomial.
    """
    # NumPy's, since PyTorch's makes a tensor of every question
    kinds, counts = np.unique(columns.double().numpy(), axis=0, return_counts=True)
    shares = counts / len(columns)
    drawn = np.random.default_rng(seed).multinomial(len(columns), shares, size=resamples)
    means: Tensor = torch.from_numpy(drawn).double() @ torch.from_numpy(kinds) / len(columns)
    return means.to(columns.dtype)


def _bounds(values: Tensor, level: float) -> tuple[float, float]:
    """The interval that holds such a share of the values."""
    bounds = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    low, high = values.double().nanquantile(bounds).tolist()
    return low, high


def crossed_interval(
    values: Tensor, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Percentile interval of the mean of `values` (S, Q) of S trainings on the same Q questions.

    Both are resampled, the questions for all trainings alike, so that the interval holds the noise
    of training, too. With a few trainings it can say little about that, and is wide.
    """
    generator = torch.Generator().manual_seed(seed)
    trainings, questions = values.shape
    means = []
    for _ in range(resamples):
        drawn = torch.randint(trainings, (trainings,), generator=generator)
        asked = torch.randint(questions, (questions,), generator=generator)
        means.append(values[drawn][:, asked].mean())
    bounds = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    low, high = torch.stack(means).double().quantile(bounds).tolist()
    return low, high
