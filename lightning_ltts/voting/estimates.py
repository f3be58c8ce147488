"""Accuracy of each question at fewer samples than were drawn, estimated without bias."""

from collections.abc import Callable

import torch
from torch import Tensor

from lightning_ltts.voting.selection import Selection

_AT_ONCE = 2**14  # questions


def pass_at_k(correct: Tensor, k: int) -> Tensor:
    """Unbiased pass@k = 1 - C(n-c, k) / C(n, k) of c right among n samples (Chen et al. 2021).

    With k = n it is coverage.

    Args:
        correct: (Q, n), 1 where a sample is right.
        k: samples that are drawn, at most n.

    Returns:
        (Q,) float64.
    """
    n = correct.shape[1]
    if n < k:
        raise ValueError(f"pass@{k} needs at least {k} samples per question, got {n}")
    # C(n-c, k) / C(n, k) = prod_{i<k} (n-c-i) / (n-i), which is 0 as soon as n-c < k, for every c
    c = torch.arange(n + 1, dtype=torch.float64, device=correct.device)
    i = torch.arange(k, dtype=torch.float64, device=correct.device)
    factors = (n - c[:, None] - i).clamp(min=0) / (n - i)
    return (1 - factors.prod(dim=1))[correct.sum(dim=1).long()]


def accuracy_of_blocks(
    selection: Selection,
    votes: Tensor,
    correct: Tensor,
    scores: Tensor | Callable[[Tensor], Tensor],
    num_samples: int | None = None,
    shuffles: int = 1,
    fixed: int = 0,
) -> Tensor:
    """Accuracy of a selection with N samples, averaged over disjoint blocks of N of a pool.

    Args:
        selection: the rule that chooses.
        votes: (Q, P) of the pool's samples.
        correct: (Q, P), 1 where a sample is right.
        scores: (Q, P); see `Selection`. Scores that depend on what else is in a block come as a
            function: from the numbers of a block's samples (n,) to their scores (Q, n).
        num_samples: N; the whole pool where it is not given.
        shuffles: how often the pool is cut into blocks, each time in another (seeded) order, the
            first time in its own; more estimate the same value with less variance.
        fixed: how many columns at the end of the pool are part of every block, beside its N.

    Returns:
        (Q,) float64.
    """
    pool = votes.shape[1] - fixed
    size = num_samples or pool
    blocks = pool // size
    if not blocks:
        raise ValueError(
            f"accuracy at N = {size} needs at least {size} samples per question, got {pool}"
        )
    generator = torch.Generator().manual_seed(0)
    order, always = torch.arange(pool), torch.arange(pool, votes.shape[1])
    parts = []
    for _ in range(shuffles if size < pool else 1):
        parts += list(order[: blocks * size].split(size))
        order = torch.randperm(pool, generator=generator)
    found = torch.zeros(len(votes), dtype=torch.float64, device=votes.device)
    for part in (torch.cat([part, always]) for part in parts):
        # scores of the pool, or of this block alone
        read, own = (scores, part) if isinstance(scores, Tensor) else (scores(part), slice(None))
        # some questions at once, since rules compare all pairs of samples
        for start in range(0, len(votes), _AT_ONCE):
            some = slice(start, start + _AT_ONCE)
            chosen = selection.choose(votes[some][:, part], read[some][:, own])
            right = correct[some][:, part].gather(1, chosen.clamp(min=0)[:, None])[:, 0]
            found[some] += right * (chosen >= 0)
    return found.div_(len(parts))
