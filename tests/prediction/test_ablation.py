"""Replaced thoughts are compared with a plain loop that is given them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from lightning_ltts.analysis.predictions import read_rows
from lightning_ltts.analysis.summary import summarize
from lightning_ltts.data.answers import format_answer
from lightning_ltts.data.problems import Problem
from lightning_ltts.data.word_problems import WordProblems
from lightning_ltts.engine.rollout import RolloutEngine
from lightning_ltts.errors import ConfigError, OtherSettingsError
from lightning_ltts.models.checkpoints import load_reasoner
from lightning_ltts.models.latent_lm import LatentReasoner
from lightning_ltts.prediction import (
    LatentSearch,
    PredictionData,
    PredictionWriter,
    ThoughtAblation,
)
from lightning_ltts.prediction.ablation import Pool
from lightning_ltts.sampling import GaussianNoise
from lightning_ltts.sampling.keyed_random import fold, normal, question_keys
from lightning_ltts.sampling.streams import Stream
from lightning_ltts.trainer import Trainer
from tests.helpers import save_reasoner
from tests.tiny import make_reasoner

PROBLEMS = WordProblems("test", 10).load()


def predict(reasoner: Path, folder: Path, ablation: ThoughtAblation | None, **options: Any) -> list:
    options = {"num_samples": 2, "token_budget": 200} | options
    module = LatentSearch(str(reasoner), GaussianNoise(0.5), ablation=ablation, **options)
    runner = Trainer(
        accelerator="cpu", logger=False, callbacks=[PredictionWriter(str(folder))],
        enable_progress_bar=False,
    )  # fmt: skip
    runner.predict(
        module, datamodule=PredictionData(WordProblems("test", 10)), return_predictions=False
    )
    return read_rows(folder)


@torch.no_grad()
def plain(reasoner: LatentReasoner, problem: Problem, put: dict[int, Tensor]) -> tuple[str, Tensor]:
    """The greedy answer with some thoughts put in place, and all thoughts, without any cache."""
    body = reasoner.backbone.base_model
    sequence = reasoner.embed(torch.tensor([reasoner.encode_prompt(problem.question)]))
    thoughts = []
    for step in range(reasoner.spec.num_thoughts):
        own = reasoner.thought_head(body(inputs_embeds=sequence).last_hidden_state[:, -1])
        thought = put[step][None] if step in put else own
        thoughts.append(thought[0])
        sequence = torch.cat([sequence, thought[:, None]], 1)
    tokens, answer = [reasoner.end_id], []
    while len(answer) < reasoner.spec.max_answer_tokens:
        sequence = torch.cat([sequence, reasoner.embed(torch.tensor([[tokens[-1]]]))], 1)
        token = int(reasoner.logits(body(inputs_embeds=sequence).last_hidden_state[0, -1]).argmax())
        if token == reasoner.eos_id:
            break
        answer.append(token)
        tokens.append(token)
    return format_answer(reasoner.read_answer(answer)), torch.stack(thoughts)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["coconut", "codi"])
def test_answers_by_a_plain_loop(
    method: str,
    tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where a thought is not the hidden state itself. An answer is the sum of its tokens."""
    monkeypatch.setattr(LatentReasoner, "decode", lambda self, ids: str(sum(map(int, ids))))
    file = save_reasoner(
        make_reasoner("gpt2", tokenizer, method=method), tmp_path / "reasoner.ckpt"
    )
    rows = predict(file, tmp_path / "p", ThoughtAblation(pool=4))
    reasoner = load_reasoner(file).eval()
    greedy = [plain(reasoner, problem, {})[1] for problem in PROBLEMS]
    keys = question_keys(0, [problem.id for problem in PROBLEMS])
    changed = 0
    for i, (row, problem) in enumerate(zip(rows, PROBLEMS, strict=True)):
        found = {(entry["by"], entry["step"]): entry["answer"] for entry in row["ablation"]}
        assert len(found) == len(row["ablation"]) == 4 * 4
        chosen = int(fold(keys[i], Stream.REPLACEMENT) % 4)
        chosen = (chosen + 1) % 4 if chosen == i else chosen
        mean = torch.stack(greedy[:4]).mean(0)
        for by, put in (("zero", torch.zeros(3, 32)), ("mean", mean), ("other", greedy[chosen])):
            for step in (None, 0, 1, 2):
                places = range(3) if step is None else (step,)
                answer, _ = plain(reasoner, problem, {place: put[place] for place in places})
                assert found[by, step] == answer
                changed += answer != row["greedy"]["answer"]
        own = greedy[i][1]
        noise = normal(fold(keys[i : i + 1], Stream.REPLACEMENT, 1), 32)[0]
        answer, _ = plain(reasoner, problem, {1: noise * own.norm() / noise.norm()})
        assert found["noise", 1] == answer
    assert changed > 20


