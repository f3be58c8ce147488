import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
import yaml

from lightning_ltts.analysis.prediction_files import MANIFEST, TIMING
from lightning_ltts.analysis.predictions import read_rows
from lightning_ltts.analysis.summary import summarize
from lightning_ltts.analysis.thought_store import read_thoughts
from lightning_ltts.data.problems import ProblemFiles
from lightning_ltts.data.word_problems import WordProblems
from lightning_ltts.engine.rollout import RolloutEngine
from lightning_ltts.errors import ConfigError, DataError, StoreError
from lightning_ltts.mining.data import MiningData
from lightning_ltts.models.checkpoints import ENTRY, load_latent_rm, load_reasoner
from lightning_ltts.models.latent_lm import LatentReasoner, left_pad
from lightning_ltts.models.latent_rm import LatentRM
from lightning_ltts.models.latent_rm_spec import LatentRMSpec
from lightning_ltts.models.step_decoder import PREFIX, StepDecoder
from lightning_ltts.prediction.data import PredictionData
from lightning_ltts.prediction.module import LatentSearch
from lightning_ltts.prediction.work import SearchWork
from lightning_ltts.prediction.writer import PredictionWriter
from lightning_ltts.sampling import GaussianNoise, TokenSampling
from lightning_ltts.search.beam import BeamSearch
from lightning_ltts.trainer import Trainer
from lightning_ltts.training.latent_rm import LatentRMModule
from lightning_ltts.voting.selection import SELECTIONS
from lightning_ltts.voting.signals import Signal
from tests.helpers import save_latent_rm, save_reasoner
from tests.tiny import make_reasoner


@pytest.fixture
def checkpoints(reasoner_file: Path, latent_rm_file: Path) -> tuple[str, str]:
    return str(reasoner_file), str(latent_rm_file)


def predict(
    checkpoints: tuple[str, str],
    folder: Path,
    size: int = 10,
    trainer: dict | None = None,
    keep_thoughts: int = 0,
    **options: Any,
) -> list[dict]:
    defaults = {
        "num_samples": 4,
        "beam": BeamSearch(2, 2),
        "token_budget": 160,
        "latent_rm": checkpoints[1],
    }
    module = LatentSearch(checkpoints[0], **{"sampler": GaussianNoise(0.5)} | defaults | options)
    runner = Trainer(
        accelerator="cpu",
        logger=False,
        callbacks=[PredictionWriter(str(folder), keep_thoughts=keep_thoughts)],
        enable_progress_bar=False,
        **trainer or {},
    )
    runner.predict(
        module, datamodule=PredictionData(WordProblems("test", size)), return_predictions=False
    )
    return read_rows(folder)


@pytest.mark.slow
def test_answers_in_latex(checkpoints: tuple[str, str], tmp_path: Path) -> None:
    """Rows say that their truth is LaTeX, so that a report compares it as the search did."""
    pytest.importorskip("math_verify", reason="the extra 'math' is not installed")
    asked = [{"question": p.question, "answer": "6 + 6"} for p in WordProblems("test", 2).load()]
    (tmp_path / "latex.json").write_text(json.dumps(asked))
    module = LatentSearch(
        checkpoints[0], GaussianNoise(0.5), num_samples=2, spec={"answer_which": "latex"}
    )
    runner = Trainer(
        accelerator="cpu",
        logger=False,
        callbacks=[PredictionWriter(str(tmp_path / "p"))],
        enable_progress_bar=False,
    )
    problems = ProblemFiles([str(tmp_path / "latex.json")], answers="latex")
    runner.predict(module, datamodule=PredictionData(problems), return_predictions=False)
    rows = read_rows(tmp_path / "p")
    assert [(row["answer"], row["answer_is"]) for row in rows] == [("6 + 6", "latex")] * 2
    summary = summarize([{**rows[0], "greedy": {"answer": "12"}}])
    assert summary["greedy"] == 1


def essence(row: dict) -> tuple:
    """What must not depend on how the work was divided; scores to rounding."""
    answers = [sample["answer"] for sample in row["samples"]]
    beams = [beam["answer"] for beam in row["beam"]["beams"]]
    return row["id"], row["greedy"], answers, beams, row["choices"]


