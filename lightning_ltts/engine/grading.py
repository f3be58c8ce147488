"""From answer tokens to answers."""

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from lightning_ltts.data.answers import Answer
from lightning_ltts.models.latent_lm import LatentReasoner


def read_answers(reasoner: LatentReasoner, answer_ids: Tensor) -> list[Answer | None]:
    """Answer ids (R, A) -> R answers, `None` where there is none. Equal rows are decoded once."""
    distinct, inverse = torch.unique(answer_ids.cpu(), dim=0, return_inverse=True)
    answers = [reasoner.read_answer(ids) for ids in distinct]
    return [answers[i] for i in inverse.tolist()]


def vote_numbers(answers: Sequence[Hashable | None]) -> list[int]:
    """Answers -> small integers, equal where the answers are; -1 for none."""
    numbers: dict[Hashable, int] = {}
    return [-1 if answer is None else numbers.setdefault(answer, len(numbers)) for answer in answers]
