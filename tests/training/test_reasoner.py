import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from lightning_ltts.analysis.summary import summarize
from lightning_ltts.data.latex_answers import read_latex
from lightning_ltts.data.problem_data import ProblemData
from lightning_ltts.data.problems import ProblemFiles
from lightning_ltts.data.tokenization import BPETokenizer
from lightning_ltts.data.word_problems import WordProblems
from lightning_ltts.engine.rollout import RolloutEngine
from lightning_ltts.errors import ConfigError, DataError, TrainingError
from lightning_ltts.prediction.module import LatentSearch
from lightning_ltts.sampling import GaussianNoise
from lightning_ltts.training import reasoner as reasoner_module
from lightning_ltts.training.coconut import CoconutModule, text_of
from lightning_ltts.training.codi import CodiModule
from lightning_ltts.training.colar import ColarModule
from lightning_ltts.training.curriculum import Curriculum
from lightning_ltts.training.flat_accuracy import FlatAccuracy
from lightning_ltts.training.start import Start
from tests.tiny import BACKBONES
from tests.training.helpers import CURRICULUM, make_data, make_trainer, without_trainer
from tests.training.helpers import make_coconut as make_module


def test_a_loss_that_is_not_a_number_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        CoconutModule,
        "loss",
        lambda self, batch, stage: self.reasoner.embed(torch.tensor(1)).sum() * torch.nan,
    )
    with pytest.raises(
        TrainingError, match=r"the loss is nan in step 0; lower model.init_args.lr \(now 0.002\)"
    ):
        make_trainer(tmp_path).fit(make_module(), datamodule=make_data())


@pytest.mark.slow
def test_flat_accuracy_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        CoconutModule, "greedy_correct", lambda self, batch: torch.zeros(len(batch))
    )
    trainer = make_trainer(tmp_path, callbacks=[FlatAccuracy(epochs=2)])
    with pytest.raises(TrainingError, match=r"after 2 validations the best accuracy is 0.0%"):
        trainer.fit(make_module(), datamodule=make_data())
    assert trainer.current_epoch == 1


@pytest.mark.slow
def test_any_right_answer_keeps_it_going(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        CoconutModule, "greedy_correct", lambda self, batch: torch.eye(len(batch))[0]
    )
    trainer = make_trainer(tmp_path, callbacks=[FlatAccuracy(epochs=2)])
    trainer.fit(make_module(), datamodule=make_data())
    assert trainer.current_epoch == 3


def test_uniform_mixing_of_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    """A share of the batches comes from any stage, the same ones for the same step."""
    module = make_module()
    trainer = without_trainer(module)
    module.stage = CURRICULUM.stage_at(2)
    drawn: list[int] = []
    monkeypatch.setattr(module, "loss", lambda batch, stage: drawn.append(stage.index))
    module.loss_of([])
    assert drawn == [2]
    module.uniform_prob = 0.6
    for _ in range(2):
        for step in range(300):
            trainer.fit_loop.total_batch_idx = step
            module.loss_of([])
    trainer.global_rank, trainer.world_size = 1, 2
    for step in range(300):
        trainer.fit_loop.total_batch_idx = step
        module.loss_of([])
    assert drawn[1:301] == drawn[301:601] == drawn[601:], "also on every device"
    drawn = drawn[1:301]
    assert drawn.count(2) == pytest.approx(0.4 * 300 + 0.2 * 300, abs=25)
    assert drawn.count(0) == pytest.approx(0.2 * 300, abs=25)