def scores(rows: list[dict]) -> torch.Tensor:
    return torch.tensor(
        [[sample["scores"] for sample in row["samples"] + row["beam"]["beams"]] for row in rows]
    )


def same(one: list[dict], two: list[dict]) -> bool:
    return list(map(essence, one)) == list(map(essence, two)) and torch.allclose(
        scores(one), scores(two), atol=1e-3
    )


def test_rows(checkpoints: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    rows = predict(checkpoints, tmp_path / "p")
    assert [row["id"] for row in rows] == [p.id for p in WordProblems("test", 10).load()]
    row = rows[0]
    assert len({sample["answer"] for r in rows for sample in r["samples"]}) > 2, (
        "the tests should see different answers"
    )
    assert len(row["samples"]) == 4
    assert len(row["samples"][0]["scores"]) == 3
    assert len(row["beam"]["beams"]) == 2
    assert row["beam"]["budget"] == 4
    assert row["choices"].keys() == {kind.name for kind in SELECTIONS}
    judging = {"latent_rm_prompt", "scoring"}
    assert row["cost"].keys() == {"prompt", "greedy", "sampling", "beam"} | judging
    assert row["samples"][0].keys() >= {"log_prob", "self_certainty", "nearness"}
    assert (row["sampler"], row["seed"]) == ("GaussianNoise(std=0.5)", 0)
    assert "beam@4" in capsys.readouterr().out  # the table
    assert json.loads((tmp_path / "p/summary.json").read_text())["num_problems"] == 10
    assert sorted(x.name for x in (tmp_path / "p").iterdir()) == [
        "predictions.jsonl",
        MANIFEST,
        TIMING,
        "summary.json",
    ]
    timing = json.loads((tmp_path / "p" / TIMING).read_text())
    assert timing["questions"] == 10
    assert set(timing["seconds_per_question"]) >= {"prompt", "greedy", "sampling"}


@pytest.mark.slow
def test_survival_of_right_branches(checkpoints: tuple[str, str], tmp_path: Path) -> None:
    """Without noise all candidates lead to the greedy answer, so that right ones survive wherever there are any."""
    quiet, noisy = (
        predict(
            checkpoints,
            tmp_path / str(std),
            sampler=GaussianNoise(std),
            beam=BeamSearch(2, 2, trace=True),
        )
        for std in (1e-9, 0.5)
    )
    for row in quiet:
        right = row["greedy"]["answer"] == row["answer"]
        assert row["beam"]["survival"] == [{"right": 4 * right, "kept": 2 * right}] * 3
    assert all(
        0 <= step["kept"] <= min(step["right"], 2)
        for row in noisy
        for step in row["beam"]["survival"]
    )
    last = [row["beam"]["survival"][-1]["kept"] for row in noisy]
    assert last == [
        sum(beam["answer"] == row["answer"] for beam in row["beam"]["beams"]) for row in noisy
    ]
    had = [[step["right"] > 0 for step in row["beam"]["survival"]] for row in noisy]
    kept = [[step["kept"] > 0 for step in row["beam"]["survival"]] for row in noisy]
    expected = [
        sum(k) / max(sum(h), 1)
        for k, h in zip(zip(*kept, strict=True), zip(*had, strict=True), strict=True)
    ]
    assert json.loads((tmp_path / "0.5/summary.json").read_text())["survival"] == {"beam": expected}


@pytest.mark.slow
def test_packing_and_stock_loop_do_not_matter(checkpoints: tuple[str, str], tmp_path: Path) -> None:
    whole = predict(checkpoints, tmp_path / "a", token_budget=9000)
    assert same(whole, predict(checkpoints, tmp_path / "b", token_budget=1))
    assert same(whole[:4], predict(checkpoints, tmp_path / "c", size=4))
    module = LatentSearch(
        checkpoints[0], GaussianNoise(0.5), checkpoints[1], num_samples=4, beam=BeamSearch(2, 2)
    )
    stock = pl.Trainer(
        accelerator="cpu", logger=False, callbacks=[PredictionWriter(str(tmp_path / "d"))]
    )
    stock.predict(
        module, datamodule=PredictionData(WordProblems("test", 10)), return_predictions=False
    )
    assert same(whole, read_rows(tmp_path / "d"))


@pytest.mark.slow
def test_rows_are_returned_in_the_order_of_the_problems(
    checkpoints: tuple[str, str], tmp_path: Path
) -> None:
    """Though problems of one length are predicted together; with a writer, those of before, too."""
    problems = WordProblems("test", 12)
    module = LatentSearch(checkpoints[0], GaussianNoise(0.5), num_samples=2)
    quiet = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False}
    rows: Any = Trainer(**quiet).predict(module, datamodule=PredictionData(problems))
    assert [row["id"] for row in rows] == [problem.id for problem in problems.load()]
    lengths = [len(row["question"].split()) for row in rows]
    assert lengths != sorted(lengths), "the test should see another order than that by length"
    for _ in range(2):  # the second time, nothing is left to be predicted
        writing = Trainer(**quiet, callbacks=[PredictionWriter(str(tmp_path / "p"))])
        written: Any = writing.predict(module, datamodule=PredictionData(problems))
        assert [row["id"] for row in written] == [row["id"] for row in rows]
        assert written[0]["samples"] == rows[0]["samples"]
    silent = Trainer(**quiet)
    data = PredictionData(problems)
    assert silent.predict(module, datamodule=data, return_predictions=False) is None


