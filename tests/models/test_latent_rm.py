from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import pad

from lightning_ltts.engine.rollout import RolloutEngine
from lightning_ltts.errors import ConfigError
from lightning_ltts.models.latent_lm import LatentReasoner
from lightning_ltts.models.latent_rm import LatentRM
from lightning_ltts.models.latent_rm_spec import LatentRMSpec
from lightning_ltts.models.trajectories import Trajectories
from lightning_ltts.sampling import GaussianNoise
from tests.tiny import BACKBONES


@pytest.fixture
def rm(reasoner: LatentReasoner) -> LatentRM:
    torch.manual_seed(1)
    return LatentRM.from_reasoner(reasoner).eval()


@pytest.mark.slow
@torch.no_grad()
def test_score_equals_one_unpadded_sequence_each(
    rm: LatentRM, prompts: tuple[Tensor, Tensor]
) -> None:
    ids, mask = prompts
    thoughts = torch.randn(6, 2, 3, 32)
    scores = rm.score(ids, mask, thoughts)
    assert scores.shape == (6, 2, 3)
    for q in range(6):
        prompt = rm.backbone.get_input_embeddings()(ids[q][mask[q].bool()])
        for n in range(2):
            sequence = torch.cat([prompt, thoughts[q, n]])[None]
            hidden = rm.backbone(inputs_embeds=sequence).last_hidden_state[0, -3:]
            assert torch.allclose(scores[q, n], rm.score_head(hidden)[:, 0], atol=2e-5)


@torch.no_grad()
def test_step_by_step_equals_at_once(rm: LatentRM, prompts: tuple[Tensor, Tensor]) -> None:
    """What beam search relies on, with rows forked and dropped on the way."""
    thoughts = torch.randn(6, 2, 3, 32)
    whole = rm.score(*prompts, thoughts)
    rows = torch.arange(6).repeat_interleave(2)
    state = rm.start(*prompts).take(rows)
    first, state = rm.extend(state, thoughts.flatten(0, 1)[:, :1])
    kept = torch.tensor([11, 3, 3, 0])
    second, state = rm.extend(state.take(kept), thoughts.flatten(0, 1)[kept, 1:2])
    assert torch.allclose(first[:, 0], whole.flatten(0, 1)[:, 0], atol=2e-5)
    assert torch.allclose(second[:, 0], whole.flatten(0, 1)[kept, 1], atol=2e-5)


@torch.no_grad()
def test_padding_and_neighbours_do_not_matter(rm: LatentRM, prompts: tuple[Tensor, Tensor]) -> None:
    """The published code scores left-padded text without position ids, so that scores depend on the batch."""
    ids, mask = prompts
    thoughts = torch.randn(6, 2, 3, 32)
    scores = rm.score(ids, mask, thoughts)
    assert torch.allclose(
        rm.score(pad(ids, (3, 0)), pad(mask, (3, 0)), thoughts), scores, atol=2e-5
    )
    assert torch.allclose(rm.score(ids[2:3], mask[2:3], thoughts[2:3]), scores[2:3], atol=2e-5)


@torch.no_grad()
def test_extra_layers_start_as_the_identity(
    reasoner: LatentReasoner, prompts: tuple[Tensor, Tensor]
) -> None:
    plain, deep = (
        LatentRM.from_reasoner(reasoner).eval(),
        LatentRM.from_reasoner(reasoner, extra_layers=2).eval(),
    )
    deep.score_head.load_state_dict(plain.score_head.state_dict())
    thoughts = torch.randn(6, 2, 3, 32)
    assert torch.allclose(
        plain.score(*prompts, thoughts), deep.score(*prompts, thoughts), atol=1e-5
    )
    assert deep.backbone.config.num_hidden_layers == 4
    with pytest.raises(ConfigError, match="extra_layers=-1"):
        LatentRM.from_reasoner(reasoner, extra_layers=-1)


def test_thoughts_of_another_size(gpt2: LatentReasoner, prompts: tuple[Tensor, Tensor]) -> None:
    rm = LatentRM(LatentRMSpec(gpt2.spec.backbone, thought_size=20))
    assert rm.score(*prompts, torch.randn(6, 2, 3, 20)).shape == (6, 2, 3)