@pytest.mark.slow
def test_batches_whose_gradients_are_accumulated_draw_for_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that is drawn by the number of a batch differs among them, as among any others."""
    module, seen, steps = make_module(), [], set()

    def loss_of(batch: object) -> torch.Tensor:
        seen.append(module.batches_seen)
        steps.add(module.global_step)
        return next(module.parameters()).sum() * 0

    monkeypatch.setattr(module, "loss_of", loss_of)
    trainer = make_trainer(tmp_path, epochs=2, accumulate_grad_batches=4)
    trainer.fit(module, datamodule=make_data())
    assert seen == list(range(len(seen)))
    assert len(steps) == len(seen) / 4


def test_a_run_without_an_end_is_refused(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, epochs=-1, max_time={"seconds": 1})
    with pytest.raises(ConfigError, match=r"this one has none; set trainer\.max_epochs"):
        trainer.fit(make_module(), datamodule=make_data())


def test_steps_are_asked_for_where_steps_alone_end_a_run(tmp_path: Path) -> None:
    """However many epochs that takes, the curriculum begins with explicit steps."""
    rows = [{"question": p.question, "answer": p.answer} for p in WordProblems("train", 16).load()]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    data = ProblemData(
        ProblemFiles([str(tmp_path / "a.json")]),
        WordProblems("valid", 8),
        WordProblems("test", 8),
        batch_size=16,
    )
    trainer = make_trainer(tmp_path, epochs=-1, max_steps=2)
    with pytest.raises(DataError, match="steps"):
        trainer.fit(make_module(), datamodule=data)


MODULES = {
    "coconut": partial(CoconutModule, curriculum=Curriculum(1, (1, 1))),
    "codi": partial(CodiModule, num_thoughts=2),
    "colar": partial(ColarModule, num_thoughts=2),
}


@pytest.mark.parametrize("method", list(MODULES))
def test_a_specification_that_contradicts_the_options_is_refused(method: str) -> None:
    """The same value may stand in both places; a field without an option of its own is free."""
    make, start = MODULES[method], make_module().start
    with pytest.raises(
        ConfigError, match=r"^spec\.num_thoughts=5 contradicts .* by which it is 2; leave"
    ):
        make(start, spec={"num_thoughts": 5})
    with pytest.raises(
        ConfigError, match=r"^spec\.max_answer_tokens=9 contradicts .* it is 4; leave"
    ):
        make(start, max_answer_tokens=4, spec={"max_answer_tokens": 9})
    with pytest.raises(ConfigError, match=r"^spec\.method='other' contradicts"):
        make(start, spec={"method": "other"})
    made = make(start, spec={"num_thoughts": 2, "answer_marker": "="})
    assert (made.reasoner.spec.num_thoughts, made.reasoner.spec.answer_marker) == (2, "=")


def test_options_of_a_thought_head_from_both_places() -> None:
    start = make_module().start
    made = ColarModule(start, embedding_std=0.1, spec={"thought_head": {"intermediate_size": 8}})
    options = {"embedding_std": 0.1, "spread": True, "intermediate_size": 8}
    assert made.reasoner.spec.thought_head == options
    with pytest.raises(ConfigError, match=r"spec\.thought_head\.spread=False contradicts"):
        ColarModule(start, spec={"thought_head": {"spread": False}})
    made = CodiModule(start, spec={"thought_head": {"hidden_size": 8}})
    assert made.reasoner.spec.thought_head == {"hidden_size": 8}


@pytest.mark.parametrize("method", list(MODULES))
def test_hyper_parameters_hold_every_option(method: str) -> None:
    """Those that were given, those that were not, and those of the base class."""
    made = MODULES[method](make_module().start, max_answer_tokens=3, weight_decay=0.5)
    assert made.weight_decay == made.hparams["weight_decay"] == 0.5
    assert made.hparams["max_answer_tokens"] == 3
    assert {"start", "spec", "lr", "warmup", "schedule"} <= made.hparams.keys()
    assert (made.lr, made.schedule) == (made.hparams["lr"], made.hparams["schedule"])
    assert "reasoner" not in made.hparams
    with pytest.raises(TypeError, match="learning_rate"):
        MODULES[method](make_module().start, learning_rate=1.0)


@pytest.mark.slow
def test_score_is_what_the_best_checkpoint_is_chosen_by(tmp_path: Path) -> None:
    """The accuracy; for COCONUT the stage's index is added, and older runs' name is logged, too."""
    for method, stage in (("coconut", 2), ("codi", 0)):
        best = ModelCheckpoint(tmp_path / method, "best", monitor="val/score", mode="max")
        trainer = make_trainer(tmp_path / method, callbacks=[best])
        trainer.fit(MODULES[method](make_module().start), datamodule=make_data(32))
        metrics = trainer.callback_metrics
        assert float(metrics["val/score"]) == stage + float(metrics["val/accuracy"])
        assert ("val/stage_and_accuracy" in metrics) == (method == "coconut")
        assert best.best_model_score == metrics["val/score"]


def test_curriculum_needs_steps(tmp_path: Path) -> None:
    data = make_data()
    data.setup("fit")
    data.problems["train"] = [
        type(p)(p.id, p.question, (), p.answer, f"row {i}")
        for i, p in enumerate(data.problems["train"])
    ]
    with pytest.raises(
        DataError, match=r"row 0 has no steps for the curriculum .* \(64 of 64 have none\); give"
    ):
        make_trainer(tmp_path).fit(make_module(), datamodule=data)


@pytest.mark.slow
def test_optimizer_is_reset_with_the_stage(tmp_path: Path) -> None:
    """Moments are forgotten when a stage begins, or with every epoch."""
    seen = {}
    for reset in (False, True, "epoch"):
        torch.manual_seed(0)
        module = make_module()
        module.reset_optimizer = reset
        make_trainer(tmp_path / str(reset)).fit(module, datamodule=make_data())
        seen[reset] = next(state["step"] for state in module.trainer.optimizers[0].state.values())
    assert seen[False] == 12
    assert seen[True] == seen["epoch"] == 4  # every stage has one epoch here
    module = CoconutModule(make_module().start, Curriculum(2, (1,)), max_answer_tokens=4)
    module.reset_optimizer = "epoch"
    make_trainer(tmp_path / "two", epochs=2).fit(module, datamodule=make_data())
    assert next(iter(module.trainer.optimizers[0].state.values()))["step"] == 4


@pytest.mark.slow
def test_text_answers_from_training_to_the_report(tmp_path: Path) -> None:
    """A task whose answers are sentences goes through the same parts: training, validation, search, summary."""
    rows = [
        {"question": f"Ann is a pen. Every pen is a {kind}. Is Ann a {kind} or a coin?", "steps": [f"pen is {kind}."],
         "answer": f"Ann is a {kind}."}
        for kind in [f"{a}{b}" for a in "abcdefgh" for b in "pqrs"]
    ]  # fmt: skip
    for name, part in (("train", rows[:24]), ("valid", rows[24:])):
        (tmp_path / f"{name}.json").write_text(json.dumps(part))
    files = [
        ProblemFiles([str(tmp_path / f"{name}.json")], answers="text")
        for name in ("train", "valid")
    ]
    data = ProblemData(*files, batch_size=8, eval_batch_size=8)
    tokenizer = BPETokenizer([str(tmp_path / "train.json")], 300, answers="text")
    start = Start(tokenizer=tokenizer, backbone={**BACKBONES["gpt2"], "n_positions": 256})
    with pytest.raises(ConfigError, match=r"set model\.init_args\.spec.answer_which=text"):
        make_trainer(tmp_path).fit(CoconutModule(start, CURRICULUM), datamodule=data)
    module = CoconutModule(start, CURRICULUM, max_answer_tokens=30, spec={"answer_which": "text"})
    trainer = make_trainer(tmp_path / "run")
    trainer.fit(module, datamodule=data)
    (problem, *_) = data.problems["val"]
    search = LatentSearch(str(tmp_path / "run" / "last.ckpt"), GaussianNoise(0.5), num_samples=3)
    row = search.predict_step([problem], 0)[0]
    assert row["answer"] == "ann is a gp"
    row["samples"][1]["answer"] = row["greedy"]["answer"] = "ann is a gp"
    row["samples"][0]["answer"] = row["samples"][2]["answer"] = "ann is a coin"
    lines = {line.name: line.accuracy for line in summarize([row]).lines}
    assert (lines["greedy"], lines["pass@1"], lines["coverage@3"], lines["majority@3"]) == (
        1,
        pytest.approx(1 / 3),
        1,
        0,
    )


@pytest.mark.slow
def test_answers_in_latex_from_training_to_the_report(tmp_path: Path) -> None:
    """Training refuses a rule that does not read them, and validation counts by math-verify."""
    pytest.importorskip("math_verify", reason="the extra 'math' is not installed")
    rows = [{"question": f"half of {i}x?", "answer": rf"\\frac{{{i}x}}{{2}}"} for i in range(1, 17)]
    for name, part in (("train", rows[:12]), ("valid", rows[12:])):
        (tmp_path / f"{name}.json").write_text(json.dumps(part))
    files = [
        ProblemFiles([str(tmp_path / f"{name}.json")], answers="latex")
        for name in ("train", "valid")
    ]
    data = ProblemData(*files, batch_size=8, eval_batch_size=8)
    tokenizer = BPETokenizer([str(tmp_path / "train.json")], 300, answers="latex")
    start = Start(tokenizer=tokenizer, backbone={**BACKBONES["gpt2"], "n_positions": 256})
    curriculum = Curriculum(0, [1])
    for rule in ("first", "text"):
        module = CoconutModule(start, curriculum, spec={"answer_which": rule})
        with pytest.raises(ConfigError, match=r"set model\.init_args\.spec.answer_which=latex"):
            make_trainer(tmp_path).fit(module, datamodule=data)
    module = CoconutModule(start, curriculum, spec={"answer_which": "latex"})
    make_trainer(tmp_path / "run").fit(module, datamodule=data)
    (problem, *_) = data.problems["val"]
    given = ["0.5 x * 13", r"\frac{x}{2}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_greedy_answers", lambda _: [read_latex(text) for text in given])
        assert module.greedy_correct([problem] * 2).tolist() == [1, 0]
    search = LatentSearch(str(tmp_path / "run" / "last.ckpt"), GaussianNoise(0.5), num_samples=2)
    row = search.predict_step([problem], 0)[0]
    assert row["answer_is"] == "latex"
    row["greedy"]["answer"] = row["samples"][1]["answer"] = "6.5 x"
    lines = {line.name: line.accuracy for line in summarize([row]).lines}
    assert (lines["greedy"], lines["coverage@2"]) == (1, 1)


def test_token_ids_of_the_first_problems_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of all would take memory that grows with their number."""
    monkeypatch.setattr(reasoner_module, "_KEPT", 2)
    module, problems = make_module(), WordProblems("train", 4).load()
    first = [module.encode(problem) for problem in problems]
    again = [module.encode(problem) for problem in problems]
    assert [one is two for one, two in zip(first, again, strict=True)] == [True, True, False, False]
    assert [one.prompt for one in first] == [two.prompt for two in again]


