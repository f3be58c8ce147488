from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from lightning_ltts import load_reasoner
from lightning_ltts.data.problems import Problem
from lightning_ltts.data.tokenization import WordTokenizer
from lightning_ltts.data.word_problems import WordProblems
from lightning_ltts.errors import ConfigError, DataError
from lightning_ltts.models.latent_lm import fingerprint
from lightning_ltts.training.codi import CodiModule, distillation
from lightning_ltts.training.start import Lora, Start
from tests.tiny import BACKBONES
from tests.training.helpers import make_codi as make_module
from tests.training.helpers import make_data, make_trainer


def test_distillation_by_hand() -> None:
    """One layer, two rows of one unit: teacher 0 and 2 (standard deviation sqrt 2), student 0.5 and 4.

    Smooth L1 is 0.5 * 0.25 = 0.125 and 2 - 0.5 = 1.5, so that the loss is 0.8125 / sqrt 2.
    """
    teacher = torch.tensor([[[0.0], [2.0]]], requires_grad=True)
    student = torch.tensor([[[0.5], [4.0]]], requires_grad=True)
    loss = distillation(student, teacher)
    assert float(loss) == pytest.approx(0.8125 / 2**0.5)
    loss.backward()
    assert teacher.grad is None
    assert student.grad is not None


@pytest.mark.slow
@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("drop", [True, False])
def test_losses_equal_one_unpadded_sequence_each(family: str, drop: bool) -> None:
    """Student and teacher read anew, without caches and padding."""
    module = make_module(family, drop_last_step=drop).eval()
    reasoner, problems = module.reasoner, WordProblems("train", 5).load()
    body = reasoner.backbone.base_model
    answers, teachers, students, targets = [], [], [], []
    for problem in problems:
        e = module.encode(problem)
        sequence = reasoner.embed(torch.tensor([e.prompt]))
        for _ in range(2):
            thought = reasoner.thought_head(body(inputs_embeds=sequence).last_hidden_state[:, -1:])
            sequence = torch.cat([sequence, thought], dim=1)
        tail = reasoner.embed(torch.tensor([[reasoner.end_id, *e.answer[:-1]]]))
        output = body(inputs_embeds=torch.cat([sequence, tail], dim=1), output_hidden_states=True)
        logits = reasoner.logits(output.last_hidden_state)[0, -len(e.answer) :]
        answers += F.cross_entropy(logits, torch.tensor(e.answer), reduction="none").tolist()
        at = sequence.shape[1] + len(e.marker)
        students.append(torch.stack(output.hidden_states)[:, 0, at])
        steps = e.steps[:-1] if drop else e.steps
        text = [*(t for step in steps for t in step), *e.answer]
        ids = torch.tensor([[*e.prompt[:-1], *text]])
        output = body(input_ids=ids, output_hidden_states=True)
        logits = reasoner.logits(output.last_hidden_state)[0, -len(text) - 1 : -1]
        teachers += F.cross_entropy(logits, torch.tensor(text), reduction="none").tolist()
        before = ids.shape[1] - len(e.answer) + len(e.marker) - 1
        assert ids[0, before] == e.marker[-1]
        targets.append(torch.stack(output.hidden_states)[:, 0, before])
    found = module.losses(problems)
    assert float(found["answer"]) == pytest.approx(sum(answers) / len(answers), rel=1e-4)
    assert float(found["teacher"]) == pytest.approx(sum(teachers) / len(teachers), rel=1e-4)
    expected = distillation(torch.stack(students, 1), torch.stack(targets, 1))
    assert float(found["distillation"]) == pytest.approx(float(expected), rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_adapters_train_alone_and_are_merged_when_loaded(family: str, tmp_path: Path) -> None:
    module = make_module(family, lora=Lora(rank=4, alpha=8.0, dropout=0.0), lr=1e-2)
    trainable = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    assert trainable
    assert all("lora_" in name or "thought_head" in name for name in trainable)
    frozen = {n: p.clone() for n, p in module.named_parameters() if n not in trainable}
    trainer = make_trainer(tmp_path, epochs=1)
    trainer.fit(module, datamodule=make_data())
    assert all(torch.equal(p, frozen[n]) for n, p in module.named_parameters() if n in frozen)
    path = tmp_path / "last.ckpt"
    loaded, module = load_reasoner(path), module.eval()
    assert not any("lora" in name for name, _ in loaded.named_parameters())
    ids = torch.arange(3, 20)[None]
    ours = module.reasoner.backbone(input_ids=ids).logits
    assert torch.allclose(loaded.backbone(input_ids=ids).logits, ours, atol=1e-5)
    fresh = make_module(family, lora=Lora(rank=4, alpha=8.0, dropout=0.0)).eval()
    assert not torch.allclose(fresh.reasoner.backbone(input_ids=ids).logits, ours, atol=1e-3), (
        "training should change something"
    )
    trainer = make_trainer(tmp_path / "on", epochs=2)
    trainer.fit(fresh, datamodule=make_data(), ckpt_path=path)
    assert trainer.current_epoch == 2


@pytest.mark.slow
def test_goes_on_from_a_trained_reasoner(tmp_path: Path) -> None:
    """A warm start has the weights it starts from; another method gets a new thought head."""
    module = make_module()
    trainer = make_trainer(tmp_path, epochs=1)
    trainer.fit(module, datamodule=make_data())
    again = CodiModule(
        Start(pretrained=str(tmp_path / "last.ckpt")), num_thoughts=2, max_answer_tokens=4
    )
    assert fingerprint(again.reasoner) == fingerprint(load_reasoner(tmp_path / "last.ckpt"))


def test_what_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"match nothing.*query_proj.*choose among"):
        make_module(lora=Lora(targets=("query_proj",)))
    with pytest.raises(ConfigError, match="either a pretrained model"):
        Start(pretrained="x", tokenizer=WordTokenizer(20)).build("codi", {})
    with pytest.raises(ConfigError, match="nothing to start from"):
        Start().build("codi", {})
    with pytest.raises(ConfigError, match="not one token"):
        Start(
            tokenizer=WordTokenizer(20), backbone=BACKBONES["gpt2"], new_tokens_from="Ann has"
        ).build("codi", {"num_thoughts": 2})


def test_problems_without_steps(tmp_path: Path) -> None:
    data = make_data()
    data.setup("fit")
    first = data.problems["train"][0]
    data.problems["train"][0] = Problem(
        first.id, first.question, (), first.answer, source="here, row 1"
    )
    with pytest.raises(DataError, match="here, row 1 has no steps"):
        make_trainer(tmp_path).fit(make_module(), datamodule=data)


def test_markers_start_from_a_token() -> None:
    reasoner = Start(
        tokenizer=WordTokenizer(20), backbone=BACKBONES["gpt2"], new_tokens_from="has"
    ).build("codi", {"num_thoughts": 2})
    table = reasoner.backbone.get_input_embeddings().weight
    like = table[reasoner.tokenizer.encode("has")[0]]
    assert all(torch.equal(table[i], like) for i in (reasoner.start_id, reasoner.end_id))
