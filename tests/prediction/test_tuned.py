"""Strength and rules that are chosen on validation problems, and their use."""

from pathlib import Path

import pytest
import torch
import yaml

from lightning_ltts.analysis.predictions import read_rows, sample_pool
from lightning_ltts.data.word_problems import WordProblems
from lightning_ltts.errors import ConfigError, StoreError
from lightning_ltts.prediction.data import PredictionData
from lightning_ltts.prediction.module import LatentSearch
from lightning_ltts.prediction.tuned import Tuned, choose, fit_rules
from lightning_ltts.prediction.writer import PredictionWriter
from lightning_ltts.sampling import GaussianNoise, MCDropout
from lightning_ltts.trainer import Trainer


def row(answers: list[str], greedy: str, nearness: list[float]) -> dict:
    samples = [
        {"answer": answer, "nearness": near} for answer, near in zip(answers, nearness, strict=True)
    ]
    return {"id": answers[0] + greedy, "answer": "1", "greedy": {"answer": greedy}} | {
        "samples": samples
    }


def test_rules_are_fitted_by_hand() -> None:
    """Greedy must count four times to win against three votes; near by 1, a sample must weigh more."""
    rows = [row(["2", "2", "2", "1"], "1", [-2, -2, -2, 0])]
    # 2 weighs 3 exp(-2 / t) and 1 weighs 1: 1 wins where t < 2 / ln 3 = 1.8
    fitted = fit_rules(sample_pool(rows))
    assert fitted == {"nearness_temperature": 0.25, "greedy_votes": 4.0}
    against = [row(["1", "1", "2", "2"], "2", [-1, -1, 0, -6])]
    # 1 weighs 2 exp(-1 / t), 2 weighs 1 + exp(-6 / t): the first candidate where 1 wins
    assert fit_rules(sample_pool(against))["nearness_temperature"] == 2.0
    assert fit_rules(sample_pool(against))["greedy_votes"] == 1.0


def test_the_best_strength_is_the_weakest_of_the_best() -> None:
    right, wrong = row(["1", "1"], "2", [0, 0]), row(["2", "2"], "2", [0, 0])
    rows = {0.5: [right, wrong], 1.0: [wrong, wrong], 2.0: [right, wrong]}
    tuned = choose(GaussianNoise(0.6), [0.5, 1.0, 2.0], rows)
    assert tuned.majority_sampler.settings() == GaussianNoise(0.3).settings()
    assert [line["majority"] for line in tuned.table] == [0.5, 0.0, 0.5]


def test_a_file_is_read_back(tmp_path: Path) -> None:
    made = Tuned(MCDropout(0.2, prompt=True), {"greedy_votes": 4.0}, [{"factor": 1.0}])
    made.save(tmp_path / "new" / "tuned.yaml")
    read = Tuned.load(tmp_path / "new" / "tuned.yaml")
    assert read.settings() == made.settings()
    assert read.table == made.table


@pytest.mark.parametrize(
    "content",
    [
        *(None, "- 1", "{", "majority_sampler: 3", "fitted: {}"),
        "majority_sampler: {class_path: os.system, init_args: {command: 'false'}}\nfitted: {}",
        "majority_sampler: {class_path: torch.nn.Linear}\nfitted: {}",
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "tuned.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=r"tuned\.yaml (cannot be read|is not a file that)"):
        Tuned.load(path)


def trainer(folder: Path, **options) -> Trainer:
    options = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False} | options
    return Trainer(callbacks=[PredictionWriter(str(folder))], **options)


@pytest.mark.slow
def test_from_tuning_to_the_table(
    reasoner_file: Path, latent_rm_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Samples of the chosen strength are those that a run with that sampler draws."""

    def search(std: float = 0.5, **options) -> LatentSearch:
        model = LatentSearch(str(reasoner_file), GaussianNoise(std), num_samples=4, **options)
        return model

    data = PredictionData(WordProblems("valid", 10))
    scored = search(latent_rm=str(latent_rm_file))
    trainer(tmp_path / "tune").tune(scored, data, factors=[0.5, 2.0])
    written = yaml.safe_load((tmp_path / "tune" / "tuned.yaml").read_text())
    assert [line["factor"] for line in written["table"]] == [0.5, 1.0, 2.0]
    assert written["table"][0].keys() >= {"majority", "weighted_vote", "coverage"}
    assert not (tmp_path / "tune" / "predictions.jsonl").exists()
    chosen = written["majority_sampler"]["init_args"]["std"]
    assert chosen in (0.25, 0.5, 1.0)

    test = PredictionData(WordProblems("test", 10))
    tuned = search(tuned=str(tmp_path / "tune" / "tuned.yaml"))
    trainer(tmp_path / "p").predict(tuned, datamodule=test)
    assert "tuned_majority@4" in capsys.readouterr().out
    trainer(tmp_path / "q").predict(search(chosen), datamodule=test)
    rows, plain = read_rows(tmp_path / "p"), read_rows(tmp_path / "q")
    assert rows[0]["fitted"] == written["fitted"]
    for one, two in zip(rows, plain, strict=True):
        answers = [sample["answer"] for sample in one["tuned"]["samples"]]
        assert answers == [sample["answer"] for sample in two["samples"]]
        assert one["cost"]["tuned_sampling"]["flops"] > 0
    with pytest.raises(StoreError, match="tuned"):  # other settings need another folder
        trainer(tmp_path / "p").predict(search(), datamodule=test)


def test_samples_of_another_kind_for_majority_voting(reasoner_file: Path, tmp_path: Path) -> None:
    """The chosen sampler may perturb passes where the run's own only perturbs thoughts."""
    dropout = MCDropout(0.2)
    Tuned(dropout, {}).save(tmp_path / "tuned.yaml")
    test = PredictionData(WordProblems("test", 4))
    options = {"num_samples": 3, "tuned": str(tmp_path / "tuned.yaml")}
    noise = LatentSearch(str(reasoner_file), GaussianNoise(0.5), **options)
    trainer(tmp_path / "p").predict(noise, datamodule=test)
    plain = LatentSearch(str(reasoner_file), dropout, num_samples=3)
    trainer(tmp_path / "q").predict(plain, datamodule=test)
    for one, two in zip(read_rows(tmp_path / "p"), read_rows(tmp_path / "q"), strict=True):
        answers = [sample["answer"] for sample in one["tuned"]["samples"]]
        assert answers == [sample["answer"] for sample in two["samples"]]


def test_what_cannot_be_tuned(reasoner_file: Path, tmp_path: Path) -> None:
    data = PredictionData(WordProblems("valid", 2))
    with pytest.raises(ConfigError, match=r"needs a model\.class_path of LatentSearch"):
        trainer(tmp_path).tune(torch.nn.Linear(1, 1), data)  # type: ignore[arg-type]
    model = LatentSearch(str(reasoner_file), GaussianNoise(0.5), num_samples=2)
    with pytest.raises(ConfigError, match="must be numbers above 0"):
        trainer(tmp_path).tune(model, data, factors=[-1.0])
