import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from lightning_ltts.engine.rollout import RolloutEngine, Rollouts
from lightning_ltts.errors import ConfigError
from lightning_ltts.models.latent_lm import LatentReasoner, left_pad
from lightning_ltts.sampling import (
    Deterministic,
    GaussianNoise,
    MCDropout,
    Sampler,
    SingularValueNoise,
    TokenSampling,
)
from lightning_ltts.sampling.keyed_random import fold, normal
from lightning_ltts.sampling.streams import Stream
from tests.tiny import BACKBONES, learned_noise, make_reasoner

SAMPLERS = [
    Deterministic(),
    GaussianNoise(0.5),
    MCDropout(0.3),
    MCDropout(0.3, prompt=True, answer=True),
    SingularValueNoise(0.4),
    SingularValueNoise(0.4, "mlp_up", prompt=False),
    learned_noise(),
    MCDropout(0.3, lifetime="per_trajectory"),
]
NAMES = [f"q{i}" for i in range(6)]


def same(one: Rollouts, two: Rollouts, questions: slice | list[int] = slice(None)) -> bool:
    return torch.equal(one.answer_ids[questions], two.answer_ids) and torch.allclose(
        one.thoughts[questions], two.thoughts, atol=1e-4
    )


@torch.no_grad()
def plain_rollout(
    reasoner: LatentReasoner, ids: Tensor, noise: Tensor, max_tokens: int
) -> tuple[Tensor, list[int]]:
    """One trajectory the obvious way: no cache, the whole sequence read anew for every position; noise (T, d)."""
    body, sequence = reasoner.backbone.base_model, reasoner.embed(ids)[None]
    thoughts = []
    for eps in noise:
        thought = body(inputs_embeds=sequence).last_hidden_state[:, -1] + eps
        thoughts.append(thought)
        sequence = torch.cat([sequence, thought[:, None]], dim=1)
    tokens = [reasoner.end_id]
    while len(tokens) <= max_tokens:
        sequence = torch.cat([sequence, reasoner.embed(torch.tensor([[tokens[-1]]]))], dim=1)
        token = int(reasoner.logits(body(inputs_embeds=sequence).last_hidden_state[:, -1]).argmax())
        if token == reasoner.eos_id:
            break
        tokens.append(token)
    return torch.cat(thoughts), tokens[1:]


@pytest.mark.parametrize("std", [None, 0.5])
def test_equals_a_plain_loop(
    reasoner: LatentReasoner, prompts: tuple[Tensor, Tensor], std: float | None
) -> None:
    ids, mask = prompts
    sampler = GaussianNoise(std) if std else Deterministic()
    rollouts = RolloutEngine(reasoner, sampler).rollout(ids, mask, 2, NAMES, seed=3)
    from lightning_ltts.sampling.keyed_random import question_keys

    lengths = set()
    for q in range(len(ids)):
        for n in range(2):
            key = fold(question_keys(3, NAMES)[q : q + 1], n)
            noise = [normal(fold(key, Stream.NOISE, t), 32)[0] * (std or 0) for t in range(3)]
            thoughts, answer = plain_rollout(
                reasoner, ids[q][mask[q].bool()], torch.stack(noise), 5
            )
            assert torch.allclose(rollouts.thoughts[q, n], thoughts, atol=5e-5)
            assert rollouts.answer_ids[q, n].tolist() == answer + [reasoner.pad_id] * (
                5 - len(answer)
            )
            lengths.add(len(answer))
    assert len(lengths) > 1, "the test should see answers that end at different positions"


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("suppressed", [(), (7,)], ids=["all", "one-suppressed"])
def test_log_probs_and_self_certainty(
    reasoner: LatentReasoner, prompts: tuple[Tensor, Tensor], suppressed: tuple[int, ...]
) -> None:
    """Of the answer's tokens and its end, by one plain pass over each whole trajectory.

    With p_j over the V tokens that may be chosen, a token's self-certainty is
    sum_j 1/V log((1/V) / p_j) = -log V - mean_j log p_j.
    """
    ids, mask = prompts
    reasoner.suppressed_ids = list(suppressed)
    rollouts = RolloutEngine(reasoner, GaussianNoise(0.5)).rollout(ids, mask, 2, NAMES, seed=3)
    assert rollouts.log_probs is not None
    assert rollouts.self_certainty is not None
    ended = []
    for q in range(len(ids)):
        for n in range(2):
            answer = rollouts.answer_ids[q, n]
            tokens = answer[answer != reasoner.pad_id].tolist()
            ended.append(len(tokens) < 5)
            prompt = reasoner.embed(ids[q][mask[q].bool()])
            written = reasoner.embed(torch.tensor([reasoner.end_id, *tokens]))
            inputs = torch.cat([prompt, rollouts.thoughts[q, n], written])[None]
            states = reasoner.backbone.base_model(inputs_embeds=inputs).last_hidden_state[0]
            chosen = tokens + [reasoner.eos_id] * ended[-1]
            logits = reasoner.logits(states[-len(tokens) - 1 :][: len(chosen)])
            allowed = [v for v in range(logits.shape[-1]) if v not in suppressed]
            log_p = logits[:, allowed].log_softmax(-1)
            of_chosen = log_p[range(len(chosen)), [allowed.index(token) for token in chosen]]
            assert torch.allclose(rollouts.log_probs[q, n], of_chosen.sum(), atol=2e-4)
            certainty = (-math.log(len(allowed)) - log_p.mean(-1)).mean()
            assert torch.allclose(rollouts.self_certainty[q, n], certainty, atol=2e-4)
    assert any(ended), "the test should see answers that end"


