"""From answer tokens to answers."""

import torch
from torch import Tensor

from lightning_ltts.data.answers import Answer
from lightning_ltts.models.latent_lm import LatentReasoner


def read_answers(reasoner: LatentReasoner, answer_ids: Tensor) -> list[Answer | None]:
    """Answer ids (R, A) -> R answers, `None` where there is none. Equal rows are decoded once."""
    distinct, inverse = torch.unique(answer_ids.cpu(), dim=0, return_inverse=True)
    answers = [reasoner.read_answer(ids) for ids in distinct]
    return [answers[i] for i in inverse.tolist()]
