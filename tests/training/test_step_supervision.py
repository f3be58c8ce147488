"""The auxiliary decoder that writes each step from the thoughts in place of it."""

import pytest
import torch
import torch.nn.functional as F

from lightning_ltts.data.word_problems import WordProblems
from lightning_ltts.models.latent_lm import LatentReasoner
from lightning_ltts.training.sequences import Encoded
from lightning_ltts.training.step_supervision import StepDecoder
from tests.training.helpers import make_codi, without_trainer


@pytest.mark.parametrize("per_step", [1, 2])
def test_loss_equals_one_unpadded_step_each(reasoner: LatentReasoner, per_step: int) -> None:
    """Four thoughts stand for 4 / c steps; a third step that has no thoughts counts for nothing."""
    torch.manual_seed(1)
    decoder = StepDecoder(reasoner.eval())
    encoded = [Encoded(problem, reasoner) for problem in WordProblems("train", 3).load()]
    thoughts, losses = torch.randn(3, 4, 32), []
    for row, problem in enumerate(encoded):
        for number, step in enumerate(problem.steps[: 4 // per_step]):
            held = decoder.projection(thoughts[row, number * per_step : (number + 1) * per_step])
            before = decoder.backbone.get_input_embeddings()(torch.tensor(step[:-1]))
            logits = decoder.backbone(inputs_embeds=torch.cat([held, before])[None]).logits[0]
            written = logits[-len(step) :]
            losses += F.cross_entropy(written, torch.tensor(step), reduction="none").tolist()
    loss = decoder.loss(encoded, thoughts, per_step)
    assert float(loss) == pytest.approx(sum(losses) / len(losses), rel=1e-4)


def test_gradient_reaches_the_thoughts_and_every_weight_takes_part(gpt2: LatentReasoner) -> None:
    decoder = StepDecoder(gpt2)
    encoded = [Encoded(problem, gpt2) for problem in WordProblems("train", 2).load()]
    thoughts = torch.randn(2, 3, 32, requires_grad=True)
    decoder.loss(encoded, thoughts, 1).backward()
    assert thoughts.grad is not None
    assert (thoughts.grad != 0).any(-1).all()
    decoder.zero_grad()
    nothing = decoder.loss(encoded, thoughts[:, :0], 1)
    nothing.backward()
    assert float(nothing) == 0
    assert all(weight.grad is not None for weight in decoder.parameters())


def test_it_is_added_to_the_loss_and_is_no_part_of_the_reasoner() -> None:
    problems = WordProblems("train", 4).load()
    module = make_codi(step_factor=0.5).eval()
    without_trainer(module)
    parts = module.losses(problems)
    plain = parts["answer"] + parts["distillation"] + parts["teacher"]
    assert float(module.loss_of(problems)) == pytest.approx(float(plain + 0.5 * parts["steps"]))
    assert "steps" not in make_codi().eval().losses(problems)
    own = {id(weight) for weight in module.reasoner.parameters()}
    assert not any(id(weight) in own for weight in module.step_decoder.parameters())
