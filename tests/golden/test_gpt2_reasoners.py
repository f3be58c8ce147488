"""COCONUT and CODI against recorded runs: thoughts to the rounding of the recording, tokens identical.

The recordings are in float32, and every thought is computed from those before it, so that their rounding grows: from 5e-7 of a
thought's length (4 units in the last place) at the first to 3.5e-6 at the last. In float64 our own rounding is nothing beside
it, and the comparison is the same on every processor. In float32, as it is used, ours is added, of the same size.
"""

import pytest
import torch
from torch import Tensor

from lightning_ltts import RolloutEngine, load_reasoner
from lightning_ltts.models.latent_lm import LatentReasoner
from lightning_ltts.sampling import Sampler
from tests.golden.conftest import Reference, read, read_json
from tests.golden.replay import ReplayDropout, ReplayNoise, rows_of_keys

ROUNDING = {torch.float64: 5e-6, torch.float32: 1e-5}  # of a thought's length


def expect_same(
    reasoner: LatentReasoner, sampler: Sampler | None, samples: int, recorded: dict[str, Tensor]
) -> None:
    ids, mask = recorded["input_ids"], recorded["attention_mask"]
    answers = recorded["sequences"][:, ids.shape[1] + 7 :]  # after six latents and the end marker
    assert answers.unique(dim=1).numel() > 1
    for dtype, rounding in ROUNDING.items():
        engine = RolloutEngine(reasoner.to(dtype), sampler)
        rollouts = engine.rollout(ids, mask, samples, max_answer_tokens=answers.shape[1])
        thoughts = recorded["latent_thoughts"]
        assert rollouts.thoughts.dtype == dtype
        difference = (rollouts.thoughts.flatten(0, 1) - thoughts).norm(dim=-1) / thoughts.norm(
            dim=-1
        )
        assert difference.max() < rounding
        assert torch.equal(rollouts.answer_ids.flatten(0, 1), answers)


@pytest.mark.parametrize("method", ["coconut", "codi"])
class TestRuns:
    def test_prompt(self, golden: Reference, method: str) -> None:
        reasoner = load_reasoner(golden / f"{method}/checkpoint")
        recorded = read(golden / f"{method}/golden.safetensors", "deterministic.")
        meta = read_json(golden / f"{method}/meta.json")
        for i, prompt in enumerate(meta["deterministic"]["prompts"]):
            question = prompt.removesuffix("<|start-latent|>").removesuffix("\n")
            real = recorded["attention_mask"][i].bool()
            assert reasoner.encode_prompt(question) == recorded["input_ids"][i][real].tolist()

    def test_deterministic(self, golden: Reference, method: str) -> None:
        reasoner = load_reasoner(golden / f"{method}/checkpoint")
        expect_same(
            reasoner, None, 1, read(golden / f"{method}/golden.safetensors", "deterministic.")
        )

    def test_noise(self, golden: Reference, method: str) -> None:
        recorded = read(golden / f"{method}/golden.safetensors", "noise.")
        std = read_json(golden / f"{method}/meta.json")["noise"]["noise_std"]
        sampler = ReplayNoise(recorded["noise_eps"], std, rows_of_keys(4, 3))
        expect_same(load_reasoner(golden / f"{method}/checkpoint"), sampler, 3, recorded)

    @pytest.mark.parametrize("run", ["dropout", "dropout_default_pdrop"])
    def test_dropout(self, golden: Reference, method: str, run: str) -> None:
        recorded = read(golden / f"{method}/{run}.safetensors")
        calls = read_json(golden / f"{method}/meta.json")[run]["calls"]
        sampler = ReplayDropout(recorded, calls, rows_of_keys(4, 2), torch.full((8,), 6))
        expect_same(load_reasoner(golden / f"{method}/checkpoint"), sampler, 2, recorded)

    def test_positions_do_not_count_pads(self, golden: Reference, method: str) -> None:
        """In the published reward-model scripts they do (findings C2); a prompt alone must give what it gives in a batch."""
        reasoner = load_reasoner(golden / f"{method}/checkpoint").to(torch.float64)
        recorded = read(golden / f"{method}/golden.safetensors", "deterministic.")
        ids, mask = recorded["input_ids"], recorded["attention_mask"]
        assert not mask.bool().all()
        together = RolloutEngine(reasoner).rollout(ids, mask)
        for i in range(len(ids)):
            alone = ids[i][mask[i].bool()][None]
            one = RolloutEngine(reasoner).rollout(alone, torch.ones_like(alone))
            assert (one.thoughts[0] - together.thoughts[i]).abs().max() < 1e-12
            assert torch.equal(one.answer_ids[0], together.answer_ids[i])

    @pytest.mark.slow
    def test_dropout_does_not_leak(self, golden: Reference, method: str) -> None:
        """In the published code dropout modules stay on after a run with dropout in the text phase (findings C3)."""
        from lightning_ltts.sampling import MCDropout

        reasoner = load_reasoner(golden / f"{method}/checkpoint")
        recorded = read(golden / f"{method}/golden.safetensors", "deterministic.")
        engine = RolloutEngine(reasoner, MCDropout(0.2, prompt=True, answer=True))
        engine.rollout(recorded["input_ids"], recorded["attention_mask"], 2)
        expect_same(reasoner, None, 1, recorded)
