"""Hidden states by position, in rows of unequal lengths."""

import torch
from torch import Tensor


def lay_out(thoughts: Tensor, after: Tensor, index: Tensor) -> Tensor:
    """Thoughts (R, T, width) and what follows (R, A, width), without gaps between them.

    Row r of the result holds at j what stands at index[r, j] of the two, one after the other.
    """
    both = torch.cat([thoughts, after], dim=1)
    return both.gather(1, index[..., None].expand(-1, -1, thoughts.shape[-1]))


def at(hidden: Tensor, positions: Tensor) -> Tensor:
    """Hidden states (R, L, width) at one position of each row (R,), or at several (R, P)."""
    rows = torch.arange(len(hidden), device=hidden.device)
    return hidden[rows.view(-1, *[1] * (positions.dim() - 1)), positions]
