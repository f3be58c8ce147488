"""COCONUT and CODI against recorded runs: thoughts within 1e-5, tokens identical."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from lightning_ltts import RolloutEngine, load_reasoner
from lightning_ltts.models.latent_lm import LatentReasoner
from tests.golden.conftest import read, read_json
from tests.golden.replay import ReplayDropout, ReplayNoise, rows_of_keys


def expect_same(reasoner: LatentReasoner, sampler: object, samples: int, recorded: dict[str, Tensor]) -> None:
    ids, mask = recorded["input_ids"], recorded["attention_mask"]
    answers = recorded["sequences"][:, ids.shape[1] + 7 :]  # after six latents and the end marker
    rollouts = RolloutEngine(reasoner, sampler).rollout(ids, mask, samples, max_answer_tokens=answers.shape[1])  # type: ignore[arg-type]
    difference = (rollouts.thoughts.flatten(0, 1) - recorded["latent_thoughts"]).abs().max()
    assert difference < 1e-5
    assert torch.equal(rollouts.answer_ids.flatten(0, 1), answers)
    assert rollouts.answer_ids.unique(dim=1).numel() > 1


@pytest.mark.parametrize("method", ["coconut", "codi"])
class TestRuns:
    def test_prompt(self, golden: Path, method: str) -> None:
        reasoner = load_reasoner(golden / method / "checkpoint")
        recorded = read(golden / method / "golden.safetensors", "deterministic.")
        meta = read_json(golden / method / "meta.json")
        for i, prompt in enumerate(meta["deterministic"]["prompts"]):
            question = prompt.removesuffix("<|start-latent|>").removesuffix("\n")
            real = recorded["attention_mask"][i].bool()
            assert reasoner.encode_prompt(question) == recorded["input_ids"][i][real].tolist()

    def test_deterministic(self, golden: Path, method: str) -> None:
        reasoner = load_reasoner(golden / method / "checkpoint")
        expect_same(reasoner, None, 1, read(golden / method / "golden.safetensors", "deterministic."))

    def test_noise(self, golden: Path, method: str) -> None:
        recorded = read(golden / method / "golden.safetensors", "noise.")
        std = read_json(golden / method / "meta.json")["noise"]["noise_std"]
        sampler = ReplayNoise(recorded["noise_eps"], std, rows_of_keys(4, 3))
        expect_same(load_reasoner(golden / method / "checkpoint"), sampler, 3, recorded)

    @pytest.mark.parametrize("run", ["dropout", "dropout_default_pdrop"])
    def test_dropout(self, golden: Path, method: str, run: str) -> None:
        recorded = read(golden / method / f"{run}.safetensors")
        calls = read_json(golden / method / "meta.json")[run]["calls"]
        sampler = ReplayDropout(recorded, calls, rows_of_keys(4, 2), torch.full((8,), 6))
        expect_same(load_reasoner(golden / method / "checkpoint"), sampler, 2, recorded)

    def test_positions_do_not_count_pads(self, golden: Path, method: str) -> None:
        """In the published reward-model scripts they do (findings C2); a prompt alone must give what it gives in a batch."""
        reasoner = load_reasoner(golden / method / "checkpoint")
        recorded = read(golden / method / "golden.safetensors", "deterministic.")
        ids, mask = recorded["input_ids"], recorded["attention_mask"]
        assert not mask.bool().all()
        together = RolloutEngine(reasoner).rollout(ids, mask)
        for i in range(len(ids)):
            alone = ids[i][mask[i].bool()][None]
            one = RolloutEngine(reasoner).rollout(alone, torch.ones_like(alone))
            assert (one.thoughts[0] - together.thoughts[i]).abs().max() < 1e-5
            assert torch.equal(one.answer_ids[0], together.answer_ids[i])

    def test_dropout_does_not_leak(self, golden: Path, method: str) -> None:
        """In the published code dropout modules stay on after a run with dropout in the text phase (findings C3)."""
        from lightning_ltts.sampling import MCDropout

        reasoner = load_reasoner(golden / method / "checkpoint")
        recorded = read(golden / method / "golden.safetensors", "deterministic.")
        engine = RolloutEngine(reasoner, MCDropout(0.2, prompt=True, answer=True))
        engine.rollout(recorded["input_ids"], recorded["attention_mask"], 2)
        expect_same(reasoner, None, 1, recorded)
