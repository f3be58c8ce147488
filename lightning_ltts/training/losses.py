"""Losses of LatentRM over the trajectories of one question (arXiv 2510.07745, section 4)."""

import torch.nn.functional as F
from torch import Tensor


def contrastive_loss(scores: Tensor, labels: Tensor, normalize: bool = True) -> Tensor:
    """Step-wise contrastive loss: at each step, cross-entropy between labels and a softmax over the N trajectories.

    With p = softmax_n(r), a step's loss is -sum_n w_n log p_n. Normalised, w_n = y_n / sum_m y_m, and the mean is over steps
    with any positive label, so that every such step counts the same. Unnormalised, w_n = y_n as in the paper's released code,
    so that steps with a higher success rate weigh more, and the mean is over all steps.

    Args:
        scores: (Q, N, T) raw logits r_t.
        labels: (Q, N, T) thought labels y_t in [0, 1].
        normalize: which of the two forms.
    """
    log_p = scores.float().log_softmax(dim=1)
    if not normalize:
        return -(labels * log_p).sum(dim=1).mean()
    total = labels.sum(dim=1)  # (Q, T)
    per_step = -(labels * log_p).sum(dim=1) / total.clamp(min=1e-6)
    labelled = total > 0
    return (per_step * labelled).sum() / labelled.sum().clamp(min=1)


def bce_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy with soft labels, each trajectory and step on its own (the paper's ablation)."""
    return F.binary_cross_entropy_with_logits(scores.float(), labels)
