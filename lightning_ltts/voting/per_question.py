"""Metrics that keep one value per question, so that they come with bootstrap intervals over questions."""

from collections.abc import Callable

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from lightning_ltts.voting.estimates import accuracy_of_blocks, pass_at_k
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
        self.values.append(pass_at_k(correct, self.k))


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
        self.values.append(
            accuracy_of_blocks(
                self.selection, votes, correct, scores, self.num_samples, self.shuffles, self.fixed
            )
        )
