from pathlib import Path

import pytest
import torch

from lightning_ltts.data.problem_data import ProblemData
from lightning_ltts.data.word_problems import WordProblems
from lightning_ltts.mining.trained_on import say_trained_on

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
    say_trained_on(tmp_path / "r.ckpt", others)
    assert said == []
    say_trained_on(tmp_path / "r.ckpt", [*others, PROBLEMS[0]])
    (line,) = said
    assert line.startswith("the reasoner was trained on 1 of the 7 problems to mine (1 by their")


def test_models_that_do_not_tell(said: list[str], tmp_path: Path) -> None:
    torch.save({"state_dict": {}}, tmp_path / "r.ckpt")
    say_trained_on(tmp_path / "r.ckpt", PROBLEMS)
    say_trained_on(tmp_path, PROBLEMS)
    assert said == []
