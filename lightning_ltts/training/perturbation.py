"""Training under the sampler that a reasoner will be searched with."""

from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_ltts.models.latent_lm import LatentReasoner
from lightning_ltts.sampling.samplers import Deterministic, Phase, Sampler, perturb_thought


@dataclass(frozen=True)
class Perturbation:
    """A sampler, and the names under which it draws for the rows of one training batch.

    Thoughts are those that the rollout engine would sample under the same names; here they have
    gradients. A reasoner that has met its sampler's noise in training keeps its accuracy under it,
    so that samples differ where it is unsure and not where the noise destroyed something.

    Attributes:
        sampler: what perturbs passes or thoughts.
        keys: (B,) int64 names of the rows' trajectories.
    """

    sampler: Sampler
    keys: Tensor

    def reading(
        self, reasoner: LatentReasoner, step: int, phase: Phase
    ) -> AbstractContextManager[None]:
        """Surrounds one pass over the rows, as `Sampler.active` does."""
        return self.sampler.active(reasoner, keys=self.keys, step=step, phase=phase)

    def thought(self, reasoner: LatentReasoner, hidden: Tensor, step: int) -> Tensor:
        """The thought (B, 1, d) that comes of the hidden states (B, d), number `step` from 0."""
        perturbed, _ = perturb_thought(self.sampler, reasoner, hidden, self.keys, step)
        return perturbed[:, None]

    def given(self, thoughts: Tensor) -> Tensor:
        """Thoughts (B, T, d) that are given and not made, as the sampler would hand them on."""
        perturbed = [
            self.sampler.perturb(thought, keys=self.keys, step=step)
            for step, thought in enumerate(thoughts.unbind(1))
        ]
        return torch.stack(perturbed, 1) if perturbed else thoughts


def unperturbed(keys: Tensor) -> Perturbation:
    """Leaves all B rows, whose names (B,) are not used, as they are."""
    return Perturbation(Deterministic(), keys)
