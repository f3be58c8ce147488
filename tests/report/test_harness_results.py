"""Accuracies in the layout of lm-evaluation-harness."""

import json
import sys
from pathlib import Path

import pytest

from lightning_ltts import cli


def test_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("run").mkdir()
    rows = []
    for i in range(4):
        samples = [{"answer": "1", "scores": [0.1]}, {"answer": str(i % 2), "scores": [0.2]}]
        row = {"id": f"q{i}", "question": "?", "answer": "1", "greedy": {"answer": str(i % 2)}}
        rows.append(row | {"samples": samples, "temperature": 1.0, "cost": {}, "seed": 3})
    Path("run/predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setattr(sys, "argv", ["ltts", "report", "run", "--lm-eval", "out/results.json"])
    cli.main()
    content = json.loads(Path("out/results.json").read_text())
    (name,) = content["results"]
    task = content["results"][name]
    assert task["exact_match,greedy"] == 0.5
    assert task["exact_match,coverage@2"] == 1.0
    # 0, 1, 0, 1: the sample's deviation is sqrt(1/3), over sqrt(4)
    assert task["exact_match_stderr,greedy"] == pytest.approx((1 / 3) ** 0.5 / 2)
    assert content["n-samples"] == {name: {"original": 4, "effective": 4}}
    assert content["higher_is_better"] == {name: {"exact_match": True}}
    assert content["config"]["random_seed"] == 3
    assert {"configs", "versions", "n-shot", "group_subtasks", "date"} <= content.keys()


@pytest.mark.slow
@pytest.mark.extra
def test_it_is_read_by_the_harness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    utils = pytest.importorskip("lm_eval.utils", reason="the extra lm-eval is not installed")
    test_layout(tmp_path, monkeypatch)
    table = utils.make_table(json.loads(Path("out/results.json").read_text()))
    assert "|greedy" in table.replace(" ", "")
    assert "exact_match" in table