@pytest.mark.slow
def test_written_steps_are_sampled_and_voted_on(tokenizer, tmp_path: Path) -> None:
    """A reasoner without thoughts: its samples differ in what they write."""
    reasoner = make_reasoner("gpt2", tokenizer, num_thoughts=0)
    path = str(save_reasoner(reasoner, tmp_path / "written.ckpt"))
    model = LatentSearch(path, TokenSampling(1.0), num_samples=8)
    writer = PredictionWriter(str(tmp_path / "p"), keep_thoughts=2)
    quiet = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False}
    problems = PredictionData(WordProblems("test", 6))
    Trainer(**quiet, callbacks=[writer]).predict(model, datamodule=problems)
    rows = read_rows(tmp_path / "p")
    assert len({sample["answer"] for sample in rows[0]["samples"]}) > 2
    assert "nearness" not in rows[0]["samples"][0]
    lines = {line.name for line in summarize(rows).lines}
    assert lines >= {"greedy", "majority@8", "log_prob_vote@8", "coverage@8"}
    assert not (tmp_path / "p" / "thoughts").exists()
    beam = BeamSearch(2, 2)
    for options in (
        {"sampler": GaussianNoise(0.5)},
        {"sampler": TokenSampling(), "latent_rm": "x", "beam": beam},
    ):
        with pytest.raises(ConfigError, match="sample what it writes: sampler=token_sampling"):
            LatentSearch(path, **options)


