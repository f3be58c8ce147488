"""Samplers that replay recorded noise and recorded dropout masks, by the row that a key names."""

import math
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lightning_ltts.models.latent_lm import LatentReasoner
from lightning_ltts.sampling import Sampler
from lightning_ltts.sampling.keyed_random import question_keys, sample_keys


def rows_of_keys(questions: int, samples: int, seed: int = 0) -> dict[int, int]:
    """Key of each trajectory of `rollout` -> its row, question-major."""
    keys = sample_keys(question_keys(seed, list(range(questions))), samples).flatten()
    return {int(key): row for row, key in enumerate(keys)}


class ReplayNoise(Sampler):
    """Thought t of row r gets std * eps[t, r]."""

    def __init__(self, eps: Tensor, std: float, rows: dict[int, int]):
        self.eps, self.std, self.rows = eps, std, rows

    def perturb(self, thought: Tensor, *, keys: Tensor, step: int) -> Tensor:
        return thought + self.std * self.eps[step, [self.rows[key] for key in keys.tolist()]]


class ReplayDropout(Sampler):
    """Pass i of row r through a module is masked by what was recorded for it.

    The recording reads the whole prompt in pass 0; the engine reads its last token apart, in the pass of the first thought.
    `counts` are the thoughts of each row, needed where the answer was decoded under dropout: its passes follow.
    """

    perturbs_forward = perturbs_prompt = True

    def __init__(
        self,
        tensors: dict[str, Tensor],
        calls: list[dict[str, Any]],
        rows: dict[int, int],
        counts: Tensor,
    ):
        self.rows, self.counts = rows, counts
        self.answer = max(call["step"] for call in calls) > int(counts.max())
        self.masks: dict[str, dict[int, Tensor]] = {}
        for call in calls:
            if call["mask_key"] is not None:
                packed, shape = tensors[call["mask_key"]], call["shape"]
                bits = (packed[:, None] >> torch.arange(7, -1, -1)) & 1
                mask = bits.flatten()[: math.prod(shape)].view(shape).float() / (1 - call["p"])
                self.masks.setdefault(call["module"], {})[call["step"]] = mask

    @contextmanager
    def active(
        self, model: LatentReasoner, *, keys: Tensor, step: int, phase: str
    ) -> Iterator[None]:
        rows = torch.tensor([self.rows[key] for key in keys.tolist()])
        with ExitStack() as stack:
            if phase != "answer" or self.answer:
                for name, passes in self.masks.items():
                    # a dropout module after a linear layer is the same as one on its output
                    module = model.backbone.get_submodule(
                        re.sub(r"(down_proj)\.dropout$", r"\1", name)
                    )
                    hook = partial(self._mask, passes=passes, rows=rows, step=step, phase=phase)
                    stack.callback(module.register_forward_hook(hook).remove)
            yield

    def _mask(
        self,
        module: nn.Module,
        args: Any,
        output: Tensor,
        *,
        passes: dict[int, Tensor],
        rows: Tensor,
        step: int,
        phase: str,
    ) -> Tensor:
        length = output.shape[1]
        if phase == "prompt":
            return output * passes[0][rows, -1 - length : -1]
        if phase == "thought":
            return output * passes[step][rows, -1:]
        numbers = (self.counts[rows] + 1 + step).tolist()
        masks = torch.ones_like(output)
        for place, (i, row) in enumerate(zip(numbers, rows.tolist(), strict=True)):
            if i in passes:  # beyond the recording nothing is compared
                masks[place] = passes[i][row, -1:]
        return output * masks