@pytest.mark.parametrize("sampler", [Deterministic(), TokenSampling(1.0)], ids=repr)
def test_a_suppressed_token_is_never_written(gpt2: LatentReasoner, sampler: Sampler) -> None:
    """Even where it is what the reasoner would write."""
    engine = RolloutEngine(gpt2, sampler)
    freely = engine.rollout(*PROMPTS, 4, NAMES).answer_ids
    gpt2.suppressed_ids = freely[freely != gpt2.pad_id].unique().tolist()
    assert gpt2.suppressed_ids
    otherwise = engine.rollout(*PROMPTS, 4, NAMES).answer_ids
    assert not torch.isin(otherwise, torch.tensor(gpt2.suppressed_ids)).any()


@pytest.mark.slow
@pytest.mark.parametrize("sampler", [*SAMPLERS, TokenSampling(1.0)], ids=repr)
@settings(max_examples=6, deadline=None)
@given(order=st.permutations(range(6)), budget=st.integers(1, 400), padding=st.integers(0, 4))
def test_invariance(sampler: Sampler, order: list[int], budget: int, padding: int) -> None:
    """Batch order, batch size, chunk size and padding change no trajectory."""
    reasoner = CACHE["gpt2"]
    ids, mask = PROMPTS
    whole = RolloutEngine(reasoner, sampler).rollout(ids, mask, 3, NAMES, seed=1)
    pad = torch.nn.functional.pad
    engine = RolloutEngine(reasoner, sampler, token_budget=budget)
    names = [NAMES[i] for i in order]
    shuffled = engine.rollout(
        pad(ids[order], (padding, 0), value=reasoner.pad_id),
        pad(mask[order], (padding, 0)),
        3,
        names,
        seed=1,
    )
    assert same(whole, shuffled, order)
    some = engine.rollout(ids[order[:2]], mask[order[:2]], 3, names[:2], seed=1)
    assert same(whole, some, order[:2])


@pytest.mark.slow
@pytest.mark.parametrize("sampler", SAMPLERS[1:], ids=repr)
def test_samples(
    reasoner: LatentReasoner, prompts: tuple[Tensor, Tensor], sampler: Sampler
) -> None:
    engine = RolloutEngine(reasoner, sampler)
    four, two = (engine.rollout(*prompts, n, NAMES, seed=0) for n in (4, 2))
    assert torch.allclose(
        four.thoughts[:, :2], two.thoughts, atol=1e-4
    )  # more samples keep the first ones
    assert not torch.allclose(
        four.thoughts[:, 0, 0], four.thoughts[:, 1, 0]
    )  # already the first thought differs
    other = engine.rollout(*prompts, 2, NAMES, seed=1)
    assert not torch.allclose(other.thoughts, two.thoughts)


