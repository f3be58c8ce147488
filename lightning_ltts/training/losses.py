"""Losses of LatentRM over the trajectories of one question (arXiv 2510.07745, section 4)."""

import torch
import torch.nn.functional as F
from torch import Tensor


def contrastive_loss(
    scores: Tensor,
    labels: Tensor,
    normalize: bool = True,
    mask: Tensor | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    """Step-wise contrastive loss: at each step, cross-entropy between labels and a softmax over the N trajectories.

    With p = softmax_n(r), a step's loss is -sum_n w_n log p_n. Normalised, w_n = y_n / sum_m y_m, and the mean is over steps
    with any positive label, so that every such step counts the same. Unnormalised, w_n = y_n as in the paper's released code,
    so that steps with a higher success rate weigh more, and the mean is over all steps that any trajectory has.

    Args:
        scores: (Q, N, T) raw logits r_t.
        labels: (Q, N, T) thought labels y_t in [0, 1].
        normalize: which of the two forms.
        mask: (Q, N, T), 1 on thoughts that a trajectory has; by default on all. Others are not compared with.
        weights: (Q, N), how many times a trajectory counts in the softmax; by default once. A question counts in the mean as
            often as its heaviest trajectory.
    """
    has = torch.ones_like(labels) if mask is None else mask
    logits = scores.float() if weights is None else scores.float() + weights.log()[..., None]
    log_z = (
        logits.masked_fill(has == 0, -torch.inf)
        .logsumexp(dim=1, keepdim=True)
        .masked_fill(~has.any(1, keepdim=True), 0.0)
    )
    log_p = (scores.float() - log_z).masked_fill(has == 0, 0.0)
    labels = labels * has
    losses, total = -(labels * log_p).sum(dim=1), labels.sum(dim=1)  # (Q, T)
    counted = (total > 0 if normalize else has.amax(dim=1) > 0).float()
    if weights is not None:
        counted = counted * weights.amax(1, keepdim=True)
    if normalize:
        losses = losses / total.clamp(min=1e-6)
    return (losses * counted).sum() / counted.sum().clamp(min=1e-6)


def bce_loss(
    scores: Tensor, labels: Tensor, mask: Tensor | None = None, weights: Tensor | None = None
) -> Tensor:
    """Binary cross-entropy with soft labels, each trajectory and step on its own (the paper's ablation).

    The mean is over labelled positions only, those where `mask` (Q, N, T) is 1; `weights` (Q, N) say how much each counts.
    """
    losses = F.binary_cross_entropy_with_logits(scores.float(), labels, reduction="none")
    has = torch.ones_like(labels) if mask is None else mask
    has = has if weights is None else has * weights[..., None]
    return (losses * has).sum() / has.sum().clamp(min=1e-6)


def pairwise_loss(
    scores: Tensor, labels: Tensor, mask: Tensor | None = None, weights: Tensor | None = None
) -> Tensor:
    """Bradley-Terry: at each step, -log sigmoid(r_i - r_j) for every pair of a question's trajectories with y_i > y_j.

    A pair counts by how far its labels are apart, times both its `weights` (Q, N); the mean is over pairs. Arguments are those
    of `contrastive_loss`.
    """
    has = torch.ones_like(labels) if mask is None else mask
    has = has if weights is None else has * weights[..., None]
    apart = (
        (labels[:, :, None] - labels[:, None]).clamp(min=0) * has[:, :, None] * has[:, None]
    )  # (Q, N, N, T)
    losses = F.softplus(scores.float()[:, None] - scores.float()[:, :, None])
    return (losses * apart).sum() / apart.sum().clamp(min=1e-6)


def right_answer_targets(answer_ids: Tensor, correct: Tensor, pad_id: int) -> tuple[Tensor, Tensor]:
    """What a LatentRM that also predicts the right answer must say, after each trajectory.

    The right answer of a question is that of its first right trajectory. Each trajectory is
    followed by its own answer, so a token is asked for only as long as all before it are right:
    a wrong answer teaches up to its first wrong token.

    Args:
        answer_ids: (Q, N, A) answers, padded.
        correct: (Q, N), 1 where a trajectory's answer is right.
        pad_id: the padding.

    Returns targets (Q, N, A), and which of them count (Q, N, A) bool; none of a question without
    a right trajectory does.
    """
    first = correct.argmax(1)[:, None, None].expand(-1, 1, answer_ids.shape[-1])
    targets = answer_ids.gather(1, first).expand_as(answer_ids)
    wrong = (answer_ids != targets).long()
    right_so_far = wrong.cumsum(-1) - wrong == 0
    known = (correct > 0).any(1)[:, None, None]
    return targets.long(), right_so_far & (targets != pad_id) & known
