"""Reasoners that end their thinking by themselves: rows of one batch have different numbers of thoughts."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from lightning_ltts.data.tokenization import WordTokenizer
from lightning_ltts.data.word_problems import WordProblems
from lightning_ltts.engine.rollout import RolloutEngine
from lightning_ltts.mining.mine import mine
from lightning_ltts.models.latent_lm import LatentReasoner, left_pad, new_reasoner
from lightning_ltts.models.latent_rm import LatentRM
from lightning_ltts.sampling import Deterministic, GaussianNoise, MCDropout, Sampler
from lightning_ltts.sampling.keyed_random import fold, question_keys, sample_keys
from lightning_ltts.sampling.streams import Stream
from lightning_ltts.training.losses import bce_loss, contrastive_loss
from tests.tiny import BACKBONES

LIMIT = 6
NAMES = [f"q{i}" for i in range(6)]
SAMPLERS = [
    Deterministic(),
    GaussianNoise(0.5),
    MCDropout(0.3),
    MCDropout(0.3, prompt=True, answer=True),
]


def make(family: str) -> LatentReasoner:
    """Random weights under which thinking ends after anything from no thought to the limit."""
    torch.manual_seed(2)
    options = {"open_ended": True, "thought_head": {"embedding_std": 0.5}}
    reasoner = new_reasoner(
        "colar", BACKBONES[family], WordTokenizer(20).build(), LIMIT, 5, **options
    )
    with torch.no_grad():
        for parameter in reasoner.parameters():
            if parameter.ndim > 1:
                parameter.mul_(6)
        head = reasoner.backbone.get_output_embeddings().weight
        head[reasoner.pad_id] = 0
        head[reasoner.end_id] *= {"gpt2": 3.0, "llama": 4.0}[family]
        head[reasoner.eos_id] *= 1.5
    return reasoner.eval()


MODELS = {family: make(family) for family in ("gpt2", "llama")}
PROBLEMS = WordProblems("test", 6, 0).load()
ROWS = [
    MODELS["gpt2"].encode_prompt(problem.question)[i % 3 :] for i, problem in enumerate(PROBLEMS)
]
PROMPTS = left_pad(ROWS, MODELS["gpt2"].pad_id)


@torch.no_grad()
def plain(reasoner: LatentReasoner, ids: Tensor, noise: Tensor) -> tuple[Tensor, list[int]]:
    """One trajectory the obvious way, the whole sequence read anew for every position."""
    body, sequence, thoughts = reasoner.backbone.base_model, reasoner.embed(ids)[None], []
    while True:
        hidden = body(inputs_embeds=sequence).last_hidden_state[:, -1]
        token = int(reasoner.logits(hidden).argmax())
        if token == reasoner.end_id or len(thoughts) == LIMIT:
            break
        thoughts.append(reasoner.thought_head(hidden) + noise[len(thoughts)])
        sequence = torch.cat([sequence, thoughts[-1][:, None]], dim=1)
    tokens = [] if token == reasoner.end_id else [token]
    while len(tokens) < 5 and token != reasoner.eos_id:
        sequence = torch.cat([sequence, reasoner.embed(torch.tensor([[token]]))], dim=1)
        token = int(reasoner.logits(body(inputs_embeds=sequence).last_hidden_state[:, -1]).argmax())
        tokens.append(token)
    made = torch.cat(thoughts) if thoughts else torch.zeros(0, 32)
    return made, [t for t in tokens if t != reasoner.eos_id]


@pytest.mark.slow
@pytest.mark.parametrize("family", list(MODELS))
def test_equals_a_plain_loop(family: str) -> None:
    from lightning_ltts.sampling.keyed_random import normal

    reasoner, (ids, mask) = MODELS[family], PROMPTS
    rollouts = RolloutEngine(reasoner, GaussianNoise(0.5)).rollout(ids, mask, 4, NAMES, seed=3)
    assert rollouts.thoughts.shape == (6, 4, LIMIT, 32)
    for q in range(6):
        for n in range(4):
            key = fold(question_keys(3, NAMES)[q : q + 1], n)
            noise = torch.stack(
                [0.5 * normal(fold(key, Stream.NOISE, t), 32)[0] for t in range(LIMIT)]
            )
            thoughts, answer = plain(reasoner, ids[q][mask[q].bool()], noise)
            count = int(rollouts.thought_counts[q, n])
            assert count == len(thoughts)
            assert torch.allclose(rollouts.thoughts[q, n, :count], thoughts, atol=2e-4)
            assert not rollouts.thoughts[q, n, count:].any()
            assert rollouts.answer_ids[q, n].tolist() == answer + [reasoner.pad_id] * (
                5 - len(answer)
            )
    counts = set(rollouts.thought_counts.flatten().tolist())
    assert len(counts) > 3, "the test should see many lengths"
    assert LIMIT in counts
    assert 0 in counts


@pytest.mark.slow
@pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
@settings(max_examples=6, deadline=None)
@given(order=st.permutations(range(6)), budget=st.integers(1, 400), padding=st.integers(0, 4))
def test_invariance(sampler: Sampler, order: list[int], budget: int, padding: int) -> None:
    """Order, chunk size and padding change no trajectory, nor does which rows end when."""
    reasoner, (ids, mask) = MODELS["gpt2"], PROMPTS
    whole = RolloutEngine(reasoner, sampler).rollout(ids, mask, 3, NAMES, seed=1)
    pad = torch.nn.functional.pad
    shuffled = RolloutEngine(reasoner, sampler, token_budget=budget).rollout(
        pad(ids[order], (padding, 0), value=reasoner.pad_id),
        pad(mask[order], (padding, 0)),
        3,
        [NAMES[i] for i in order],
        1,
    )
    assert torch.equal(whole.thought_counts[order], shuffled.thought_counts)
    assert torch.equal(whole.answer_ids[order], shuffled.answer_ids)
    assert torch.allclose(whole.thoughts[order], shuffled.thoughts, atol=1e-4)


def test_rows_leave_when_they_end() -> None:
    reasoner, (ids, mask) = MODELS["gpt2"], PROMPTS
    seen = 0

    def count(module, args, kwargs, output) -> None:
        nonlocal seen
        seen += output.last_hidden_state.shape[:2].numel()

    handle = reasoner.backbone.base_model.register_forward_hook(count, with_kwargs=True)
    rollouts = RolloutEngine(reasoner, GaussianNoise(0.5)).rollout(ids, mask, 4, NAMES)
    handle.remove()
    nodes = ids.shape[0] * ids.shape[1]  # prompts with their padding, each read once
    for q in range(6):
        for n in range(4):
            thoughts = int(rollouts.thought_counts[q, n])
            answer = int((rollouts.answer_ids[q, n] != reasoner.pad_id).sum())
            tokens = answer if answer == 5 else answer + 1  # the end of sequence is predicted, too
            # of thoughts that reach the limit the first answer token comes from the last one, else from the end token
            closed = thoughts < LIMIT or _closed(
                reasoner, ids[q][mask[q].bool()], rollouts.thoughts[q, n]
            )
            nodes += thoughts + tokens - (0 if closed else 1)
    assert seen == rollouts.token_forwards == nodes


@torch.no_grad()
def _closed(reasoner: LatentReasoner, ids: Tensor, thoughts: Tensor) -> bool:
    sequence = torch.cat([reasoner.embed(ids), thoughts])[None]
    hidden = reasoner.backbone.base_model(inputs_embeds=sequence).last_hidden_state[:, -1]
    return int(reasoner.logits(hidden).argmax()) == reasoner.end_id


@pytest.mark.slow
@pytest.mark.parametrize(
    "sampler", [GaussianNoise(0.5), MCDropout(0.3), MCDropout(0.3, answer=True)], ids=repr
)
def test_mining(sampler: Sampler, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trajectories are those of sampling; labels beyond the last thought are the trajectory's own correctness."""
    reasoner, (ids, mask) = MODELS["gpt2"], PROMPTS
    # random text holds no numbers: here every answer is 0 or 1
    monkeypatch.setattr(reasoner, "read_answer", lambda answer: Fraction(sum(answer.tolist()) % 2))
    keys = sample_keys(question_keys(0, NAMES), 3)
    engine = RolloutEngine(reasoner, sampler)
    rollouts = engine.rollout(ids, mask, 3, NAMES, seed=0)
    truths = [reasoner.read_answer(rollouts.answer_ids[q, 0]) for q in range(6)]
    mined = mine(engine, ids, mask, keys, truths, 4)
    assert torch.equal(mined.trajectories.thought_counts, rollouts.thought_counts)
    assert torch.allclose(mined.trajectories.thoughts, rollouts.thoughts, atol=1e-4)
    own = torch.tensor(
        [[reasoner.read_answer(a) == truths[q] for a in rollouts.answer_ids[q]] for q in range(6)]
    ).float()
    for q in range(6):
        for n in range(3):
            last = max(int(mined.trajectories.thought_counts[q, n]) - 1, 0)
            assert (mined.labels[q, n, last:] == own[q, n]).all()
    assert torch.equal(mined.labels * 4, (mined.labels * 4).round())
    single = mine(engine, ids[2:3], mask[2:3], keys[2:3], truths[2:3], 4)
    assert torch.equal(single.labels, mined.labels[2:3])
    assert ((mined.labels > 0) & (mined.labels < 1)).any()
    tight = mine(RolloutEngine(reasoner, sampler, token_budget=1), ids, mask, keys, truths, 4)
    assert torch.equal(tight.labels, mined.labels)  # completions finished step by step


