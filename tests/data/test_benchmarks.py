"""The benchmarks' data files, on folders with the columns of the public data sets."""

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import yaml

from lightning_ltts.cli.hydra_front import config_folder
from lightning_ltts.data.problems import HubProblems, Problem
from lightning_ltts.errors import DataError

SVAMP = {"ID": "chal-1", "Type": "Subtraction", "Equation": "( 8.0 - 2.0 )"}
SVAMP |= {"Body": "Ann has 8 pens.", "Question": "2 break. How many work?", "Answer": "6.0"}
SVAMP |= {"question_concat": "Ann has 8 pens. 2 break.  How many work?"}
ASDIV = {"id": "nluds-0001", "question": "Two and 1/3?", "chain": "2 + 1/3", "result": "7/3"}
ASDIV |= {"result_float": 2.33, "result_unit": "pens", "grade": 1, "source_question": ""}
GSM_PLUS = {"question": "2 and 2?", "solution": "4\n#### 4", "answer": "4"}
GSM_PLUS |= {"perturbation_type": "digit expansion", "seed_question": "", "seed_answer": "4"}
WITHOUT = GSM_PLUS | {"question": "2 and some?", "answer": "None"}
MATH = {"problem": "Half of $x$?", "solution": "", "answer": r"\frac{x}{2}", "level": 1}
MATH |= {"subject": "Algebra", "unique_id": "test/algebra/1.json"}


def load(name: str, rows: dict[str, list[dict[str, Any]]], folder: Path) -> list[Problem]:
    """What a data file of `configs/data` reads in splits with these rows."""
    data = yaml.safe_load((config_folder() / f"data/{name}.yaml").read_text())
    source = data["init_args"]["problems"]
    assert source["class_path"] == "lightning_ltts.data.problems.HubProblems"
    for split, some in rows.items():
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))
    return HubProblems(**source["init_args"] | {"path": str(folder)}).load()


def test_svamp(tmp_path: Path) -> None:
    second = SVAMP | {"question_concat": "What?", "Answer": "1.5"}
    one, two = load("svamp", {"train": [SVAMP], "test": [second]}, tmp_path)
    assert (one.question, one.value) == ("Ann has 8 pens. 2 break. How many work?", 6)
    assert two.value == Fraction(3, 2)


def test_asdiv_a(tmp_path: Path) -> None:
    (problem,) = load("asdiv_a", {"test": [ASDIV]}, tmp_path)
    assert (problem.id, problem.value) == ("nluds-0001", Fraction(7, 3))


def test_gsm_plus_leaves_out_what_has_no_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [GSM_PLUS, WITHOUT, WITHOUT | {"answer": None}]
    rows += [GSM_PLUS | {"question": f"{text}?", "answer": text} for text in ("3:30", "4 or 5")]
    with caplog.at_level("INFO"):
        (problem,) = load("gsm_plus", {"test": rows}, tmp_path)
        load("gsm_plus", {"test": rows}, tmp_path)  # which is not said again
    assert problem.value == 4
    captured = capsys.readouterr()
    said = (caplog.text or captured.err + captured.out).replace("\n", " ")
    assert said.count("4 of 5 problems have no answer that is a number") == 1
    assert "row 2" in said
    with pytest.raises(DataError, match=r"all 1 problems from .* have no answer that is a number"):
        load("gsm_plus", {"test": [WITHOUT]}, tmp_path)


@pytest.mark.slow
def test_math500(tmp_path: Path) -> None:
    pytest.importorskip("math_verify", reason="the extra 'math' is not installed")
    (problem,) = load("math500", {"test": [MATH]}, tmp_path)
    assert (problem.question, problem.answer) == ("Half of $x$?", r"\frac{x}{2}")
    assert problem.value == r"\frac{x}{2}"
    assert problem.value == "0.5 x"
    assert problem.value != r"\frac{x}{3}"
