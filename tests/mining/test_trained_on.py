from pathlib import Path

import pytest
import torch

from lightning_ltts.data.problem_data import ProblemData
from lightning_ltts.data.word_problems import WordProblems
from lightning_ltts.mining.trained_on import LATENT_RM, say_trained_on

PROBLEMS = WordProblems("train", 6).load()


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    said: list[str] = []
    monkeypatch.setattr("lightning_ltts.mining.trained_on.say_once", said.append)
    return said


def test_problems_that_the_reasoner_was_trained_on(said: list[str], tmp_path: Path) -> None:
    data = ProblemData(WordProblems("train", 4), WordProblems("valid", 4), batch_size=2)
    data.setup("fit")
    torch.save({"ProblemData": data.state_dict()}, tmp_path / "r.ckpt")
    others = WordProblems("mine", 6).load()
    say_trained_on(tmp_path / "r.ckpt", others, "mine")
    assert said == []
    say_trained_on(tmp_path / "r.ckpt", [*others, PROBLEMS[0]], "mine")
    (line,) = said
    assert line.startswith("the reasoner was trained on 1 of the 7 problems to mine (1 by their")
    say_trained_on(tmp_path / "r.ckpt", [*others, PROBLEMS[0]], "predict")
    assert said[1].startswith("the reasoner was trained on 1 of the 7 problems to predict (1 by")
    assert said[1].endswith("; report on other problems")


def test_models_that_do_not_tell(said: list[str], tmp_path: Path) -> None:
    torch.save({"state_dict": {}}, tmp_path / "r.ckpt")
    say_trained_on(tmp_path / "r.ckpt", PROBLEMS, "mine")
    say_trained_on(tmp_path / "r.ckpt", PROBLEMS, "predict", LATENT_RM)
    say_trained_on(tmp_path, PROBLEMS, "mine")
    assert said == []