@pytest.mark.slow
@pytest.mark.parametrize("budget", [None, 1])
def test_mining_reads_nothing_twice(monkeypatch: pytest.MonkeyPatch, budget: int | None) -> None:
    """With noise every prefix is another one, so two positions with one hidden state would be the same prefix read twice."""
    reasoner, reads = MODELS["gpt2"], []
    monkeypatch.setattr(reasoner, "read_answer", lambda answer: Fraction(sum(answer.tolist()) % 2))
    rows = [
        reasoner.encode_prompt(problem.question)[:14]
        for problem in WordProblems("test", 16, 5).load()
    ]
    engine = RolloutEngine(reasoner, GaussianNoise(0.5), budget)
    thinks = (
        engine.rollout(*left_pad(rows, reasoner.pad_id)).thought_counts[:, 0] > 0
    )  # samples of others are all the same
    rows = [row for row, kept in zip(rows, thinks, strict=True) if kept]
    ids, mask = left_pad(rows, reasoner.pad_id)
    handle = reasoner.backbone.base_model.register_forward_hook(
        lambda module, args, output: reads.append(output.last_hidden_state.flatten(0, 1))
    )
    keys = sample_keys(question_keys(0, list(range(len(rows)))), 3)
    with engine.counting() as cost:
        mined = mine(engine, ids, mask, keys, [Fraction(0)] * len(rows), rollouts=4)
    handle.remove()
    assert len(reads[0]) == len(rows) * 14  # prompts, for all samples at once
    assert len(rows) > 2
    assert torch.pdist(torch.cat(reads[1:])).min() > 1e-3
    assert sum(map(len, reads)) == cost.token_forwards == cost.tree_nodes
    assert len(mined.trajectories.thought_counts.unique()) > 2


