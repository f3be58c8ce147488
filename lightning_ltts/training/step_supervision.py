"""Step supervision: each thought must hold the step that it stands for (SIM-CoT, arXiv 2509.20317)."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from lightning_ltts.models.step_decoder import StepDecoder as StepDecoder  # an old name
from lightning_ltts.training.sequences import IGNORED, Encoded


def step_loss(decoder: StepDecoder, encoded: list[Encoded], thoughts: Tensor) -> Tensor:
    """Mean cross-entropy over the tokens of all steps that have thoughts in place of them.

    Args:
        decoder: it writes the steps, each from the thoughts in place of it alone.
        encoded: B problems with their steps.
        thoughts: (B, T, d), with gradients. Steps for which there are none are left out.

    Returns zero, with gradients of zero, where no step has thoughts.
    """
    per_step, steps, places = decoder.thoughts_per_step, [], []
    for row, problem in enumerate(encoded):
        for number, step in enumerate(problem.steps[: thoughts.shape[1] // per_step]):
            end = [] if decoder.end_id is None else [decoder.end_id]
            steps.append(torch.tensor([*step, *end]))
            places.append((row, number * per_step))
    if not steps:  # in distributed training every weight must take part in every batch
        return torch.stack([weight.sum() for weight in decoder.parameters()]).sum() * 0.0
    rows, firsts = torch.tensor(places, device=thoughts.device).unbind(1)
    offsets = torch.arange(per_step, device=thoughts.device)
    held = thoughts[rows[:, None], firsts[:, None] + offsets]
    labels = pad_sequence(steps, batch_first=True, padding_value=IGNORED).to(thoughts.device)
    written = decoder.logits(held, labels[:, :-1].clamp(min=0))
    return F.cross_entropy(written.flatten(0, 1).float(), labels.flatten())
