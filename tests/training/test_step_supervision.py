"""The auxiliary decoder that writes each step from the thoughts in place of it."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from lightning_ltts.data.tokenization import WordTokenizer
from lightning_ltts.data.word_problems import WordProblems
from lightning_ltts.errors import CheckpointError
from lightning_ltts.models.checkpoints import PROVENANCE
from lightning_ltts.models.folders import import_model
from lightning_ltts.models.latent_lm import LatentReasoner
from lightning_ltts.models.step_decoder import load_step_decoder
from lightning_ltts.training.coconut import CoconutModule
from lightning_ltts.training.curriculum import Curriculum
from lightning_ltts.training.sequences import Encoded
from lightning_ltts.training.start import Start
from lightning_ltts.training.step_supervision import StepDecoder, step_loss
from tests.tiny import BACKBONES
from tests.training.helpers import make_codi, make_data, make_trainer, without_trainer


@pytest.mark.slow
@pytest.mark.parametrize(("per_step", "ends"), [(1, False), (2, True)])
def test_loss_equals_one_unpadded_step_each(
    reasoner: LatentReasoner, per_step: int, ends: bool
) -> None:
    """Four thoughts stand for 4 / c steps; a third step that has no thoughts counts for nothing."""
    torch.manual_seed(1)
    decoder = StepDecoder(reasoner.eval(), per_step, ends)
    encoded = [Encoded(problem, reasoner) for problem in WordProblems("train", 3).load()]
    thoughts, losses = torch.randn(3, 4, 32), []
    for row, problem in enumerate(encoded):
        for number, tokens in enumerate(problem.steps[: 4 // per_step]):
            step = [*tokens, reasoner.eos_id] if ends else tokens
            held = decoder.projection(thoughts[row, number * per_step : (number + 1) * per_step])
            before = decoder.backbone.get_input_embeddings()(torch.tensor(step[:-1]))
            logits = decoder.backbone(inputs_embeds=torch.cat([held, before])[None]).logits[0]
            written = logits[-len(step) :]
            losses += F.cross_entropy(written, torch.tensor(step), reduction="none").tolist()
    loss = step_loss(decoder, encoded, thoughts)
    assert float(loss) == pytest.approx(sum(losses) / len(losses), rel=1e-4)


def test_gradient_reaches_the_thoughts_and_every_weight_takes_part(gpt2: LatentReasoner) -> None:
    decoder = StepDecoder(gpt2)
    encoded = [Encoded(problem, gpt2) for problem in WordProblems("train", 2).load()]
    thoughts = torch.randn(2, 3, 32, requires_grad=True)
    step_loss(decoder, encoded, thoughts).backward()
    assert thoughts.grad is not None
    assert (thoughts.grad != 0).any(-1).all()
    decoder.zero_grad()
    nothing = step_loss(decoder, encoded, thoughts[:, :0])
    nothing.backward()
    assert float(nothing) == 0
    assert all(weight.grad is not None for weight in decoder.parameters())


def test_a_step_is_written_from_its_own_thoughts_alone(gpt2: LatentReasoner) -> None:
    """The loss of the first step does not see the second's thoughts, nor the question."""
    decoder = StepDecoder(gpt2, 2).eval()
    encoded = Encoded(WordProblems("train", 1).load()[0], gpt2)
    encoded.steps = encoded.steps[:1]
    thoughts = torch.randn(1, 4, 32, requires_grad=True)
    step_loss(decoder, [encoded], thoughts).backward()
    seen = (thoughts.grad != 0).any(-1)[0]
    assert seen.tolist() == [True, True, False, False]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["coconut", "codi"])
def test_it_stays_in_training_checkpoints_and_out_of_exports(kind: str, tmp_path: Path) -> None:
    module = (
        make_codi(step_factor=1.0, end_steps=True) if kind == "codi" else make_supervised_coconut()
    )
    make_trainer(tmp_path, epochs=1).fit(module, make_data(16))
    path = tmp_path / "last.ckpt"
    keys = torch.load(path, weights_only=True)["state_dict"].keys()
    assert {key for key in keys if key.startswith("step_decoder.")} == {
        f"step_decoder.{key}" for key in module.step_decoder.state_dict()
    }
    reasoner = import_model(path, tmp_path / "exported")
    exported = load_file(tmp_path / "exported/model.safetensors")
    assert not any("step_decoder" in key or "projection" in key for key in exported)
    own = sum(weight.numel() for weight in module.reasoner.parameters())
    assert sum(weight.numel() for weight in reasoner.parameters()) == own
    facts = json.loads((tmp_path / "exported" / PROVENANCE).read_text())
    assert facts["left_out"] == {"step_decoder.*": len(module.step_decoder.state_dict())}
    # what the training ended with is what reads, as often as the curriculum says
    decoder = load_step_decoder(path, reasoner)
    assert decoder.thoughts_per_step == (1 if kind == "codi" else 2)
    for name, weight in module.step_decoder.state_dict().items():
        assert torch.equal(decoder.state_dict()[name], weight.cpu())
    with pytest.raises(CheckpointError, match="holds no step decoder"):
        load_step_decoder(tmp_path / "exported", reasoner)


def make_supervised_coconut() -> CoconutModule:
    start = Start(tokenizer=WordTokenizer(20), backbone=BACKBONES["gpt2"])
    return CoconutModule(start, Curriculum(0, (1,), 2), 4, step_factor=1.0, end_steps=True)


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