@pytest.mark.slow
def test_backbone_of_another_family_and_size(
    reasoner: LatentReasoner, prompts: tuple[torch.Tensor, torch.Tensor]
) -> None:
    """Thoughts of width 32 are projected into a body of width 24."""
    other = "gpt2" if reasoner.family.model_type != "gpt2" else "llama"
    sizes = {
        "gpt2": {"n_embd": 24},
        "llama": {"hidden_size": 24, "num_attention_heads": 4, "num_key_value_heads": 2},
    }
    rm = (
        LatentRM.from_reasoner(reasoner, backbone={**BACKBONES[other], **sizes[other]})
        .eval()
        .requires_grad_(False)
    )
    assert rm.spec.thought_size == 32
    assert rm.input_projection.weight.shape == (24, 32)
    thoughts = torch.randn(6, 2, 3, 32)
    scores = rm.score(*prompts, thoughts)
    assert scores.shape == (6, 2, 3)
    state = rm.start(*prompts)
    rows = torch.arange(6).repeat_interleave(2)
    first, _ = rm.extend(state.take(rows), thoughts.flatten(0, 1)[:, :1])
    assert torch.allclose(first.view(6, 2), scores[..., 0], atol=1e-5)
    with pytest.raises(ConfigError, match="extra_layers are for the reasoner's own backbone"):
        LatentRM.from_reasoner(reasoner, extra_layers=1, backbone=BACKBONES[other])


@pytest.mark.slow
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_on_either_side(
    reasoner: LatentReasoner, prompts: tuple[torch.Tensor, torch.Tensor], side: str
) -> None:
    rm = LatentRM.from_reasoner(reasoner).eval().requires_grad_(False)
    torch.nn.init.normal_(rm.score_head.weight)
    ids, mask = prompts
    thoughts = torch.randn(6, 2, 3, 32)
    scores = rm.score(ids, mask, thoughts)
    for q in range(6):
        row = ids[q][mask[q].bool()][None]
        pads = (5, 0) if side == "left" else (0, 5)
        padded = torch.nn.functional.pad(row, pads, value=reasoner.pad_id)
        alone = rm.score(
            padded, torch.nn.functional.pad(torch.ones_like(row), pads), thoughts[q : q + 1]
        )
        assert torch.allclose(alone[0], scores[q], atol=1e-4)


def comparing(reasoner: LatentReasoner) -> LatentRM:
    torch.manual_seed(1)
    rm = (
        LatentRM.from_reasoner(reasoner, reference=True, reads_answer=True)
        .eval()
        .requires_grad_(False)
    )
    assert rm.reference_mark is not None
    torch.nn.init.normal_(rm.reference_mark)
    return rm


@pytest.mark.slow
def test_reference_and_answer_equal_a_plain_pass(
    reasoner: LatentReasoner, prompts: tuple[Tensor, Tensor]
) -> None:
    """Prompt, reference and one trajectory in one row, read anew, with the reference's positions used twice."""
    rm, (ids, mask) = comparing(reasoner), prompts
    greedy = RolloutEngine(reasoner).rollout(ids, mask)
    rollouts = RolloutEngine(reasoner, GaussianNoise(0.5)).rollout(ids, mask, 3)
    found = rm.judge(ids, mask, rollouts, greedy)
    embed = rm.backbone.get_input_embeddings()
    lengths = set()

    def sequence(thoughts: Tensor, answer: Tensor) -> Tensor:
        tokens = torch.tensor([reasoner.end_id, *answer[answer != reasoner.pad_id].tolist()])
        return torch.cat([thoughts, embed(tokens)])

    for q in range(6):
        prompt = embed(ids[q][mask[q].bool()])
        before = sequence(greedy.thoughts[q, 0], greedy.answer_ids[q, 0]) + rm.reference_mark
        for n in range(3):
            own = sequence(rollouts.thoughts[q, n], rollouts.answer_ids[q, n])
            where = [torch.arange(len(prompt) + len(before)), len(prompt) + torch.arange(len(own))]
            hidden = rm.backbone(
                inputs_embeds=torch.cat([prompt, before, own])[None],
                attention_mask=torch.ones(
                    1, len(prompt) + len(before) + len(own), dtype=torch.long
                ),
                position_ids=torch.cat(where)[None],
            ).last_hidden_state[0, -len(own) :]
            assert torch.allclose(found.steps[q, n], rm.score_head(hidden[:3])[:, 0], atol=5e-5)
            assert torch.allclose(found.answer[q, n], rm.answer_head(hidden[-1])[0], atol=5e-5)
            answer = len(own) - 4  # tokens, each of which follows the state before it
            states = found.answer_states[q, n, :answer]
            assert torch.allclose(states, hidden[3 : 3 + answer], atol=5e-5)
            lengths.add(len(own))
    assert len(lengths) > 2, "answers should differ in length"


def test_tokens_are_read_by_the_embedding(gpt2: LatentReasoner) -> None:
    rm = comparing(gpt2)
    weight = rm.backbone.get_input_embeddings().weight
    assert torch.allclose(rm.token_logits(weight[:5]), weight[:5] @ weight.T, atol=1e-5)


