import pytest
import torch
from torch import Tensor

from lightning_ltts.engine.rollout import RolloutEngine
from lightning_ltts.errors import ConfigError
from lightning_ltts.models.latent_lm import LatentReasoner, left_pad
from lightning_ltts.models.latent_rm import LatentRM
from lightning_ltts.sampling import (
    Deterministic,
    GaussianNoise,
    MCDropout,
    Sampler,
    SingularValueNoise,
)
from lightning_ltts.sampling.keyed_random import fold, question_keys
from lightning_ltts.sampling.streams import Stream
from lightning_ltts.search.beam import BeamSearch
from tests.tiny import learned_noise

KEYS = question_keys(0, list(range(6)))
SAMPLERS = [
    GaussianNoise(0.5),
    MCDropout(0.3),
    MCDropout(0.3, prompt=True),
    SingularValueNoise(0.4),
    learned_noise(),
    MCDropout(0.3, lifetime="per_trajectory"),
]


@pytest.mark.slow
@pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
def test_equals_a_search_without_caches(
    gpt2: LatentReasoner, latent_rm: LatentRM, prompts: tuple[Tensor, Tensor], sampler: Sampler
) -> None:
    """Replays the kept beams: the trajectory of each is rebuilt by rollouts of one candidate at a time.

    So are the candidates that a trace says were kept: candidate number and slot are the same.
    """
    beams, candidates = 2, 3
    found = BeamSearch(beams, candidates, trace=True).search(
        RolloutEngine(gpt2, sampler), latent_rm, *prompts, KEYS
    )
    for q in range(2):
        ids, mask = (x[q : q + 1] for x in prompts)
        kept: list[list[int]] = [[]]  # slots chosen at each step
        for step in range(3):
            grown = beams * candidates // len(kept)
            paths = [
                [*path, slot]
                for i, path in enumerate(kept)
                for slot in range(i * grown, (i + 1) * grown)
            ]
            scored = [
                (
                    float(
                        score_path(gpt2, latent_rm, sampler, ids, mask, KEYS[q : q + 1], p).sum()
                    ),
                    p,
                )
                for p in paths
            ]
            kept = [path for _, path in sorted(scored, key=lambda pair: -pair[0])[:beams]]
            assert found.trace[step].kept[q].tolist() == [path[-1] for path in kept]
        expected = torch.stack(
            [score_path(gpt2, latent_rm, sampler, ids, mask, KEYS[q : q + 1], p) for p in kept]
        )
        assert torch.allclose(found.scores.steps[q], expected, atol=1e-4)


@torch.no_grad()
def score_path(reasoner, rm, sampler, ids, mask, key, slots: list[int]) -> Tensor:
    """Step scores (t,) of the trajectory that takes candidate slots[i] at step i."""
    engine = RolloutEngine(reasoner, sampler)
    branches = engine.start(ids, mask, fold(key, Stream.BEAM, 0, slots[0])[:, None], room=8)
    thoughts = []
    for step, slot in enumerate(slots):
        branches = engine.step(branches, fold(key, Stream.BEAM, step, slot))
        thoughts.append(branches.pending)
    return rm.score(ids, mask, torch.stack(thoughts, 1)[None])[0, 0]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
def test_shapes_order_and_cost(
    gpt2: LatentReasoner, latent_rm: LatentRM, prompts: tuple[Tensor, Tensor], sampler: Sampler
) -> None:
    engine = RolloutEngine(gpt2, sampler)
    with engine.counting() as cost:
        found = BeamSearch(3, 2).search(engine, latent_rm, *prompts, KEYS)
    assert found.answer_ids.shape == (6, 3, 5)
    assert found.scores.steps.shape == (6, 3, 3)
    totals = found.scores.steps.sum(-1)
    assert (totals[:, :-1] >= totals[:, 1:]).all()  # best first
    _, mask = prompts
    if not sampler.perturbs_forward:
        # prompt, two steps of three shared passes, then the answers
        answers = (found.answer_ids != gpt2.pad_id).sum(-1).clamp(max=4)
        assert cost.tree_nodes == int(mask.sum()) + 6 * 3 * 2 + 6 * 3 * 2 + int(answers.sum())


@pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
def test_each_prefix_is_read_once(
    gpt2: LatentReasoner, latent_rm: LatentRM, problems: list, sampler: Sampler
) -> None:
    """Counted by hooks, 3 beams of 2 candidates for 4 prompts of 14 tokens.

    Noise: the prompt; steps 2 and 3 read the 3 beams; of the 3 that are left, the last thought and the end. Dropout: every
    candidate reads its parent's pending input by itself, 6 in each of 3 steps (the first is the prompt's last token); with
    dropout over the prompt each of the 6 also has 13 prompt tokens of its own. The LatentRM reads the prompt once, and every
    candidate's thought.
    """
    reads: dict[str, int] = {"reasoner": 0, "latent_rm": 0}

    def count(name: str, output) -> None:
        reads[name] += output.last_hidden_state.shape[:2].numel()

    handles = [
        gpt2.backbone.base_model.register_forward_hook(
            lambda module, args, output: count("reasoner", output)
        ),
        latent_rm.backbone.register_forward_hook(
            lambda module, args, output: count("latent_rm", output)
        ),
    ]
    ids, mask = left_pad([gpt2.encode_prompt(p.question)[:14] for p in problems[:4]], gpt2.pad_id)
    engine = RolloutEngine(gpt2, sampler)
    with engine.counting() as cost:
        found = BeamSearch(3, 2).search(engine, latent_rm, ids, mask, KEYS[:4])
    for handle in handles:
        handle.remove()
    fed = int((found.answer_ids != gpt2.pad_id).sum(-1).clamp(max=4).sum())
    own = 13 * (6 if sampler.perturbs_prompt else 1) + 3 * 6
    thinking = 4 * (own if sampler.perturbs_forward else 14 + 3 + 3)
    expected = thinking + 4 * 3 * 2 + fed
    assert reads == {"reasoner": expected, "latent_rm": 4 * (14 + 3 * 6)}
    assert (cost.token_forwards, cost.tree_nodes) == (expected, expected)


def test_batch_and_padding_do_not_matter(
    gpt2: LatentReasoner, latent_rm: LatentRM, prompts: tuple[Tensor, Tensor]
) -> None:
    search, engine = BeamSearch(2, 2), RolloutEngine(gpt2, GaussianNoise(0.5))
    ids, mask = prompts
    whole = search.search(engine, latent_rm, ids, mask, KEYS)
    single = search.search(engine, latent_rm, ids[4:5, 1:], mask[4:5, 1:], KEYS[4:5])
    assert torch.allclose(whole.scores.steps[4:5], single.scores.steps, atol=1e-4)
    assert torch.equal(whole.answer_ids[4:5], single.answer_ids)


def test_one_beam_one_candidate_of_a_deterministic_reasoner_is_greedy(
    gpt2: LatentReasoner, latent_rm: LatentRM, prompts: tuple[Tensor, Tensor]
) -> None:
    engine = RolloutEngine(gpt2, Deterministic())
    found = BeamSearch(1, 1).search(engine, latent_rm, *prompts, KEYS)
    assert torch.equal(found.answer_ids, engine.rollout(*prompts).answer_ids)


@pytest.mark.slow
def test_subtrees_do_not_displace_each_other(
    gpt2: LatentReasoner, latent_rm: LatentRM, prompts: tuple[Tensor, Tensor]
) -> None:
    """Two subtrees of one beam and three candidates are, score for score, what each finds by itself."""
    engine = RolloutEngine(gpt2, GaussianNoise(0.5))
    both = BeamSearch(2, 3, subtrees=2).search(engine, latent_rm, *prompts, KEYS)
    free = BeamSearch(2, 3).search(engine, latent_rm, *prompts, KEYS)
    for q in range(2):
        ids, mask = (x[q : q + 1] for x in prompts)
        for tree in range(2):
            path: list[int] = []
            for _ in range(3):
                slots = [*range(3 * tree, 3 * tree + 3)]
                scored = [
                    score_path(
                        gpt2, latent_rm, engine.sampler, ids, mask, KEYS[q : q + 1], [*path, s]
                    )
                    for s in slots
                ]
                path.append(slots[int(torch.stack([s.sum() for s in scored]).argmax())])
                best = max(scored, key=lambda s: float(s.sum()))
            assert torch.isclose(both.scores.steps[q].sum(-1), best.sum(), atol=1e-4).any()
    assert not torch.allclose(both.scores.steps, free.scores.steps)


def test_answers_decide_in_the_end(gpt2: LatentReasoner, prompts: tuple[Tensor, Tensor]) -> None:
    torch.manual_seed(1)
    rm = LatentRM.from_reasoner(gpt2, reference=True, reads_answer=True).eval()
    reference = RolloutEngine(gpt2).rollout(*prompts)
    found = BeamSearch(3, 2).search(
        RolloutEngine(gpt2, GaussianNoise(0.5)), rm, *prompts, KEYS, reference=reference
    )
    assert found.scores.answer is not None
    assert found.scores.answer.shape == (6, 3)
    totals = found.scores.trajectory
    assert (totals[:, :-1] >= totals[:, 1:]).all()


def test_guidance_raises_the_score(
    gpt2: LatentReasoner, latent_rm: LatentRM, prompts: tuple[Tensor, Tensor]
) -> None:
    engine = RolloutEngine(gpt2, GaussianNoise(0.5))
    guided = BeamSearch(4, 4).search(engine, latent_rm, *prompts, KEYS).scores.steps.sum(-1)[:, 0]
    sampled = latent_rm.score(*prompts, engine.rollout(*prompts, 16).thoughts).sum(-1).mean(1)
    assert (guided > sampled).all()


def test_options_that_make_no_sense() -> None:
    with pytest.raises(ConfigError, match="over the limit of 64"):
        BeamSearch(16, 8, limit=64)
    with pytest.raises(ConfigError, match="multiple of subtrees=3"):
        BeamSearch(8, 2, subtrees=3)
    with pytest.raises(ConfigError, match="beams=0 of BeamSearch"):
        BeamSearch(0, 8)
