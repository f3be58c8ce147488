"""What reasoners reach by themselves, against the setting's, from prediction files."""

import json
from pathlib import Path

import pytest
from study_alone import alone, print_alone, summary_of
from study_settings import FOLDER


def write(folder: Path, greedy: str, samples: list[str]) -> None:
    """Four problems with the answer 1, all answered alike."""
    folder.mkdir(parents=True)
    rows = [
        {
            "id": f"q{q}",
            "answer": "1",
            "greedy": {"answer": greedy},
            "samples": [{"answer": answer} for answer in samples],
            "cost": {"samples": {"token_forwards": 8, "tree_nodes": 8}},
        }
        for q in range(4)
    ]
    (folder / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "summary.json").touch()


def test_against_the_reasoner_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Easy: wrong before, right after, with 3 of 4 samples right; hard: nothing to compare with."""
    monkeypatch.chdir(tmp_path)
    summary_of.cache_clear()
    easy, hard = (FOLDER / f"{task}-small-1" for task in ("easy", "hard"))
    write(easy / "default" / "search", "2", ["1", "2", "1", "1"])
    write(easy / "grpo_svp" / "search", "1", ["1", "2", "1", "1"])
    write(hard / "longer" / "search", "1", ["1", "1", "1", "1"])
    found = alone(4)
    (one,) = found["settings"]
    assert (one["task"], one["seed"], one["reasoner"]) == ("easy", 1, "grpo_svp")
    assert (one["greedy"], one["pass"], one["majority"], one["coverage"]) == (1, 0.75, 1, 1)
    assert one["against_before"] == {"gain": 1.0, "low": 1.0, "high": 1.0}
    assert one["against_majority_before"] == {"gain": 0.0, "low": 0.0, "high": 0.0}, "it was right"
    assert found["over_seeds"][0]["against_before"]["gain"] == 1.0
    print_alone(found)
    assert (
        "| easy, 1 | grpo_svp | 100.0 | +100.0 (+100.0 to +100.0) | +0.0 ("
        in capsys.readouterr().out
    )
