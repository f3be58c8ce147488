import logging

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lightning_ltts.engine import packing
from lightning_ltts.engine import rollout as rollout_module
from lightning_ltts.engine.packing import automatic_budget, halve_if_needed, pack
from lightning_ltts.engine.rollout import Branches, RolloutEngine
from lightning_ltts.errors import ConfigError
from lightning_ltts.models.latent_lm import LatentReasoner
from lightning_ltts.sampling import GaussianNoise
from tests.tiny import make_reasoner


@given(
    st.lists(st.integers(1, 90), min_size=1, max_size=30),
    st.integers(1, 8),
    st.integers(1, 20),
    st.integers(1, 1000),
    st.booleans(),
)
def test_packs(lengths: list[int], rows: int, suffix: int, budget: int, shared: bool) -> None:
    """Every question is in one pack, packs go up in length, and none with several questions is over the budget."""
    packs = pack(lengths, rows, suffix, budget, shared)
    assert sorted(i for questions in packs for i in questions) == list(range(len(lengths)))
    ordered = [lengths[i] for questions in packs for i in questions]
    assert ordered == sorted(ordered)
    for questions in packs:
        longest = max(lengths[i] for i in questions)
        held = len(questions) * (longest + rows * suffix if shared else rows * (longest + suffix))
        assert held <= budget or len(questions) == 1


def test_automatic_budget(reasoner: LatentReasoner) -> None:
    assert 1000 < automatic_budget(reasoner) <= 2**17
    assert RolloutEngine(reasoner).budget == pytest.approx(automatic_budget(reasoner), rel=0.2)


def test_packs_by_hand() -> None:
    """Two trajectories of 3 positions: a prompt of 7 takes 13, two of them just fit into 26."""
    lengths = [10, 5, 7, 30]
    assert pack(lengths, 2, 3, 26) == [[1, 2], [0], [3]]
    assert pack(lengths, 2, 3, 25) == [[1], [2], [0], [3]]
    assert pack(lengths, 2, 3, 40, shared=False) == [[1, 2], [0], [3]]  # 7 takes 20
    assert pack(lengths, 2, 3, 39, shared=False) == [[1], [2], [0], [3]]
    assert pack([4] * 5, 1, 1, 10) == [[0, 1], [2, 3], [4]]


@pytest.mark.parametrize(("family", "heads"), [("gpt2", 4), ("llama", 2), ("qwen3", 2)])
def test_the_budget_by_hand(family: str, heads: int, tokenizer, monkeypatch) -> None:
    """Two layers have keys and values of 8 numbers a head; four hidden states of 32 are working."""
    reasoner = make_reasoner(family, tokenizer)
    position = 4 * (2 * 2 * heads * 8 + 4 * 32)
    for free, expected in ((1000 * position, 400), (1, 1), (10**12, 2**17)):
        monkeypatch.setattr(packing, "_free_memory", lambda free=free: free)
        assert automatic_budget(reasoner) == expected
    monkeypatch.setattr(packing, "_free_memory", lambda: 1000 * position)
    assert automatic_budget(reasoner.bfloat16()) == 800


@pytest.mark.slow
def test_halving() -> None:
    """Five items where at most two fit: 5 -> 2 + 3, 3 -> 1 + 2."""
    asked = []

    def run(items: list[int]) -> list[int]:
        asked.append(len(items))
        if len(items) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return items

    assert halve_if_needed([0, 1, 2, 3, 4], run) == [[0, 1], [2], [3, 4]]
    assert asked == [5, 2, 3, 1, 2]
    with pytest.raises(ConfigError, match="out of memory with 3 questions together"):
        halve_if_needed([0, 1, 2], run, may_halve=False)


def test_a_single_item_that_does_not_fit_and_other_errors() -> None:
    def fail(items: list[int]) -> None:
        raise RuntimeError(
            "DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 byte"
        )

    def other(items: list[int]) -> None:
        asked.append(items)
        raise RuntimeError("shapes cannot be multiplied")

    asked: list[list[int]] = []
    with pytest.raises(RuntimeError, match="can't allocate"):
        halve_if_needed([1], fail)
    with pytest.raises(RuntimeError, match="shapes"):
        halve_if_needed([1, 2], other)
    assert len(asked) == 1


@pytest.mark.slow
def test_running_out_of_memory_changes_no_result(
    gpt2: LatentReasoner,
    prompts: tuple[Tensor, Tensor],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    engine = RolloutEngine(gpt2, GaussianNoise(0.5))
    whole = engine.rollout(*prompts, 3, seed=1)
    read = RolloutEngine._read

    def tight(self: RolloutEngine, branches: Branches, inputs: Tensor, *args: object) -> object:
        if len(inputs) > 6:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return read(self, branches, inputs, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(rollout_module.RolloutEngine, "_read", tight)
    with caplog.at_level(logging.WARNING):
        halved = engine.rollout(*prompts, 3, seed=1)
    assert torch.equal(whole.answer_ids, halved.answer_ids)
    assert torch.allclose(whole.thoughts, halved.thoughts, atol=1e-4)
    assert "out of memory with 6 questions together; going on with 3" in caplog.text