@pytest.mark.parametrize("method", ["codi", "colar"])
def test_mixed_precision(method: str, tokenizer: PreTrainedTokenizerFast) -> None:
    head = {"embedding_std": 0.5} if method == "colar" else {}
    reasoner = new_reasoner(
        method, BACKBONES["gpt2"], tokenizer, 3, 4, thought_head=head, open_ended=method == "colar"
    )
    with torch.autocast("cpu", torch.bfloat16):
        rollouts = RolloutEngine(reasoner, GaussianNoise(0.1)).rollout(*PROMPTS, 2, NAMES)
    assert rollouts.thoughts.isfinite().all()


def test_no_thoughts_at_all() -> None:
    for reasoner in MODELS.values():
        rollouts = RolloutEngine(reasoner, GaussianNoise(0.1)).rollout(
            *PROMPTS, 3, NAMES, num_thoughts=0
        )
        assert rollouts.thoughts.shape == (6, 3, 0, 32)
        # dropout leaves a prompt's last token unread until then, and so small a share of it does nothing
        apart = RolloutEngine(reasoner, MCDropout(1e-9)).rollout(*PROMPTS, 3, NAMES, num_thoughts=0)
        assert torch.equal(rollouts.answer_ids, apart.answer_ids)
        assert apart.token_forwards - rollouts.token_forwards == 6 * (3 - 1)


def test_scores_of_different_lengths(prompts: tuple[Tensor, Tensor]) -> None:
    reasoner = MODELS["gpt2"]
    torch.manual_seed(0)
    rm = LatentRM.from_reasoner(reasoner).eval().requires_grad_(False)
    rollouts = RolloutEngine(reasoner, GaussianNoise(0.5)).rollout(*PROMPTS, 3, NAMES)
    scores = rm.score(*PROMPTS, rollouts)
    assert scores.shape == (6, 3, LIMIT)
    for q, n in ((0, 0), (3, 2), (5, 1)):
        count = int(rollouts.thought_counts[q, n])
        assert not scores[q, n, count:].any()
        if count:
            ids, mask = (x[q : q + 1] for x in PROMPTS)
            single = rm.score(ids, mask, rollouts.thoughts[q : q + 1, n : n + 1, :count])
            assert torch.allclose(scores[q, n, :count], single[0, 0], atol=1e-4)


def test_losses_ignore_missing_thoughts() -> None:
    """A trajectory is compared only at the steps it has; two of three are left at step 2, none at step 3.

    Step 1: scores 0, 0, ln 2 give p = 1/4, 1/4, 1/2; labels 1, 0, 1, normalised 1/2, 0, 1/2: (ln 4 + ln 2) / 2.
    Step 2: scores 0, 0 give 1/2, 1/2; labels 1, 0: ln 2.
    """
    ln2 = torch.log(torch.tensor(2.0))
    scores = torch.tensor([[[0.0, 0, 9], [0, 0, 9], [float(ln2), 9, 9]]])
    labels = torch.tensor([[[1.0, 1, 1], [0, 0, 1], [1, 1, 1]]])
    mask = torch.tensor([[[1.0, 1, 0], [1, 1, 0], [1, 0, 0]]])
    assert torch.isclose(contrastive_loss(scores, labels, True, mask), (1.5 * ln2 + ln2) / 2)
    assert torch.isclose(contrastive_loss(scores, labels, False, mask), (3 * ln2 + ln2) / 2)
    # of five labelled positions four have score 0 and cost ln 2; the fifth costs ln(1 + 1/2)
    assert torch.isclose(
        bce_loss(scores, labels, mask), (4 * ln2 + torch.log(torch.tensor(1.5))) / 5
    )
