"""Rows that stay in their file give the numbers of rows that are held."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from lightning_ltts.analysis import predictions
from lightning_ltts.analysis.predictions import StoredRows, open_rows, read_rows
from lightning_ltts.analysis.rows import Rows
from lightning_ltts.analysis.summary import summarize
from lightning_ltts.errors import DataError


def make_rows(questions: int = 30, samples: int = 4) -> list[dict[str, Any]]:
    draw = random.Random(0)

    def sample() -> dict[str, Any]:
        scores = [draw.gauss(0, 1) for _ in range(3)]
        return {"answer": str(draw.randint(0, 2)), "scores": scores, "log_prob": draw.random()}

    def cost() -> dict[str, float]:
        return {unit: draw.random() for unit in ("token_forwards", "tree_nodes", "flops")}

    return [
        {
            "id": f"q{i}", "question": "Zoë?", "answer": str(i % 3), "greedy": {"answer": "1"},
            "samples": [sample() for _ in range(samples)],
            "beam": {"budget": 4, "beams": [sample(), sample()]},
            "ablation": [{"by": "zero", "step": None, "answer": str(i % 2)}],
            "cost": {part: cost() for part in ("prompt", "greedy", "sampling", "scoring", "beam")},
        }
        for i in range(questions)
    ]  # fmt: skip


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of which nothing is held."""
    monkeypatch.setattr(predictions, "IN_MEMORY", 0)
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in make_rows()]
    (tmp_path / "predictions.jsonl").write_text("".join(lines) + '{"id": "torn')
    return tmp_path / "predictions.jsonl"


def test_they_are_the_same(path: Path) -> None:
    stored, held = StoredRows(path), make_rows()
    assert stored._held is None
    assert list(stored) == held == read_rows(path)
    assert (stored[-1], stored[1:3]) == (held[-1], held[1:3])
    assert len(stored) == 30


@pytest.mark.slow
@pytest.mark.parametrize("samples", [None, 3])
def test_a_summary_is_the_same(samples: int | None, path: Path) -> None:
    one, other = (
        summarize(rows, num_samples=samples).as_dict() for rows in (open_rows(path), make_rows())
    )
    assert json.dumps(one) == json.dumps(other)
    assert "replaced" in one


def test_costs_are_means_of_what_all_rows_have() -> None:
    rows = make_rows(3)
    del rows[1]["cost"]["beam"], rows[2]["cost"]["greedy"]["flops"]
    costs = Rows(rows).changed(lambda row: {**row, "samples": []}).costs
    assert costs.keys() == {"prompt", "greedy", "sampling", "scoring"}
    assert costs["greedy"].keys() == {"token_forwards", "tree_nodes"}
    mean = sum(row["cost"]["prompt"]["flops"] for row in rows) / 3
    assert costs["prompt"]["flops"] == pytest.approx(mean)


def test_mistakes_are_told_as_of_rows_that_are_held(path: Path) -> None:
    text = path.read_text().removesuffix('{"id": "torn')
    path.write_text(text + text.splitlines()[4] + "\n")
    with pytest.raises(DataError, match="line 31 is a second row of problem 'q4'"):
        open_rows(path)
    path.write_text(text.replace('"q2"', "3"))
    with pytest.raises(DataError, match="line 3 "):
        open_rows(path)
    path.write_text("")
    with pytest.raises(DataError, match="holds no predictions"):
        open_rows(path)