@pytest.mark.slow
def test_written_steps_are_mined_learned_from_and_scored(tokenizer, tmp_path: Path) -> None:
    """The LatentRM of a reasoner without thoughts has one score of a sample: that of its answer."""
    reasoner = make_reasoner("gpt2", tokenizer, num_thoughts=0)
    path = str(save_reasoner(reasoner, tmp_path / "written.ckpt"))
    sources = (WordProblems("train", 8), WordProblems("valid", 4))
    options = {"num_samples": 4, "val_num_samples": 3, "keep_uninformative": True, "batch_size": 4}
    data = MiningData(path, TokenSampling(1.0), *sources, str(tmp_path / "store"), **options)
    quiet = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False}
    module = LatentRMModule(path, reads_answer=True, reference=True, answer_prediction=1.0)
    trainer = Trainer(**quiet, max_epochs=1, default_root_dir=tmp_path)
    trainer.fit(module, datamodule=data)
    mined = data.stores["train"][0]
    assert mined.trajectories.thoughts.shape == (1, 4, 0, 32)
    assert mined.labels.shape == (1, 4, 1)
    saved = trainer.checkpoint_callback.best_model_path  # type: ignore[union-attr]
    model = LatentSearch(path, TokenSampling(1.0), latent_rm=saved, num_samples=4)
    writer = PredictionWriter(str(tmp_path / "p"))
    problems = PredictionData(WordProblems("test", 5))
    Trainer(**quiet, callbacks=[writer]).predict(model, datamodule=problems)
    rows = read_rows(tmp_path / "p")
    assert all(sample["scores"] == [] for row in rows for sample in row["samples"])
    assert len({sample["answer_score"] for sample in rows[0]["samples"]}) > 1
    expect_whole_answers(saved, path, rows)
    assert {"weighted_vote@4", "best_of_n@4"} <= {line.name for line in summarize(rows).lines}
    with pytest.raises(ConfigError, match="score what it writes: reads_answer=true"):
        LatentRMModule(path)
    noisy = MiningData(path, GaussianNoise(0.5), *sources, str(tmp_path / "other"), **options)
    with pytest.raises(ConfigError, match="mine what it writes: sampler=token_sampling"):
        Trainer(**quiet, max_epochs=1).fit(module, datamodule=noisy)


@torch.no_grad()
def expect_whole_answers(latent_rm: str, reasoner_path: str, rows: list[dict]) -> None:
    """The stored score of an answer is all that the LatentRM says of it, its likelihood included."""
    rm, reasoner = load_latent_rm(latent_rm), load_reasoner(reasoner_path)
    assert rm.spec.answer_likelihood
    problems = WordProblems("test", 5).load()
    prompts = left_pad([reasoner.encode_prompt(p.question) for p in problems], reasoner.pad_id)
    names = [problem.id for problem in problems]
    samples = RolloutEngine(reasoner, TokenSampling(1.0)).rollout(*prompts, 4, names)
    greedy = RolloutEngine(reasoner).rollout(*prompts)
    whole = rm.judge(*prompts, samples, greedy).whole_answer
    by_id = {row["id"]: [sample["answer_score"] for sample in row["samples"]] for row in rows}
    stored = torch.tensor([by_id[name] for name in names])
    assert whole is not None
    assert torch.allclose(stored, whole, atol=1e-3)


class KilledError(Exception):
    """Stands for a kill in the middle of a run."""


