"""`summary.json` holds all that the table shows, as long as it is of the predictions beside it."""

import json
from pathlib import Path

import pytest

from lightning_ltts.analysis import stored_result
from lightning_ltts.analysis.method_names import MAJORITY, WEIGHTED_VOTE
from lightning_ltts.analysis.predictions import read_rows
from lightning_ltts.analysis.stored_result import read_result, write_result
from lightning_ltts.analysis.summary import summarize
from lightning_ltts.voting.selection import Majority, WeightedVote
from tests.report.helpers import write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = write(tmp_path / "run", search="beam", replaced=True)
    write_result(folder, summarize(read_rows(folder)))
    return folder


def test_it_is_read_as_it_was_computed(folder: Path) -> None:
    summary, result = summarize(read_rows(folder)), read_result(folder)
    assert result is not None
    assert result.table() == summary.table()
    assert result.bought() == summary.bought()
    assert result.lines == summary.lines
    assert result.as_dict() == summary.as_dict()
    assert read_result(folder / "predictions.jsonl") == result


def test_it_is_not_read_where_it_may_be_wrong(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other predictions, another version, other options, damage, an older file."""
    predictions, stored = folder / "predictions.jsonl", folder / "summary.json"
    whole = stored.read_text()
    lines = predictions.read_text().splitlines(keepends=True)
    predictions.write_text("".join(lines[1:]))
    assert read_result(folder) is None
    predictions.write_text("".join(lines))
    assert read_result(folder) is not None
    for damaged in (whole[:-9], "[]", "{}", json.dumps(json.loads(whole) | {"results": {"a": 1}})):
        stored.write_text(damaged)
        assert read_result(folder) is None
    write_result(folder, summarize(read_rows(folder), temperature=2), by_default=False)
    assert read_result(folder) is None
    stored.write_text(whole)
    monkeypatch.setattr(stored_result, "version", lambda name: "another")
    assert read_result(folder) is None
    stored.unlink()
    assert read_result(folder) is None


def test_names_are_those_of_the_selections() -> None:
    assert (Majority.name, WeightedVote.name) == (MAJORITY, WEIGHTED_VOTE)