@pytest.mark.slow
def test_nothing_else_changes(reasoner_file: Path, tmp_path: Path) -> None:
    rows = predict(reasoner_file, tmp_path / "a", ThoughtAblation(["zero"], each_step=False))
    plain_rows = predict(reasoner_file, tmp_path / "b", None)
    assert [row.pop("ablation")[0]["step"] for row in rows] == [None] * 10
    for row in (*rows, *plain_rows):
        del row["cost"]  # which problems shared a pass
    assert json.loads(json.dumps(rows)) == plain_rows


@pytest.mark.slow
def test_batches_and_resume_do_not_matter(reasoner_file: Path, tmp_path: Path) -> None:
    """The pool is the first of all problems, also where they were predicted before."""
    ablation = ThoughtAblation(pool=3)
    whole = predict(reasoner_file, tmp_path / "a", ablation, token_budget=100_000)
    predict(reasoner_file, tmp_path / "b", ablation, token_budget=1)
    file = tmp_path / "b/predictions.jsonl"
    kept = file.read_text().splitlines(keepends=True)
    file.write_text("".join(kept[:6]))
    resumed = predict(reasoner_file, tmp_path / "b", ablation, token_budget=1)
    assert [row["ablation"] for row in resumed] == [row["ablation"] for row in whole]
    with pytest.raises(OtherSettingsError, match="ablation"):
        predict(reasoner_file, tmp_path / "b", None)


@pytest.mark.slow
def test_summary_and_table(reasoner_file: Path, tmp_path: Path, capsys) -> None:
    rows = predict(reasoner_file, tmp_path / "p", ThoughtAblation(["zero", "noise"]))
    said = capsys.readouterr().out
    assert "thoughts replaced by" in said
    assert "noise of equal norm" in said
    stored = json.loads((tmp_path / "p/summary.json").read_text())["replaced"]
    assert len(stored) == len(summarize(rows).replaced) == 8


def test_another_question_is_never_the_question_itself() -> None:
    keys = torch.arange(5)
    pool = Pool(torch.arange(5.0)[:, None, None], torch.ones(5, 1), keys)
    others = pool.others(keys, 0)[:, 0].long()
    assert not (others == keys).any()
    assert torch.equal(pool.others(keys[2:3], 0)[:, 0].long(), others[2:3])


def test_means_are_of_thoughts_that_are_there() -> None:
    thoughts = torch.tensor([[[2.0], [6.0]], [[4.0], [0.0]]])
    pool = Pool(thoughts, torch.tensor([[1.0, 1.0], [1.0, 0.0]]), torch.arange(2))
    assert (float(pool.mean(0)), float(pool.mean(1))) == (3.0, 6.0)
    assert float(Pool(thoughts, torch.zeros(2, 2), torch.arange(2)).mean(0)) == 0.0


@pytest.mark.parametrize(
    ("options", "words"),
    [({"by": []}, "list of some of zero"), ({"by": ["none"]}, "zero"), ({"pool": 1}, "from 2")],
)
def test_options_that_make_no_sense(options: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        ThoughtAblation(**options)


def test_one_question_alone(gpt2: LatentReasoner) -> None:
    with pytest.raises(ConfigError, match="there is one question alone"):
        ThoughtAblation().read_pool(RolloutEngine(gpt2), [[7, 8, 3]], torch.arange(1))


def test_steps_of_an_open_ended_reasoner_are_replaced_together(gpt2: LatentReasoner) -> None:
    engine = RolloutEngine(gpt2)
    assert ThoughtAblation().places(engine) == [None, 0, 1, 2]
    assert ThoughtAblation(each_step=False).places(engine) == [None]
    object.__setattr__(gpt2.spec, "open_ended", True)
    assert ThoughtAblation().places(engine) == [None]
