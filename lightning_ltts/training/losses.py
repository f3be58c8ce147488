"""Losses of LatentRM over the trajectories of one question (arXiv 2510.07745, section 4)."""

import torch
import torch.nn.functional as F
from torch import Tensor


def contrastive_loss(scores: Tensor, labels: Tensor, normalize: bool = True, mask: Tensor | None = None) -> Tensor:
    """Step-wise contrastive loss: at each step, cross-entropy between labels and a softmax over the N trajectories.

    With p = softmax_n(r), a step's loss is -sum_n w_n log p_n. Normalised, w_n = y_n / sum_m y_m, and the mean is over steps
    with any positive label, so that every such step counts the same. Unnormalised, w_n = y_n as in the paper's released code,
    so that steps with a higher success rate weigh more, and the mean is over all steps that any trajectory has.

    Args:
        scores: (Q, N, T) raw logits r_t.
        labels: (Q, N, T) thought labels y_t in [0, 1].
        normalize: which of the two forms.
        mask: (Q, N, T), 1 on thoughts that a trajectory has; by default on all. Others are not compared with.
    """
    has = torch.ones_like(labels) if mask is None else mask
    log_p = scores.float().masked_fill(has == 0, -torch.inf).log_softmax(dim=1).masked_fill(has == 0, 0.0)
    labels = labels * has
    losses, total = -(labels * log_p).sum(dim=1), labels.sum(dim=1)  # (Q, T)
    counted = total > 0 if normalize else has.amax(dim=1) > 0
    if normalize:
        losses = losses / total.clamp(min=1e-6)
    return (losses * counted).sum() / counted.sum().clamp(min=1)


def bce_loss(scores: Tensor, labels: Tensor, mask: Tensor | None = None) -> Tensor:
    """Binary cross-entropy with soft labels, each trajectory and step on its own (the paper's ablation).

    The mean is over labelled positions only, those where `mask` (Q, N, T) is 1.
    """
    losses = F.binary_cross_entropy_with_logits(scores.float(), labels, reduction="none")
    has = torch.ones_like(labels) if mask is None else mask
    return (losses * has).sum() / has.sum().clamp(min=1)
