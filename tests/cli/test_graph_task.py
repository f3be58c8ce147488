"""All commands of the pipeline on the graph task, whose answers are sentences."""

import json
from pathlib import Path

import pytest
import yaml

from lightning_ltts.analysis.predictions import read_rows
from lightning_ltts.analysis.summary import summarize
from lightning_ltts.data.graph_problems import GraphProblems
from lightning_ltts.data.tokenization import GraphTokenizer
from lightning_ltts.models.latent_lm import new_reasoner
from lightning_ltts.training.sequences import Encoded
from tests.cli.helpers import ltts
from tests.data.test_renaming import ROW
from tests.tiny import BACKBONES

pytestmark = pytest.mark.slow

CPU = ["trainer.accelerator=cpu", "trainer.enable_progress_bar=false"]
BRIEF = [*CPU, "trainer.max_epochs=1", "trainer.check_val_every_n_epoch=1"]
FEW = [
    "data.init_args.train.init_args.size=16",
    "data.init_args.val.init_args.size=4",
    "data.init_args.batch_size=8",
]
FIT = [*BRIEF, *FEW, "data.init_args.test.init_args.size=4"]
PATHS = "model.init_args.curriculum.cot_epochs=1"
PROBLEMS = {"hops": 4, "fewest_hops": 2, "distractors": 2, "density": 1.1}  # of the built-in files
ANY_TEXT = "+model.init_args.spec.answer_marker=''"  # an untrained model writes no mark


def test_pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    narrow = "model.init_args.start.backbone.hidden_size=16"
    assert ltts(monkeypatch, "fit", "experiment=graph/paths", *FIT, narrow, PATHS) == 0
    brief = "model.init_args.curriculum={cot_epochs:0,stage_epochs:[1,1]}"
    options = [*FIT, brief, "trainer.max_epochs=2"]
    assert ltts(monkeypatch, "fit", "experiment=graph/reasoner", *options) == 0
    made = ["data.init_args.keep_uninformative=true", "data.init_args.num_samples=2"]
    made += ["data.init_args.val_num_samples=2", "data.init_args.informative=null"]
    made += ["data.init_args.num_rollouts=1"]
    for verb in ("mine", "fit"):
        assert ltts(monkeypatch, verb, "experiment=graph/latent_rm", *BRIEF, *FEW, *made) == 0
    few = [*CPU, ANY_TEXT, "data.init_args.problems.init_args.size=6"]
    few += ["model.init_args.num_samples=4"]
    beam = ["model.init_args.beam.init_args.beams=2"]
    assert ltts(monkeypatch, "tune", "experiment=graph/tune", *few, "factors=[0.5]") == 0
    strengths = yaml.safe_load(Path("logs/graph/tune/tuned.yaml").read_text())["table"]
    assert len(strengths) == 2  # and the sampler's own
    tuned = "model.init_args.tuned=logs/graph/tune/tuned.yaml"
    assert ltts(monkeypatch, "predict", "experiment=graph/search", *few, *beam, tuned) == 0
    rows = read_rows("logs/graph/search")
    truths = {problem.id: problem for problem in GraphProblems("test", 6, **PROBLEMS).load()}
    assert [row["answer"] for row in rows] == [problem.value for problem in truths.values()]
    assert all(len(row["samples"]) == 4 and len(row["beam"]["beams"]) == 2 for row in rows)
    assert ltts(monkeypatch, "report", "logs/graph/search", "-o", "page.html") == 0
    assert "weighted_vote" in capsys.readouterr().out


def test_prosqa_is_predicted_in_our_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the same reasoner, from its file."""
    monkeypatch.chdir(tmp_path)
    narrow = "model.init_args.start.backbone.hidden_size=16"
    assert ltts(monkeypatch, "fit", "experiment=graph/paths", *FIT, narrow, PATHS) == 0
    curriculum = "model.init_args.curriculum={cot_epochs:0,stage_epochs:[1]}"
    assert ltts(monkeypatch, "fit", "experiment=graph/reasoner", *FIT, curriculum) == 0
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval/prosqa_test.json").write_text(json.dumps([ROW]))
    options = [*CPU, ANY_TEXT, "latent_rm=null", "model.init_args.beam=null", "problems_dir=."]
    options += ["data=search_prosqa", "model.init_args.num_samples=2"]
    assert ltts(monkeypatch, "predict", "experiment=graph/search", *options) == 0
    (row,) = read_rows("logs/graph/search")
    assert row["answer"].split()[1:3] == ["is", "a"]
    assert "gerpus" not in row["question"]


def test_written_sentences_are_read_as_answers() -> None:
    tokenizer = GraphTokenizer().build()
    reasoner = new_reasoner("coconut", BACKBONES["llama"], tokenizer, 2, answer_which="text")
    for problem in GraphProblems("test", 5, hops=2).load():
        encoded = Encoded(problem, reasoner)
        assert reasoner.read_answer(encoded.answer) == problem.value
        assert len(encoded.answer) == 5  # mark, person, relation, concept and end
        assert reasoner.read_answer(encoded.answer[:3]) != problem.value


def answered(number: int, greedy: str | None, samples: list[str | None]) -> dict:
    """A row whose right answer is a sentence."""
    given = [{"answer": answer} for answer in samples]
    truth = "tom is a nipern"
    return {"id": f"q{number}", "answer": truth, "greedy": {"answer": greedy}, "samples": given}


def test_sentences_are_voted_on_and_graded_by_hand() -> None:
    right, wrong = "tom is a nipern", "tom is a dorern"
    rows = [
        answered(0, wrong, [right, wrong, right, None]),  # the vote is right
        answered(1, right, [wrong, wrong, right, wrong]),
        answered(
            2, None, ["tom is a", right, "tom is a", "tom"]
        ),  # half a sentence is no half right
    ]
    summary = summarize(rows)
    assert summary["greedy"] == pytest.approx(1 / 3)
    assert summary["majority@4"] == pytest.approx(1 / 3)
    assert summary["coverage@4"] == 1
    assert summary["pass@1"] == pytest.approx((2 / 4 + 1 / 4 + 1 / 4) / 3)
