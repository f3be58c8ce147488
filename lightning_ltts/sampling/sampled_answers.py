"""A sampler of thoughts together with answers that are drawn: what reinforcement explores with."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from lightning_ltts.models.latent_lm import LatentReasoner
from lightning_ltts.sampling.samplers import Phase, Sampler, TokenSampling, perturb_clean


class SampledAnswers(Sampler):
    """Perturbs thoughts and passes as another sampler does, and draws the answer's tokens.

    Args:
        thoughts: the sampler of thoughts and passes.
        temperature: divides the logits that the answer's tokens are drawn from.
        never: ids of tokens that are not drawn, such as the padding, which would be taken for the
            answer's end.

    Raises:
        ConfigError: the temperature is not above 0.
    """

    def __init__(self, thoughts: Sampler, temperature: float = 1.0, never: Sequence[int] = ()):
        self.thoughts = thoughts
        self.temperature = temperature
        self.never = list(never)
        self.tokens = TokenSampling(temperature)
        self.perturbs_forward = thoughts.perturbs_forward
        self.perturbs_prompt = thoughts.perturbs_prompt
        self.perturbs_matrices = thoughts.perturbs_matrices

    @contextmanager
    def active(  # noqa: D102
        self, model: LatentReasoner, *, keys: Tensor, step: int, phase: Phase
    ) -> Iterator[None]:
        with self.thoughts.active(model, keys=keys, step=step, phase=phase):
            yield

    def perturb(  # noqa: D102
        self, thought: Tensor, *, keys: Tensor, step: int, spread: Tensor | None = None
    ) -> Tensor:
        return perturb_clean(self.thoughts, thought, keys, step, spread)

    def choose(self, logits: Tensor, *, keys: Tensor, position: int) -> Tensor:  # noqa: D102
        return self.tokens.choose(self.allowed(logits), keys=keys, position=position)

    def allowed(self, logits: Tensor) -> Tensor:
        """Logits (..., V), with -inf for the tokens that are not drawn."""
        index = torch.tensor(self.never, dtype=torch.long, device=logits.device)
        return logits.index_fill(-1, index, -torch.inf)

    def flops(self, model: LatentReasoner, phase: Phase) -> int:  # noqa: D102
        return self.thoughts.flops(model, phase)
