"""Thought labels against recorded annotation runs, through the function that mines."""

from fractions import Fraction

import pytest
import torch
from torch import Tensor

from lightning_ltts import RolloutEngine, load_reasoner
from lightning_ltts.mining.mine import mine
from lightning_ltts.sampling import Sampler
from lightning_ltts.sampling.keyed_random import fold
from lightning_ltts.sampling.streams import Stream
from tests.golden.conftest import Reference, read, read_json

QUESTIONS, SAMPLES, STEPS = 2, 3, 6


class ReplayAnnotation(Sampler):
    """The given trajectories' thoughts are those recorded; completions get the recorded noise, or none."""

    def __init__(
        self,
        thoughts: Tensor,
        keys: Tensor,
        rollouts: int,
        std: float = 0.0,
        eps: Tensor | None = None,
    ):
        self.thoughts, self.std, self.eps, self.rollouts = thoughts, std, eps, rollouts
        self.given = {int(key): row for row, key in enumerate(keys.flatten())}
        self.completions: dict[
            int, tuple[int, int, int]
        ] = {}  # key -> trajectory, thoughts of its prefix, copy
        for key, row in self.given.items():
            for t in range(1, STEPS):
                names = fold(torch.tensor([[key]]), Stream.COMPLETION, t, torch.arange(rollouts))
                for copy, name in enumerate(names.flatten().tolist()):
                    self.completions[name] = (row, t, copy)

    def perturb(self, thought: Tensor, *, keys: Tensor, step: int) -> Tensor:
        thought = thought.clone()
        for i, key in enumerate(keys.tolist()):
            if key in self.given:
                thought[i] = self.thoughts[self.given[key], step]
            elif self.eps is not None:
                row, t, copy = self.completions[key]
                thought[i] += (
                    self.std * self.eps[step - t, (row * STEPS + t - 1) * self.rollouts + copy]
                )
        return thought


@pytest.mark.slow
@pytest.mark.parametrize("run", ["estimates", "estimates_noise"])
def test_labels(golden: Reference, run: str) -> None:
    reasoner = load_reasoner(golden / "coconut/checkpoint", max_answer_tokens=24)
    base, recorded = (
        read(golden / f"annotation/{name}.safetensors") for name in ("estimates", run)
    )
    truths = [Fraction(float(answer)) for answer in base["answers"]]
    keys = torch.arange(QUESTIONS * SAMPLES).view(QUESTIONS, SAMPLES) + 100
    thoughts = base["latent_thoughts"].flatten(0, 1)
    copies = 4 if run == "estimates_noise" else 1
    std = read_json(golden / "annotation/meta.json")["noise"]["noise_std"]
    sampler = ReplayAnnotation(thoughts, keys, copies, std, recorded.get("noise_eps"))
    # an answer that goes on past the recorded 24 new tokens must be cut where the recording cuts it
    labels = {}
    for t in range(1, STEPS + 1):
        engine = RolloutEngine(_with_tokens(reasoner, 24 - (STEPS - t) - 1), sampler)
        mined = mine(
            engine, base["padded_input_ids"], base["padded_attention_mask"], keys, truths, copies
        )
        labels[t] = mined.labels[..., t - 1]
        assert torch.allclose(mined.trajectories.thoughts, base["latent_thoughts"])
    assert torch.equal(
        torch.stack([labels[t] for t in range(1, STEPS + 1)], dim=-1), recorded["estimations"]
    )
    assert 0 < float(recorded["estimations"].mean()) < 1


def _with_tokens(reasoner, tokens: int):
    from dataclasses import replace

    reasoner.spec = replace(reasoner.spec, max_answer_tokens=tokens)
    return reasoner
