"""Bootstrap intervals over questions, seeded."""

from collections.abc import Callable

import torch
from torch import Tensor

_AT_ONCE = 2**22  # indices drawn together, 32 MB


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
    generator = torch.Generator().manual_seed(seed)
    questions, means = len(columns), []
    for part in torch.arange(resamples).split(max(_AT_ONCE // questions, 1)):
        drawn = torch.randint(questions, (len(part), questions), generator=generator)
        means.append(columns[drawn].mean(1))
    bounds = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    low, high = statistic(torch.cat(means)).double().nanquantile(bounds).tolist()
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
