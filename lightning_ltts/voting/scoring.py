"""From step scores to one score per trajectory, for selections that run on stored predictions.

Each rule takes step scores (Q, N, T), raw logits, and their mask (Q, N, T), 1 where a trajectory has the step. A score that was
read after the answer is the last step, also of trajectories with fewer thoughts than others.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def _mean(scores: Tensor, mask: Tensor) -> Tensor:
    return (scores * mask).sum(-1) / mask.sum(-1).clamp(min=1)


def _last(scores: Tensor, mask: Tensor) -> Tensor:
    at = (mask * torch.arange(1, mask.shape[-1] + 1, device=mask.device)).argmax(-1, keepdim=True)
    return scores.gather(-1, at).squeeze(-1) * mask.amax(-1)


def _standardized(scores: Tensor, mask: Tensor) -> Tensor:
    """Every step of a question has mean 0 and deviation 1 over its samples, so that none outweighs the others."""
    count = mask.sum(1, keepdim=True).clamp(min=1)
    centred = (scores - (scores * mask).sum(1, keepdim=True) / count) * mask
    deviation = (centred.pow(2).sum(1, keepdim=True) / count).sqrt()
    return (centred / deviation.clamp(min=1e-6)).sum(-1)


RULES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "sum": lambda scores, mask: (scores * mask).sum(-1),  # the paper's
    "mean": _mean,
    "last": _last,
    "min": lambda scores, mask: (
        scores.masked_fill(mask == 0, torch.inf).amin(-1).nan_to_num(posinf=0.0)
    ),
    "product": lambda scores, mask: (F.logsigmoid(scores) * mask).sum(
        -1
    ),  # log of the product of probabilities
    "standardized": _standardized,
}