def distinct_prefixes(
    rollouts: Rollouts, ids: Tensor, mask: Tensor, reasoner: LatentReasoner, shared: int
) -> int:
    """Positions that a walk of the prefix tree must read; all but `shared` prompt positions are per sample."""
    questions, samples = rollouts.answer_ids.shape[:2]
    nodes = 0
    for q in range(questions):
        length = int(mask[q].sum())
        common = length - 1 if shared == 1 else length if shared == 2 else 0
        nodes += common
        for n in range(samples):
            answer = [t for t in rollouts.answer_ids[q, n].tolist() if t != reasoner.pad_id]
            fed = min(
                len(answer), rollouts.answer_ids.shape[2] - 1
            )  # the last token that fits is never read
            nodes += length - common + rollouts.thoughts.shape[2] + 1 + fed
    return nodes


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sampler", "shared"),
    [*zip(SAMPLERS[1:], (2, 1, 0, 0, 1, 2, 1), strict=True)],
    ids=repr,
)
def test_each_prefix_is_read_once(
    reasoner: LatentReasoner, sampler: Sampler, shared: int, problems: list
) -> None:
    """Counted by a hook on the backbone, on prompts of one length, against the tree of what came out."""
    seen = 0

    def count(module, args, kwargs, output) -> None:
        nonlocal seen
        seen += output.last_hidden_state.shape[0] * output.last_hidden_state.shape[1]

    rows = [reasoner.encode_prompt(problem.question)[:14] for problem in problems[:4]]
    ids, mask = left_pad(rows, reasoner.pad_id)
    handle = reasoner.backbone.base_model.register_forward_hook(count, with_kwargs=True)
    rollouts = RolloutEngine(reasoner, sampler).rollout(ids, mask, 5, seed=0)
    handle.remove()
    nodes = distinct_prefixes(rollouts, ids, mask, reasoner, shared)
    assert (seen, rollouts.token_forwards, rollouts.tree_nodes) == (nodes, nodes, nodes)


def test_vocabulary_head_only_where_a_token_is_chosen(
    gpt2: LatentReasoner, prompts: tuple[Tensor, Tensor]
) -> None:
    shapes = []
    head = gpt2.backbone.get_output_embeddings()
    handle = head.register_forward_hook(lambda module, args, output: shapes.append(output.shape))
    rollouts = RolloutEngine(gpt2, GaussianNoise(0.5)).rollout(*prompts, 4, NAMES)
    handle.remove()
    lengths = (rollouts.answer_ids != gpt2.pad_id).sum(-1)
    assert sum(shape[0] for shape in shapes) == int((lengths + 1).clamp(max=5).sum())
    assert all(len(shape) == 2 for shape in shapes)


