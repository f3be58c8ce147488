"""Metrics that keep one value per question, so that they come with bootstrap intervals over questions."""

from collections.abc import Callable

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from lightning_ltts.voting.selection import Selection


class PerQuestion(Metric):
    """Mean over questions of a value in [0, 1]; subclasses turn samples into that value in `update`."""

    full_state_update = False
    higher_is_better = True
    values: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("values", default=[], dist_reduce_fx="cat")

    def compute(self) -> Tensor:
        """The mean."""
        return self.per_question().mean()

    def per_question(self) -> Tensor:
        """(questions,) float64, in the order of the updates."""
        # those gathered from several devices are one tensor
        if isinstance(self.values, Tensor) or self.values:
            return dim_zero_cat(self.values)
        return torch.zeros(0, dtype=torch.float64)


class PassAtK(PerQuestion):
    """Unbiased pass@k = 1 - C(n-c, k) / C(n, k) of c right among n samples (Chen et al. 2021); with k = n, coverage.

    Args:
        k: samples that are drawn.
    """

    def __init__(self, k: int):
        super().__init__()
        self.k = k

    def update(self, correct: Tensor) -> None:
        """Correct (Q, N), 1 where a sample is right; N must be at least k."""
        n = correct.shape[1]
        if n < self.k:
            raise ValueError(f"pass@{self.k} needs at least {self.k} samples per question, got {n}")
        c = correct.double().sum(dim=1)
        # C(n-c, k) / C(n, k) = prod_{i<k} (n-c-i) / (n-i), which is 0 as soon as n-c < k
        i = torch.arange(self.k, dtype=torch.float64, device=correct.device)
        factors = (n - c[:, None] - i).clamp(min=0) / (n - i)
        self.values.append(1 - factors.prod(dim=1))


class SelectedAccuracy(PerQuestion):
    """Accuracy of a selection with N samples, averaged over disjoint blocks of N of the pool of samples, which is unbiased.

    Args:
        selection: the rule that chooses.
        num_samples: N; the whole pool where it is not given.
        shuffles: how often the pool is cut into blocks, each time in another (seeded) order, the
            first time in its own; more estimate the same value with less variance.
        fixed: how many columns at the end of the pool are part of every block, beside its N.
    """

    def __init__(
        self,
        selection: Selection,
        num_samples: int | None = None,
        shuffles: int = 1,
        fixed: int = 0,
    ):
        super().__init__()
        self.selection = selection
        self.num_samples = num_samples
        self.shuffles = shuffles
        self.fixed = fixed

    def update(
        self, votes: Tensor, correct: Tensor, scores: Tensor | Callable[[Tensor], Tensor]
    ) -> None:
        """A pool of P samples: votes (Q, P), which are correct, and scores; see `Selection`.

        Scores that depend on what else is in a block come as a function: from the numbers of a
        block's samples (n,) to their scores (Q, n).
        """
        pool = votes.shape[1] - self.fixed
        size = self.num_samples or pool
        blocks = pool // size
        if not blocks:
            raise ValueError(
                f"accuracy at N = {size} needs at least {size} samples per question, got {pool}"
            )
        per_block, generator = [], torch.Generator().manual_seed(0)
        order, always = torch.arange(pool), torch.arange(pool, votes.shape[1])
        parts = []
        for _ in range(self.shuffles if size < pool else 1):
            parts += list(order[: blocks * size].split(size))
            order = torch.randperm(pool, generator=generator)
        for part in (torch.cat([part, always]) for part in parts):
            own = scores[:, part] if isinstance(scores, Tensor) else scores(part)
            chosen = self.selection.choose(votes[:, part], own)
            right = correct[:, part].gather(1, chosen.clamp(min=0)[:, None])[:, 0]
            per_block.append(right.double() * (chosen >= 0))
        self.values.append(torch.stack(per_block).mean(0))