@pytest.mark.slow
def test_answers_after_a_beam_equal_answers_at_once(
    reasoner: LatentReasoner, prompts: tuple[Tensor, Tensor]
) -> None:
    rm, (ids, mask) = comparing(reasoner), prompts
    greedy = RolloutEngine(reasoner).rollout(ids, mask)
    rollouts = RolloutEngine(reasoner, GaussianNoise(0.5)).rollout(ids, mask, 2)
    found = rm.judge(ids, mask, rollouts, greedy)
    state = rm.start(ids, mask, greedy).take(torch.arange(6).repeat_interleave(2))
    for t in range(3):
        scores, state = rm.extend(state, rollouts.thoughts.flatten(0, 1)[:, t : t + 1])
        assert torch.allclose(scores[:, 0], found.steps.flatten(0, 1)[:, t], atol=5e-5)
    answers = rm.score_answers(state, rollouts.answer_ids.flatten(0, 1))
    assert torch.allclose(answers, found.answer.flatten(), atol=5e-5)
    assert torch.equal(found.trajectory, found.steps.sum(-1) + found.answer)


@pytest.mark.slow
@torch.no_grad()
def test_an_answers_likelihood_is_part_of_its_score(
    reasoner: LatentReasoner, prompts: tuple[Tensor, Tensor]
) -> None:
    """log p of its tokens, each from the state before it; at once, and read after a beam."""
    plain, (ids, mask) = comparing(reasoner), prompts
    rm = LatentRM.from_reasoner(
        reasoner, reference=True, reads_answer=True, answer_likelihood=True
    ).eval()
    rm.load_state_dict(plain.state_dict())
    greedy = RolloutEngine(reasoner).rollout(ids, mask)
    rollouts = RolloutEngine(reasoner, GaussianNoise(0.5)).rollout(ids, mask, 2)
    found, without = rm.judge(ids, mask, rollouts, greedy), plain.judge(ids, mask, rollouts, greedy)
    assert found.answer is not None
    assert found.answer_likelihood is not None
    assert torch.allclose(found.answer, without.answer, atol=5e-5)
    for q, n in ((0, 0), (3, 1), (5, 0)):
        tokens = rollouts.answer_ids[q, n]
        tokens = tokens[tokens != rm.spec.pad_id]
        logits = rm.token_logits(found.answer_states[q, n, : len(tokens)])
        expected = torch.log_softmax(logits, -1)[torch.arange(len(tokens)), tokens].sum()
        assert float(found.answer_likelihood[q, n]) == pytest.approx(float(expected), abs=1e-4)
    total = found.steps.sum(-1) + found.answer + found.answer_likelihood
    assert torch.allclose(found.trajectory, total)
    assert not torch.allclose(found.trajectory, without.trajectory, atol=1e-2)
    state = rm.start(ids, mask, greedy).take(torch.arange(6).repeat_interleave(2))
    _, state = rm.extend(state, rollouts.thoughts.flatten(0, 1))
    read = rm.score_answers(state, rollouts.answer_ids.flatten(0, 1))
    assert torch.allclose(read, found.whole_answer.flatten(), atol=5e-5)


def test_the_identity_of_earlier_ones_stays(gpt2: LatentReasoner) -> None:
    """A LatentRM without the likelihood is what it was before there was one."""
    old, new = (
        LatentRM.from_reasoner(gpt2, reads_answer=True, answer_likelihood=on).spec.identity()
        for on in (False, True)
    )
    assert "answer_likelihood" not in old
    assert new == {**old, "answer_likelihood": True}


def test_what_is_not_given(gpt2: LatentReasoner, prompts: tuple[Tensor, Tensor]) -> None:
    rm, greedy = comparing(gpt2), RolloutEngine(gpt2).rollout(*prompts)
    with pytest.raises(ConfigError, match="compares trajectories with the greedy one"):
        rm.score(*prompts, greedy.thoughts)
    with pytest.raises(ConfigError, match="one trajectory of each question"):
        rm.judge(*prompts, greedy, RolloutEngine(gpt2).rollout(*prompts, 2))
    with pytest.raises(ConfigError, match="reads answers"):
        rm.judge(*prompts, Trajectories.of(greedy.thoughts), greedy)
    judged = rm.judge(*prompts, greedy, greedy)
    assert judged.answer is not None
    for thoughts in (greedy.thoughts, greedy):
        assert torch.allclose(rm.score(*prompts, thoughts, greedy), judged.steps, atol=5e-5)


