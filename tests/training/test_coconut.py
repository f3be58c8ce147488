from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
import torch.nn.functional as F

from lightning_ltts import load_reasoner
from lightning_ltts.data.problem_data import ProblemData
from lightning_ltts.data.word_problems import WordProblems
from lightning_ltts.errors import CheckpointError, ConfigError, DataError
from lightning_ltts.models.latent_lm import fingerprint
from lightning_ltts.training.coconut import CoconutModule, text_of
from tests.tiny import BACKBONES
from tests.training.helpers import CURRICULUM, make_data, make_trainer
from tests.training.helpers import make_coconut as make_module


@pytest.mark.parametrize("family", list(BACKBONES))
@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_loss_equals_one_unpadded_sequence_each(family: str, epoch: int) -> None:
    """Without caches and padding: thoughts are made by reading the whole sequence anew, the loss is over the text."""
    module = make_module(family).eval()
    stage, reasoner = CURRICULUM.stage_at(epoch), module.reasoner
    problems = WordProblems("train", 6).load()
    losses = []
    for problem in problems:
        encoded = module.encode(problem)
        text = text_of(encoded, stage)
        sequence = reasoner.embed(torch.tensor([encoded.prompt]))
        for _ in range(stage.num_thoughts):
            hidden = reasoner.backbone.base_model(inputs_embeds=sequence).last_hidden_state
            sequence = torch.cat([sequence, hidden[:, -1:]], dim=1)
        tail = reasoner.embed(torch.tensor([[reasoner.end_id, *text[:-1]]]))
        logits = reasoner.backbone(inputs_embeds=torch.cat([sequence, tail], dim=1)).logits[
            0, -len(text) :
        ]
        losses += F.cross_entropy(logits, torch.tensor(text), reduction="none").tolist()
    assert float(module.loss(problems, stage)) == pytest.approx(sum(losses) / len(losses), rel=1e-5)


def test_text_of_each_stage() -> None:
    module = make_module()
    (problem,) = WordProblems("train", 1).load()
    texts = [
        module.reasoner.decode(text_of(module.encode(problem), CURRICULUM.stage_at(e)))
        for e in range(3)
    ]
    spaced = [" ".join(step.replace("=", " = ").replace("+", " + ").replace("-", " - ").replace("*", " * ").split())
              for step in problem.steps]  # fmt: skip
    assert texts == [
        " ".join([*spaced, "###", problem.answer]),
        " ".join([*spaced[1:], "###", problem.answer]),
        f"### {problem.answer}",
    ]


class Weights(pl.Callback):
    """What was trained on, in order, and the weights at the end of every epoch."""

    def __init__(self, stop_after: int | None = None):
        self.batches, self.prints, self.stop_after = [], [], stop_after

    def on_train_batch_start(self, trainer, module, batch, batch_idx) -> None:
        self.batches.append([problem.id for problem in batch])

    def on_train_epoch_end(self, trainer, module) -> None:
        self.prints.append(fingerprint(module.reasoner))
        if trainer.current_epoch + 1 == self.stop_after:
            trainer.should_stop = True


@pytest.mark.slow
def test_resume_gives_the_same_weights(tmp_path: Path) -> None:
    whole, first, second = Weights(), Weights(stop_after=1), Weights()
    make_trainer(tmp_path / "a", callbacks=[whole]).fit(make_module(), make_data())
    make_trainer(tmp_path / "b", callbacks=[first]).fit(make_module(), make_data())
    make_trainer(tmp_path / "b", callbacks=[second]).fit(
        make_module(), make_data(), ckpt_path=tmp_path / "b" / "last.ckpt", weights_only=True
    )
    assert first.prints + second.prints == whole.prints
    assert first.batches + second.batches == whole.batches
    assert len(set(map(tuple, whole.batches))) == len(
        whole.batches
    )  # epochs are shuffled differently


@pytest.mark.slow
def test_checkpoint_holds_stage_and_loads_by_itself(tmp_path: Path) -> None:
    module = make_module()
    make_trainer(tmp_path, epochs=2).fit(module, make_data())
    loaded = load_reasoner(tmp_path / "last.ckpt")
    assert loaded.spec.num_thoughts == 1  # stage 1, although the curriculum ends with 2 thoughts
    assert torch.equal(
        loaded.backbone.base_model.wte.weight, module.reasoner.backbone.base_model.wte.weight
    )
    again = CoconutModule.load_from_checkpoint(tmp_path / "last.ckpt", weights_only=True)
    assert again.stage.index == 1


@pytest.mark.slow
def test_metrics_and_test_command(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, epochs=1)
    module = make_module()
    trainer.fit(module, make_data())
    assert {
        "train/loss",
        "val/accuracy",
        "val/stage_and_accuracy",
    } <= trainer.callback_metrics.keys()
    (result,) = trainer.test(module, make_data(), verbose=False)
    assert 0 <= result["test/accuracy"] <= 1


def test_accuracy_counts_right_answers() -> None:
    module = make_module()
    problems = WordProblems("valid", 4).load()
    right = iter([problems[0].answer, problems[1].answer, "no number", problems[3].answer])
    module.reasoner.decode = lambda ids: f"### {next(right)}"  # type: ignore[method-assign]
    assert module.greedy_correct(problems).tolist() == [1, 1, 0, 1]


@pytest.mark.slow
def test_checkpoint_of_another_kind_or_vocabulary(tmp_path: Path) -> None:
    make_trainer(tmp_path, epochs=1).fit(make_module(), make_data())
    with pytest.raises(CheckpointError, match="another tokenizer"):
        make_trainer(tmp_path, epochs=2).fit(
            make_module(max_number=30), make_data(), ckpt_path=tmp_path / "last.ckpt"
        )
    with pytest.raises(CheckpointError, match="not a latent reasoner's"):
        make_module().on_load_checkpoint({})


def test_data_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="fewer than one batch"):
        make_trainer(tmp_path).fit(make_module(), make_data(train=8))
    leaking = ProblemData(WordProblems("train", 32), WordProblems("train", 4), batch_size=16)
    with pytest.raises(DataError, match="validation question is among the training problems"):
        make_trainer(tmp_path).fit(make_module(), leaking)
    with pytest.raises(ConfigError, match=r"data\.init_args\.test"):
        make_trainer(tmp_path).test(
            make_module(), ProblemData(WordProblems("train", 9), WordProblems("valid", 9))
        )
