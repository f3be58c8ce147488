"""CoLaR against recorded runs: thoughts within 1e-4 (Llama), tokens identical."""

from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_ltts import RolloutEngine, load_reasoner
from lightning_ltts.data.tokenization import END
from lightning_ltts.engine.rollout import Rollouts
from lightning_ltts.models.latent_lm import LatentReasoner
from lightning_ltts.sampling import Sampler
from tests.golden.conftest import Reference, read, read_json
from tests.golden.replay import ReplayDropout, ReplayNoise, rows_of_keys

LIMIT, TOKENS = 5, 24


def load(golden: Reference, **changes: Any) -> LatentReasoner:
    return load_reasoner(
        golden / "colar/checkpoint", num_thoughts=LIMIT, max_answer_tokens=TOKENS, **changes
    )


def run(
    reasoner: LatentReasoner, golden: Reference, samples: int, sampler: Sampler | None = None
) -> Rollouts:
    recorded = read(golden / "colar/golden.safetensors")
    return RolloutEngine(reasoner, sampler).rollout(
        recorded["input_ids"], recorded["attention_mask"], samples
    )


def text_of(tokens: Tensor, reasoner: LatentReasoner) -> list[int]:
    """Recorded new tokens after the thoughts -> the answer: no end marker, nothing from the end of text on."""
    answer = tokens.tolist()
    answer = answer[1:] if answer[0] == reasoner.end_id else answer
    return answer[: answer.index(reasoner.eos_id)] if reasoner.eos_id in answer else answer


def expect_same(
    rollouts: Rollouts, reasoner: LatentReasoner, recorded: dict[str, Tensor], skip: list[int]
) -> None:
    """All rows but those to `skip`."""
    new = recorded["sequences"][:, -TOKENS:]
    thoughts = recorded["thought_mask"].bool()
    for row in set(range(len(new))) - set(skip):
        count = int(thoughts[row].sum())
        q, n = divmod(row, rollouts.answer_ids.shape[1])
        assert rollouts.thought_counts[q, n] == count
        if count:
            made, fed = rollouts.thoughts[q, n, :count], recorded["fed_embeds"][row, :count]
            assert (made - fed).abs().max() < 1e-4
        assert not rollouts.thoughts[q, n, count:].any()
        expected = text_of(new[row, count:], reasoner)
        answer = rollouts.answer_ids[q, n].tolist()
        assert answer[: len(expected)] == expected
        if len(expected) < TOKENS - count - 1:
            assert set(answer[len(expected) :]) <= {reasoner.pad_id}


def reentered(meta: dict[str, Any], name: str) -> list[int]:
    """Rows that went back to thinking after the limit, which is a defect (findings C1)."""
    return [i for i, row in enumerate(meta[name]["rows"]) if row["latent_reentered"]]


def test_prompt(golden: Reference) -> None:
    reasoner = load(golden)
    recorded = read(golden / "colar/golden.safetensors")
    for i, text in enumerate(read_json(golden / "colar/meta.json")["prompts"]):
        question = text.removeprefix("Question: ").split(" Let's think")[0]
        real = recorded["attention_mask"][i].bool()
        assert reasoner.encode_prompt(question) == recorded["input_ids"][i][real].tolist()


def test_deterministic(golden: Reference) -> None:
    reasoner, meta = load(golden), read_json(golden / "colar/meta.json")
    recorded = read(golden / "colar/golden.safetensors", "max_latent.deterministic.")
    rollouts = run(reasoner, golden, 1)
    expect_same(rollouts, reasoner, recorded, reentered(meta, "max_latent.deterministic"))
    assert len(set(rollouts.thought_counts.flatten().tolist())) > 2, (
        "rows of one batch should end at different steps"
    )


def test_noise(golden: Reference) -> None:
    reasoner, meta = load(golden), read_json(golden / "colar/meta.json")
    recorded = read(golden / "colar/golden.safetensors", "max_latent.noise.")
    sampler = ReplayNoise(
        torch.cat([recorded["noise_eps"], torch.zeros(2, 12, 32)]), 0.01, rows_of_keys(4, 3)
    )
    expect_same(
        run(reasoner, golden, 3, sampler), reasoner, recorded, reentered(meta, "max_latent.noise")
    )


def test_dropout(golden: Reference) -> None:
    """In the prompt, the thinking and the answer."""
    reasoner, meta = load(golden), read_json(golden / "colar/meta.json")
    recorded = read(golden / "colar/dropout.safetensors", "max_latent.dropout.")
    counts, calls = recorded["thought_mask"].long().sum(1), meta["max_latent.dropout"]["calls"]
    sampler = ReplayDropout(recorded, calls, rows_of_keys(4, 2), counts)
    expect_same(
        run(reasoner, golden, 2, sampler), reasoner, recorded, reentered(meta, "max_latent.dropout")
    )


@pytest.mark.parametrize("name", ["deterministic", "noise", "dropout"])
def test_fixed_length(golden: Reference, name: str) -> None:
    """The same model with a fixed number of thoughts and another end marker."""
    reasoner = load(golden, open_ended=False, tokens={"end": END})
    file = "dropout" if name == "dropout" else "golden"
    recorded = read(golden / f"colar/{file}.safetensors", f"fixed.{name}.")
    sampler: Sampler | None = None
    samples = {"deterministic": 1, "noise": 3, "dropout": 2}[name]
    if name == "noise":
        sampler = ReplayNoise(recorded["noise_eps"], 0.01, rows_of_keys(4, 3))
    if name == "dropout":
        calls = read_json(golden / "colar/meta.json")["fixed.dropout"]["calls"]
        sampler = ReplayDropout(recorded, calls, rows_of_keys(4, 2), torch.full((8,), LIMIT))
    recorded["thought_mask"] = torch.zeros(len(recorded["sequences"]), TOKENS)
    recorded["thought_mask"][:, :LIMIT] = 1
    expect_same(run(reasoner, golden, samples, sampler), reasoner, recorded, [])


def test_thinking_is_not_entered_again(golden: Reference) -> None:
    """The published code writes one token at the limit and then thinks on (findings C1); here the answer has begun."""
    reasoner, meta = load(golden), read_json(golden / "colar/meta.json")
    recorded = read(golden / "colar/golden.safetensors", "max_latent.deterministic.")
    rows = reentered(meta, "max_latent.deterministic")
    assert rows
    rollouts = run(reasoner, golden, 1)
    for row in rows:
        assert rollouts.thought_counts[row, 0] == LIMIT
        assert (rollouts.thoughts[row, 0] - recorded["fed_embeds"][row, :LIMIT]).abs().max() < 1e-4
        # the same first token, after which the recording goes back to thinking
        assert rollouts.answer_ids[row, 0, 0] == recorded["sequences"][row, -TOKENS + LIMIT]
        assert reasoner.tokenizer.get_vocab()["<|latent|>"] not in rollouts.answer_ids[row, 0]