@pytest.mark.slow
def test_compiled_mlps_change_nothing(
    tokenizer: PreTrainedTokenizerFast,
    prompts: tuple[Tensor, Tensor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain, compiled = (make_reasoner("gpt2", tokenizer) for _ in range(2))
    asked, compile_module = [], torch.nn.Module.compile
    monkeypatch.setattr(
        torch.nn.Module,
        "compile",
        lambda self, **options: asked.append(self) or compile_module(self, **options),
    )
    one = RolloutEngine(plain, GaussianNoise(0.5)).rollout(*prompts, 3, NAMES)
    with torch.compiler.set_stance(
        "force_eager"
    ):  # generating code takes longer than the test suite allows
        two = RolloutEngine(compiled, GaussianNoise(0.5), compile=True).rollout(*prompts, 3, NAMES)
    assert asked == [block.get_submodule("mlp") for block in compiled.blocks]
    assert same(one, two)
    with pytest.raises(ConfigError, match="masks change in every pass"):
        RolloutEngine(plain, MCDropout(0.3), compile=True)


@pytest.mark.gpu
@pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
def test_gpu_and_cpu_come_to_the_same_trajectories(
    reasoner: LatentReasoner, prompts: tuple[Tensor, Tensor], sampler: Sampler
) -> None:
    here = RolloutEngine(reasoner, sampler).rollout(*prompts, 4, NAMES)
    there = RolloutEngine(reasoner.to("cuda"), sampler).rollout(*prompts, 4, NAMES)
    assert torch.allclose(here.thoughts, there.thoughts.cpu(), atol=1e-2)
    assert (here.answer_ids == there.answer_ids.cpu()).all(-1).float().mean() > 0.9


def test_padding_is_counted(gpt2: LatentReasoner) -> None:
    ids, mask = left_pad([[20, 21, 22, 3], [20, 3]], gpt2.pad_id)
    rollouts = RolloutEngine(gpt2).rollout(ids, mask)
    assert rollouts.token_forwards - rollouts.tree_nodes == 2


def test_thoughts_and_tokens_per_call(gpt2: LatentReasoner, prompts: tuple[Tensor, Tensor]) -> None:
    rollouts = RolloutEngine(gpt2).rollout(*prompts, num_thoughts=5, max_answer_tokens=2)
    assert rollouts.thoughts.shape == (6, 1, 5, 32)
    assert rollouts.answer_ids.shape == (6, 1, 2)
    none = RolloutEngine(gpt2).rollout(*prompts, num_thoughts=0)
    assert none.thoughts.shape == (6, 1, 0, 32)


def test_prompt_of_one_token(reasoner: LatentReasoner) -> None:
    ids, mask = left_pad([[reasoner.start_id], [20, 21, reasoner.start_id]], reasoner.pad_id)
    both = RolloutEngine(reasoner).rollout(ids, mask)
    alone = RolloutEngine(reasoner).rollout(ids[:1, -1:], mask[:1, -1:])
    assert both.thoughts.isfinite().all()
    assert torch.allclose(both.thoughts[:1], alone.thoughts, atol=1e-4)


@pytest.mark.slow
def test_mixed_precision_keeps_shapes_and_stays_close(
    reasoner: LatentReasoner, prompts: tuple[Tensor, Tensor]
) -> None:
    full = RolloutEngine(reasoner, GaussianNoise(0.5)).rollout(*prompts, 3, NAMES)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = RolloutEngine(reasoner, GaussianNoise(0.5)).rollout(*prompts, 3, NAMES)
    assert mixed.thoughts.shape == full.thoughts.shape
    assert (mixed.thoughts[:, :, 0] - full.thoughts[:, :, 0]).abs().mean() < 0.1


def test_user_errors(gpt2: LatentReasoner, prompts: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(ConfigError, match="num_samples=0"):
        RolloutEngine(gpt2).rollout(*prompts, num_samples=0)
    with pytest.raises(ConfigError, match="token_budget=0"):
        RolloutEngine(gpt2, token_budget=0)
    with pytest.raises(ConfigError, match="64 positions"):
        RolloutEngine(gpt2).rollout(*prompts, max_answer_tokens=60)


def _build() -> tuple[dict[str, LatentReasoner], tuple[Tensor, Tensor]]:
    """What the property tests share (hypothesis does not mix with function-scoped fixtures)."""
    from lightning_ltts.data.tokenization import WordTokenizer
    from lightning_ltts.data.word_problems import WordProblems

    tokenizer = WordTokenizer(20).build()
    models = {family: make_reasoner(family, tokenizer) for family in BACKBONES}
    questions = [p.question for p in WordProblems("test", 6, 5).load()]
    rows = [models["gpt2"].encode_prompt(question)[i % 3 :] for i, question in enumerate(questions)]
    return models, left_pad(rows, models["gpt2"].pad_id)


CACHE, PROMPTS = _build()


@pytest.mark.slow
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("sampler", [SAMPLERS[0], SAMPLERS[3]], ids=repr)
def test_padding_on_either_side(
    reasoner: LatentReasoner, prompts: tuple[Tensor, Tensor], sampler: Sampler, side: str
) -> None:
    ids, mask = prompts
    together = RolloutEngine(reasoner, sampler).rollout(ids, mask, 2, NAMES)
    rows = [ids[q][mask[q].bool()].tolist() for q in range(6)]
    width = max(map(len, rows)) + 3
    pads = [[reasoner.pad_id] * (width - len(row)) for row in rows]
    real = [[1] * len(row) for row in rows]
    blank = [[0] * len(pad) for pad in pads]
    parts = [(pads, rows), (blank, real)] if side == "left" else [(rows, pads), (real, blank)]
    padded = [torch.tensor([a + b for a, b in zip(*part, strict=True)]) for part in parts]
    assert same(together, RolloutEngine(reasoner, sampler).rollout(*padded, 2, NAMES))


def test_noise_free_thoughts(gpt2: LatentReasoner, prompts: tuple[Tensor, Tensor]) -> None:
    """What is stored as clean is the reasoner's own continuation of the noisy prefix."""
    rollouts = RolloutEngine(gpt2, GaussianNoise(0.5)).rollout(*prompts, 2, seed=3)
    greedy = RolloutEngine(gpt2).rollout(*prompts)
    assert rollouts.clean_thoughts is not None
    assert torch.allclose(
        rollouts.clean_thoughts[:, :, 0], greedy.thoughts[:, :, 0].expand(-1, 2, -1), atol=1e-5
    )
    assert torch.equal(greedy.clean_thoughts, greedy.thoughts)
    ids, mask = prompts
    row = torch.cat([gpt2.embed(ids[0][mask[0].bool()]), rollouts.thoughts[0, 1, :2]])[None]
    hidden = gpt2.backbone.base_model(inputs_embeds=row).last_hidden_state[0, -1]
    assert torch.allclose(gpt2.thought_head(hidden), rollouts.clean_thoughts[0, 1, 2], atol=5e-5)
    noise = (rollouts.thoughts - rollouts.clean_thoughts).std()
    assert 0.4 < noise < 0.6