@pytest.mark.slow
def test_prompts_that_have_been_read(
    reasoner: LatentReasoner, prompts: tuple[Tensor, Tensor]
) -> None:
    """They are not read again, and can be judged again."""
    rm, greedy = comparing(reasoner), RolloutEngine(reasoner).rollout(*prompts)
    rollouts = RolloutEngine(reasoner, GaussianNoise(0.5)).rollout(*prompts, 2)
    whole, state = rm.judge(*prompts, rollouts, greedy), rm.start(*prompts, greedy)
    lengths: list[int] = []
    handle = rm.backbone.register_forward_hook(
        lambda module, args, output: lengths.append(output.last_hidden_state.shape[1])
    )
    for _ in range(2):
        again = rm.judge(*prompts, rollouts, prompt_state=state)
        assert torch.equal(again.trajectory, whole.trajectory)
    handle.remove()
    assert len(lengths) == 2, "one pass over thoughts and answers each time"


def test_different_lengths_with_answers(
    gpt2: LatentReasoner, prompts: tuple[Tensor, Tensor]
) -> None:
    """Rows of one batch that have fewer thoughts are scored as if they were by themselves."""
    rm, rollouts = comparing(gpt2), RolloutEngine(gpt2, GaussianNoise(0.5)).rollout(*prompts, 2)
    counts = torch.tensor([[3, 1], [2, 3], [0, 3], [1, 2], [3, 3], [2, 0]])
    greedy = RolloutEngine(gpt2).rollout(*prompts)
    kept = torch.tensor([3, 1, 0, 2, 3, 1])
    short = Trajectories(greedy.thoughts, kept[:, None], greedy.answer_ids)
    whole = Trajectories(rollouts.thoughts, counts, rollouts.answer_ids)
    together = rm.judge(*prompts, whole, short)
    assert together.answer is not None

    def first(one: Trajectories, q: int, n: int, count: int) -> Trajectories:
        """Trajectory n of question q by itself, cut off after `count` thoughts."""
        thoughts = one.thoughts[q : q + 1, n : n + 1, :count]
        answer = one.answer_ids[q : q + 1, n : n + 1]
        return Trajectories(thoughts, torch.tensor([[count]]), answer)

    for q in range(6):
        ids, mask = (x[q : q + 1] for x in prompts)
        for n in range(2):
            count = int(counts[q, n])
            reference = first(short, q, 0, int(kept[q]))
            single = rm.judge(ids, mask, first(whole, q, n, count), reference)
            assert single.answer is not None
            assert torch.allclose(together.answer[q, n], single.answer[0, 0], atol=5e-5)
            there = whole.answer_ids[q, n] != rm.spec.pad_id
            states = together.answer_states[q, n, : len(there)][there]
            assert torch.allclose(states, single.answer_states[0, 0][there], atol=5e-5)
            assert torch.allclose(together.steps[q, n, :count], single.steps[0, 0], atol=5e-5)


@pytest.mark.slow
def test_reads_what_the_sampler_added(
    reasoner: LatentReasoner, prompts: tuple[Tensor, Tensor]
) -> None:
    """The noise is what thoughts and noise-free thoughts differ by; a LatentRM that reads it starts as one that does not."""
    rollouts = RolloutEngine(reasoner, GaussianNoise(0.5)).rollout(*prompts, 2)
    rm = LatentRM.from_reasoner(reasoner, noise_free=True).eval().requires_grad_(False)
    blind = LatentRM.from_reasoner(reasoner).eval().requires_grad_(False)
    blind.score_head.load_state_dict(rm.score_head.state_dict())
    assert torch.allclose(rm.score(*prompts, rollouts), blind.score(*prompts, rollouts))
    torch.nn.init.normal_(rm.noise_projection.weight)
    found = rm.score(*prompts, rollouts)
    assert rollouts.clean_thoughts is not None
    state = rm.start(*prompts).take(torch.arange(6).repeat_interleave(2))
    for t in range(3):
        fed, clean = (
            x.flatten(0, 1)[:, t : t + 1] for x in (rollouts.thoughts, rollouts.clean_thoughts)
        )
        scores, state = rm.extend(state, fed, clean)
        assert torch.allclose(scores[:, 0], found.flatten(0, 1)[:, t], atol=5e-5)
    assert not torch.allclose(found, blind.score(*prompts, rollouts.thoughts), atol=1e-2)
    with pytest.raises(ConfigError, match="before noise"):
        rm.score(*prompts, rollouts.thoughts)


@torch.no_grad()
def test_no_score_beyond_a_trajectorys_own_thoughts(
    rm: LatentRM, prompts: tuple[Tensor, Tensor]
) -> None:
    counts = torch.tensor([[1, 3], [2, 0], [3, 3], [1, 1], [0, 2], [3, 1]])
    whole = Trajectories.of(torch.randn(6, 2, 3, 32))
    scores = rm.judge(*prompts, replace(whole, thought_counts=counts)).steps
    beyond = torch.arange(3) >= counts[..., None]
    assert not scores[beyond].any()
    assert torch.allclose(scores[~beyond], rm.judge(*prompts, whole).steps[~beyond], atol=2e-5)
    assert scores[~beyond].abs().min() > 0