@pytest.mark.slow
def test_resume_after_a_kill(
    checkpoints: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = predict(checkpoints, tmp_path / "whole")
    step, passes = LatentSearch.predict_step, []

    def dies_at_the_third(self, batch, batch_idx):
        passes.append([problem.id for problem in batch])
        if len(passes) == 3:
            raise KilledError
        return step(self, batch, batch_idx)

    monkeypatch.setattr(LatentSearch, "predict_step", dies_at_the_third)
    with pytest.raises(KilledError):
        predict(checkpoints, tmp_path / "killed", token_budget=120)
    part = tmp_path / "killed/predictions.rank0.jsonl"
    assert len(part.read_text().splitlines()) == 6
    part.write_text(part.read_text()[:-30])  # the kill tore the last line
    passes.clear()
    passes += [[], [], []]  # never the third again
    rows = predict(checkpoints, tmp_path / "killed", token_budget=120)
    assert sum(map(len, passes)) == 5  # the four that were left and the torn one
    assert same(rows, whole)
    passes[3:] = []
    assert same(
        predict(checkpoints, tmp_path / "killed", token_budget=120), whole
    )  # finished: sums up again, predicts nothing
    assert len(passes) == 3


@pytest.mark.slow
def test_other_settings_need_another_folder(checkpoints: tuple[str, str], tmp_path: Path) -> None:
    predict(checkpoints, tmp_path / "p", size=3)
    with pytest.raises(StoreError, match="num_samples=4, but this run has 8"):
        predict(checkpoints, tmp_path / "p", size=3, num_samples=8)
    with pytest.raises(StoreError, match="problems="):
        predict(checkpoints, tmp_path / "p", size=4)
    with pytest.raises(StoreError, match="precision="):
        predict(checkpoints, tmp_path / "p", size=3, trainer={"precision": "bf16-mixed"})


@pytest.mark.slow
def test_mixed_precision_and_no_latent_rm(checkpoints: tuple[str, str], tmp_path: Path) -> None:
    full = predict(checkpoints, tmp_path / "a")
    mixed = predict(checkpoints, tmp_path / "b", trainer={"precision": "bf16-mixed"})
    assert [row["id"] for row in mixed] == [row["id"] for row in full]
    first = scores(mixed)[:, :4, 0] - scores(full)[:, :4, 0]
    assert 0 < first.abs().mean() < 0.2  # it did run in another precision, and stays close
    plain = predict(checkpoints, tmp_path / "c", latent_rm=None, beam=None)
    assert [s["answer"] for s in plain[0]["samples"]] == [s["answer"] for s in full[0]["samples"]]
    unscored = {kind.name for kind in SELECTIONS if kind.reads != Signal.SCORE}
    assert plain[0]["choices"].keys() == unscored


@pytest.mark.processes
def test_two_processes_give_the_same_predictions(
    checkpoints: tuple[str, str], tmp_path: Path
) -> None:
    """Seven problems on two gloo processes through the command line, then resumed with one left for two devices."""
    whole = predict(checkpoints, tmp_path / "one", size=7)
    writer = {
        "class_path": "lightning_ltts.prediction.PredictionWriter",
        "init_args": {"folder": str(tmp_path / "two")},
    }
    config = {
        "trainer": {
            "accelerator": "cpu",
            "devices": 2,
            "strategy": "ddp",
            "logger": False,
            "callbacks": [writer],
        },
        "model": {
            "class_path": "lightning_ltts.prediction.LatentSearch",
            "init_args": {
                "reasoner": checkpoints[0],
                "latent_rm": checkpoints[1],
                "sampler": {"class_path": "lightning_ltts.sampling.GaussianNoise", "init_args": {"std": 0.5}},
                "num_samples": 4,
                "beam": {"class_path": "lightning_ltts.search.beam.BeamSearch", "init_args": {"beams": 2, "candidates": 2}},
            },
        },
        "data": {
            "class_path": "lightning_ltts.prediction.PredictionData",
            "init_args": {
                "problems": {
                    "class_path": "lightning_ltts.data.word_problems.WordProblems",
                    "init_args": {"split": "test", "size": 7},
                }
            },
        },
    }  # fmt: skip
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "lightning_ltts", "predict", "--config", "run.yaml"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()}
    first = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert first.returncode == 0, first.stderr
    assert same(read_rows(tmp_path / "two"), whole)
    lines = (tmp_path / "two/predictions.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "two/predictions.jsonl").write_text("".join(lines[:-1]))
    subprocess.run(command, cwd=tmp_path, check=True, env=environment, capture_output=True)
    assert same(read_rows(tmp_path / "two"), whole)


def test_options_that_make_no_sense(
    checkpoints: tuple[str, str], tmp_path: Path, gpt2: LatentReasoner
) -> None:
    with pytest.raises(ConfigError, match="num_samples=0"):
        predict(checkpoints, tmp_path, num_samples=0)
    with pytest.raises(ConfigError, match="token_budget=0"):
        predict(checkpoints, tmp_path, token_budget=0)
    with pytest.raises(ConfigError, match="needs a LatentRM"):
        predict(checkpoints, tmp_path, latent_rm=None)
    with pytest.raises(ConfigError, match="Sampling is called 'sampling', which is already"):
        predict(checkpoints, tmp_path, beam=type("Sampling", (BeamSearch,), {"name": "sampling"})())
    other = save_latent_rm(
        LatentRM(LatentRMSpec(gpt2.spec.backbone, thought_size=8)), tmp_path / "other.ckpt"
    )
    with pytest.raises(ConfigError, match="reads thoughts of size 8"):
        predict(checkpoints, tmp_path, latent_rm=str(other))


def test_latent_rm_of_another_reasoner(
    checkpoints: tuple[str, str], tmp_path: Path, gpt2: LatentReasoner
) -> None:
    with torch.no_grad():
        gpt2.backbone.base_model.ln_f.weight.mul_(2)
    other = str(save_reasoner(gpt2, tmp_path / "other.ckpt"))
    with pytest.raises(ConfigError, match="was trained for another reasoner"):
        predict((other, checkpoints[1]), tmp_path / "p")


def test_unknown_word_leaves_no_predictions(checkpoints: tuple[str, str], tmp_path: Path) -> None:
    path = tmp_path / "zoo.json"
    path.write_text('[{"question": "Ann has 3 zebras.", "answer": "3"}]')
    module = LatentSearch(checkpoints[0], GaussianNoise(0.5), num_samples=2)
    runner = Trainer(
        accelerator="cpu", logger=False, callbacks=[PredictionWriter(str(tmp_path / "p"))]
    )
    with pytest.raises(DataError, match=r"zoo\.json, row 1: the word 'zebras.' is not"):
        runner.predict(module, datamodule=PredictionData(ProblemFiles([str(path)])))
    assert not (tmp_path / "p/predictions.jsonl").exists()
    path.write_text(
        '[{"question": "Ann has 3 pens.", "answer": "3"}]'
    )  # the mended file goes through
    runner = Trainer(
        accelerator="cpu", logger=False, callbacks=[PredictionWriter(str(tmp_path / "p"))]
    )
    runner.predict(module, datamodule=PredictionData(ProblemFiles([str(path)])))
    assert len(read_rows(tmp_path / "p")) == 1


@pytest.mark.slow
def test_thoughts_of_the_first_problems_are_kept(
    checkpoints: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same whatever the packing; rows do not change by it, and the thoughts are those that a rollout makes."""
    plain = predict(checkpoints, tmp_path / "plain")
    for name, budget in (("one", 160), ("other", 120)):
        rows = predict(checkpoints, tmp_path / name, token_budget=budget, keep_thoughts=3)
        assert list(map(essence, rows)) == list(map(essence, plain))
    one, other = (read_thoughts(tmp_path / name) for name in ("one", "other"))
    assert [t.id for t in one] == [row["id"] for row in plain][:3]
    assert not (tmp_path / "plain/thoughts").exists()
    for a, b in zip(one, other, strict=True):
        assert torch.allclose(a.samples, b.samples, atol=1e-2)
        assert a.samples.shape[:2] == (len(plain[0]["samples"]), 3)
        assert {row["sample"] for row in a.lens} == {None, 0, 1, 2}
        assert all(len(row["tokens"]) == 5 for row in a.lens)
    # they are not made afterwards, which is said
    said: list[str] = []
    monkeypatch.setattr("lightning_ltts.prediction.writer.rank_zero_info", said.append)
    predict(checkpoints, tmp_path / "one", keep_thoughts=3)
    assert not any("without keeping" in line for line in said)
    predict(checkpoints, tmp_path / "one", keep_thoughts=5)
    assert any(line.startswith("2 of the first 5 problems were predicted before") for line in said)


@pytest.mark.slow
def test_a_step_decoder_reads_the_stored_thoughts(
    checkpoints: tuple[str, str], gpt2: LatentReasoner, tmp_path: Path
) -> None:
    """A text for every step of two thoughts, the decoder's own; the rows do not change by it."""
    torch.manual_seed(0)
    decoder = StepDecoder(gpt2, 2, end_steps=True).eval()
    weights = {f"{PREFIX}{key}": tensor for key, tensor in decoder.state_dict().items()}
    path = tmp_path / "training.ckpt"
    torch.save({"state_dict": weights, ENTRY: {"step_decoder": decoder.settings()}}, path)
    plain = predict(checkpoints, tmp_path / "plain", size=4)
    options = {"step_decoder": str(path), "size": 4}
    rows = predict(checkpoints, tmp_path / "read", keep_thoughts=2, **options)
    assert list(map(essence, rows)) == list(map(essence, plain))
    for thoughts in read_thoughts(tmp_path / "read"):
        assert ["text" in row for row in thoughts.lens] == [False, True, False] * 4
        greedy = [row for row in thoughts.lens if row["sample"] is None]
        assert greedy[1]["text"] == decoder.read(thoughts.deterministic, gpt2)[0]
    with pytest.raises(ConfigError, match="set keep_thoughts of PredictionWriter above 0"):
        predict(checkpoints, tmp_path / "nothing", **options)
    with pytest.raises(StoreError):  # texts of another decoder must not mix with these
        predict(checkpoints, tmp_path / "read", size=4, keep_thoughts=2)


@pytest.mark.slow
def test_problems_that_are_too_long(
    checkpoints: tuple[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """They are refused by their row before anything is there, or left out and wrong."""
    long = {"question": "Ann has 7 pens. " * 14, "answer": "7"}
    short = [{"question": f"Ann has {i} pens.", "answer": f"{i}"} for i in range(2, 6)]
    path, folder = tmp_path / "a.json", tmp_path / "p"

    def run(rows: list[dict], folder: Path, **options: Any) -> list[dict]:
        path.write_text(json.dumps(rows))
        module = LatentSearch(
            checkpoints[0], GaussianNoise(0.5), checkpoints[1], 4, BeamSearch(2, 2), **options
        )
        writer = PredictionWriter(str(folder), keep_thoughts=3)
        Trainer(accelerator="cpu", logger=False, callbacks=[writer]).predict(
            module, datamodule=PredictionData(ProblemFiles([str(path)]))
        )
        return read_rows(folder)

    with pytest.raises(DataError, match=r"a\.json, row 2: the prompt takes .* \(1 of 5 problems"):
        run([short[0], long, *short[1:]], folder)
    assert not folder.exists()
    rows = run([short[0], long, *short[1:]], folder, leave_out_long=True)
    # without a writer, as `ltts tune` does, they are left out, too
    module = LatentSearch(checkpoints[0], GaussianNoise(0.5), num_samples=4, leave_out_long=True)
    alone = Trainer(accelerator="cpu", logger=False).predict(
        module, datamodule=PredictionData(ProblemFiles([str(path)])), return_predictions=True
    )
    assert sorted(row["id"] for row in alone if "left_out" in row) == [rows[1]["id"]]
    others = run(short, tmp_path / "short")
    assert same([rows[0], *rows[2:]], others)
    left_out = rows[1]
    assert left_out["left_out"] == "the prompt is too long"
    assert left_out["greedy"]["answer"] is None
    assert [sample["answer"] for sample in left_out["samples"]] == [None] * 4
    assert set(left_out["choices"].values()) == {-1}
    one, other = summarize(rows).lines, summarize(others).lines
    assert [line.name for line in one] == [line.name for line in other]
    assert [line.accuracy for line in one] == pytest.approx([x.accuracy * 4 / 5 for x in other])


@pytest.mark.slow
def test_answers_that_are_too_long_are_told_before(
    checkpoints: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr("lightning_ltts.data.room.say_once", said.append)
    spec = {"max_answer_tokens": 1, "answer_marker": "###"}
    predict(checkpoints, tmp_path / "p", size=2, spec=spec)
    assert len(said) == 1
    assert "max_answer_tokens=1 (2 of 2 problems can never be answered right)" in said[0]


@pytest.mark.slow
def test_the_budget_is_that_of_the_device_in_use(
    checkpoints: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model is made on the CPU, and moved after that; what is free there counts."""
    module = LatentSearch(checkpoints[0], GaussianNoise(0.5), num_samples=2)
    monkeypatch.setattr("lightning_ltts.prediction.module.automatic_budget", lambda _: 777)
    data = PredictionData(WordProblems("test", 2))
    Trainer(accelerator="cpu", logger=False, enable_progress_bar=False).predict(
        module, datamodule=data, return_predictions=False
    )
    assert module.engine.budget == 777

    work = SearchWork(module)  # what an engine's worker has
    module.engine.budget = 1
    work.settle(SimpleNamespace(take=lambda moved: moved))  # type: ignore[arg-type]
    assert module.engine.budget == 777