def test_validation_on_the_test_set(tmp_path: Path) -> None:
    data = ProblemData(
        WordProblems("train", 32), WordProblems("test", 8), WordProblems("test", 8), batch_size=16
    )
    with pytest.raises(DataError, match="validation and test problems are the same"):
        make_trainer(tmp_path).fit(make_module(), datamodule=data)


def test_all_problems_are_looked_at_before_training(tmp_path: Path) -> None:
    path = tmp_path / "val.json"
    rows = [{"question": "Ann has 7 pens.", "steps": ["7"], "answer": "7"}] * 2
    rows[1] = {**rows[1], "question": "Ann has 7 pens. " * 20}
    path.write_text(json.dumps(rows))
    data = ProblemData(WordProblems("train", 32), ProblemFiles([str(path)]), batch_size=16)
    trainer = make_trainer(tmp_path)
    with pytest.raises(DataError, match=r"val\.json, row 2: .* positions"):
        trainer.fit(make_module(), data)
    assert trainer.global_step == 0


@pytest.mark.parametrize(("epoch", "limit"), [(0, None), (1, None), (2, 2)])
def test_validation_has_the_limit_of_a_search(
    epoch: int, limit: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer is cut off where a search would cut it off; steps that are written out are not."""
    given: list[int] = []
    rollout = RolloutEngine.rollout

    def watched(
        self: RolloutEngine, *arguments: Any, max_answer_tokens: int, **options: Any
    ) -> Any:
        given.append(max_answer_tokens)
        return rollout(self, *arguments, max_answer_tokens=max_answer_tokens, **options)

    monkeypatch.setattr(RolloutEngine, "rollout", watched)
    module = make_module()
    module.reasoner.spec = replace(module.reasoner.spec, max_answer_tokens=2)
    module.stage = module.curriculum.stage_at(epoch)
    problems = WordProblems("valid", 4).load()
    module.greedy_correct(problems)
    texts = [len(text_of(module.encode(problem), module.stage)) for problem in problems]
    assert max(texts) > 2
    assert given == [limit or max(texts)]


@pytest.mark.slow
def test_validation_of_rows_that_fit_by_themselves_alone() -> None:
    """One has the longest prompt, another the longest text, and together they are too long."""
    module = make_module()
    module.stage = module.curriculum.stage_at(0)
    problems = WordProblems("valid", 6).load()
    encoded = [module.encode(problem) for problem in problems]
    alone = [module.greedy_correct([problem]).item() for problem in problems]
    long = 40  # of 64 positions
    encoded[1].prompt[:0] = encoded[1].prompt[:1] * (long - len(encoded[1].prompt))
    text = len(text_of(encoded[2], module.stage))
    module.longest_text = (  # type: ignore[method-assign]
        lambda one: 64 - len(one.prompt) - 1 if one is encoded[2] else text
    )
    assert long + 1 + module.longest_text(encoded[2]) > module.reasoner.max_positions
    found = module.greedy_correct(problems)
    assert len(found) == 6
    assert found[[0, 3, 4, 5]].tolist() == [alone[i] for i in (0, 3, 4, 5)]
