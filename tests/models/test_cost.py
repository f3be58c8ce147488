"""What is counted, beside torch's own counter of FLOPs."""

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from lightning_ltts.engine.rollout import RolloutEngine
from lightning_ltts.models.cost import Cost
from lightning_ltts.models.latent_lm import LatentReasoner
from lightning_ltts.models.latent_rm import LatentRM
from lightning_ltts.sampling import GaussianNoise, Sampler, SingularValueNoise


def linear_flops(counter: FlopCounterMode) -> int:
    """FLOPs of products with weights; torch also counts attention's own, as bmm."""
    counts = counter.get_flop_counts()["Global"]
    return sum(n for op, n in counts.items() if str(op) in ("aten.mm", "aten.addmm"))


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("sampler", [GaussianNoise(0.5), SingularValueNoise(target="q")], ids=repr)
def test_flops_of_a_rollout(
    reasoner: LatentReasoner, prompts: tuple[Tensor, Tensor], sampler: Sampler
) -> None:
    engine = RolloutEngine(reasoner, sampler)
    engine.rollout(*prompts)  # what is made once
    with FlopCounterMode(display=False) as counter:
        cost = engine.rollout(*prompts, 3).cost
    # biases and norms are counted like weights, and are few
    assert linear_flops(counter) == pytest.approx(cost.flops, rel=0.05)
    assert cost.flops > 0


@pytest.mark.slow
@torch.no_grad()
def test_flops_and_positions_of_a_latent_rm(
    reasoner: LatentReasoner, prompts: tuple[Tensor, Tensor]
) -> None:
    rm = LatentRM.from_reasoner(reasoner, 1, reference=True, reads_answer=True).eval()
    greedy = RolloutEngine(reasoner).rollout(*prompts)
    samples = RolloutEngine(reasoner, GaussianNoise(0.5)).rollout(*prompts, 3)
    seen: list[int] = []
    hook = rm.backbone.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs["inputs_embeds"].shape[:2].numel()),
        with_kwargs=True,
    )
    with FlopCounterMode(display=False) as counter, rm.counting() as cost:
        state = rm.start(*prompts, greedy)
        whole = rm.judge(*prompts, samples, prompt_state=state)
    assert linear_flops(counter) == pytest.approx(cost.flops, rel=0.05)
    assert cost.token_forwards == sum(seen)
    written = (samples.answer_ids != reasoner.pad_id).sum() + 4 * samples.answer_ids[..., 0].numel()
    reference = (greedy.answer_ids != reasoner.pad_id).sum() + 4 * len(greedy.answer_ids)
    assert cost.tree_nodes == int(prompts[1].sum() + written + reference)

    # step by step, as a beam search does
    seen.clear()
    with rm.counting() as cost:
        rows = rm.start(*prompts, greedy).take(torch.arange(6).repeat_interleave(3))
        flat = samples.map(lambda x: x.flatten(0, 1))
        for step in range(3):
            _, rows = rm.extend(rows, flat.thoughts[:, step : step + 1])
        answers = rm.score_answers(rows, flat.answer_ids)
    hook.remove()
    assert cost.token_forwards == sum(seen)
    assert cost.tree_nodes == int(prompts[1].sum() + written + reference)
    assert whole.answer is not None
    assert torch.allclose(answers, whole.answer.flatten(), atol=1e-4)


def test_costs_add_up() -> None:
    assert Cost(1, 2, 3) + Cost(10, 20, 30) == Cost(11, 22, 33)
