"""What is found in a problem file, and how it is divided."""

import json
from pathlib import Path

import pytest

from lightning_ltts.data.inspection import inspect, split_problems
from lightning_ltts.data.overlap import words
from lightning_ltts.errors import DataError

WEIGHTS = {"train": 6, "mine": 2, "valid": 1, "test": 1}


def written(path: Path, rows: list, as_list: bool = True) -> Path:
    text = json.dumps(rows) if as_list else "\n".join(map(json.dumps, rows))
    path.write_text(text)
    return path


def row(number: int, answer: object = None, **more: object) -> dict:
    answer = number + 1 if answer is None else answer
    return {"question": f"What is {number} + 1?", "answer": answer, **more}


def test_numbers(tmp_path: Path) -> None:
    rows = [row(1, steps=["1+1"]), row(2, "1,000", steps=["a", "b"]), row(2, "1,000", steps=["a"])]
    found = inspect(written(tmp_path / "a.json", rows))
    assert found.answer_is == "number"
    assert found.has_steps
    assert [line.replace(str(tmp_path), "") for line in found.lines()] == [
        "/a.json: 3 problems, a JSON list",
        "  answers: numbers, the longest of 5 bytes",
        "  questions: 5 to 5 words, half of them up to 5",
        "  steps: in 3 of 3 problems, up to 2",
        "  repeats: 1 problems ask what another asks",
    ]
    assert found.longest == len("What is 2 + 1?\na\nb\n1,000")


def test_rows_of_gsm8k(tmp_path: Path) -> None:
    rows = [row(1, "It is <<1+1=2>>2.\n#### 2"), row(2, "So <<2+1=3>>3.\n#### 3")]
    found = inspect(written(tmp_path / "a.jsonl", rows, as_list=False))
    assert found.lines()[0].endswith("2 problems, JSON Lines as GSM8K is published")
    assert [problem.answer for problem in found.problems] == ["2", "3"]


def test_texts_without_steps(tmp_path: Path) -> None:
    rows = [row(1, "Tom is a lempus."), row(2, "yes"), row(3, steps=["x"])]
    found = inspect(written(tmp_path / "a.json", rows))
    assert found.answer_is == "text"
    assert not found.has_steps
    assert "  answers: texts, the longest of 16 bytes" in found.lines()
    assert any("in 1 of 3 problems, up to 1; where some" in line for line in found.lines())


def test_numbers_with_a_mistake_among_them(tmp_path: Path) -> None:
    """One answer in ten may be a mistake, and is told; as texts they can be used."""
    path = written(tmp_path / "a.json", [row(i) for i in range(9)] + [row(9, "3:30")])
    with pytest.raises(DataError, match=r"row 10, field 'answer' is '3:30'.*of 10 rows"):
        inspect(path)
    assert inspect(path, "text").answer_is == "text"
    with pytest.raises(DataError, match="row 10"):
        inspect(path, "number")


def test_rows_that_are_no_problems(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="row 1 has no field 'question'"):
        inspect(written(tmp_path / "a.json", [{"frage": "?", "answer": 1}]))


def test_too_long(tmp_path: Path) -> None:
    rows = [{"question": "word " * 2000, "answer": 1}]
    assert inspect(written(tmp_path / "a.json", rows)).lines()[-1].startswith("  too long: ")


def test_parts_share_no_question(tmp_path: Path) -> None:
    """A question told with other capitals is the same; the order of the rows changes nothing."""
    rows = [row(i) for i in range(50)] + [
        {**row(i), "question": f"what IS {i} + 1"} for i in range(50)
    ]
    problems = inspect(written(tmp_path / "a.json", rows)).problems
    parts = split_problems(problems, WEIGHTS)
    assert {name: len(part) for name, part in parts.items()} == {
        "train": 60,
        "mine": 20,
        "valid": 10,
        "test": 10,
    }
    asked = [{words(p.question) for p in part} for part in parts.values()]
    assert sum(map(len, asked)) == len(set.union(*asked)) == 50
    again = split_problems(problems[::-1], WEIGHTS)
    assert [{words(p.question) for p in part} for part in again.values()] == asked


def test_every_part_has_a_question(tmp_path: Path) -> None:
    problems = inspect(written(tmp_path / "a.json", [row(i) for i in range(4)])).problems
    assert [len(part) for part in split_problems(problems, WEIGHTS).values()] == [1, 1, 1, 1]
    with pytest.raises(DataError, match="3 different questions are too few for 4 parts"):
        split_problems(problems[:3], WEIGHTS)
