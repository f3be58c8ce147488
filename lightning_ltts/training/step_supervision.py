"""Step supervision: each thought must hold the step that it stands for (SIM-CoT, arXiv 2509.20317)."""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from lightning_ltts.models.latent_lm import LatentReasoner
from lightning_ltts.training.sequences import IGNORED, Encoded


class StepDecoder(nn.Module):
    """Writes explicit steps, each from the thoughts in place of it alone, while a reasoner is trained.

    It starts as a copy of the reasoner's backbone, and no reasoner's checkpoint needs it: its only
    purpose is the gradient that its loss sends into the thoughts.

    Args:
        reasoner: the model in training.
    """

    def __init__(self, reasoner: LatentReasoner):
        super().__init__()
        self.backbone = copy.deepcopy(reasoner.backbone)
        self.projection = nn.Linear(reasoner.hidden_size, reasoner.hidden_size)

    def loss(self, encoded: list[Encoded], thoughts: Tensor, thoughts_per_step: int) -> Tensor:
        """Mean cross-entropy over the tokens of all steps that have thoughts in place of them.

        Args:
            encoded: B problems with their steps.
            thoughts: (B, T, d), with gradients.
            thoughts_per_step: c; step k is written from the thoughts k c to k c + c - 1. Steps for
                which there are no thoughts are left out.

        Returns zero, with gradients of zero, where no step has thoughts.
        """
        steps, places = [], []
        for row, problem in enumerate(encoded):
            for number, step in enumerate(problem.steps[: thoughts.shape[1] // thoughts_per_step]):
                steps.append(torch.tensor(step))
                places.append((row, number * thoughts_per_step))
        if not steps:  # in distributed training every weight must take part in every batch
            return torch.stack([weight.sum() for weight in self.parameters()]).sum() * 0.0
        rows, firsts = torch.tensor(places, device=thoughts.device).unbind(1)
        offsets = torch.arange(thoughts_per_step, device=thoughts.device)
        held = self.projection(thoughts[rows[:, None], firsts[:, None] + offsets])
        labels = pad_sequence(steps, batch_first=True, padding_value=IGNORED).to(thoughts.device)
        before = self.backbone.get_input_embeddings()(labels[:, :-1].clamp(min=0))
        inputs = torch.cat([held, before.to(held.dtype)], dim=1)
        logits = self.backbone(inputs_embeds=inputs, use_cache=False).logits
        written = logits[:, thoughts_per_step - 1 :]
        return F.cross_entropy(written.flatten(0, 1).float(), labels.flatten())
