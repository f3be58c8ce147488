"""Problems of a data set that was streamed are those of one that is held."""

import json
from collections.abc import Iterator
from pathlib import Path

import datasets
import pytest

from lightning_ltts.data import problems as module
from lightning_ltts.data.problems import HubProblems, hash_problems
from lightning_ltts.data.stored_problems import StoredProblems
from lightning_ltts.errors import DataError

ROWS = [
    {"number": 5, "input": "Ann has 3 pens", "target": "3", "how": ["<<1+2=3>>"]},
    {"number": 6, "input": "Zoë has 4", "target": "4.50", "how": []},
    {"number": 7, "input": "Ann has 3  pens", "target": "2", "how": []},
    {"number": 8, "input": "None here", "target": "None", "how": []},
    {"number": 9, "input": "And 5?", "target": "5", "how": []},
]
COLUMNS = {"question": "input", "answer": "target", "steps": "how", "id": "number"}
OPTIONS = {
    "plain": {},
    "by questions": {"ids": "question"},
    "two parts": {"split": "test+train", "ids": "question"},
    "limit": {"limit": 2},
    "texts": {"answers": "text", "leave_out": []},
    "numbers": {"only_numbers": True, "leave_out": []},
}


def write(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path / "cache" / "lightning_ltts"


@pytest.fixture
def folder(tmp_path: Path, cache: Path) -> Path:
    (tmp_path / "set").mkdir()
    write(tmp_path / "set" / "test.jsonl", ROWS)
    write(tmp_path / "set" / "train.jsonl", ROWS[:2])
    return tmp_path / "set"


def source(folder: Path | str, streaming: bool = True, **options) -> HubProblems:
    given = {"columns": COLUMNS, "leave_out": ["None"]} | options
    return HubProblems(str(folder), streaming=streaming, **given)


@pytest.mark.parametrize("name", OPTIONS)
def test_they_are_the_same(folder: Path, name: str) -> None:
    """Ids, places for messages and all else; and none of them is held."""
    held = source(folder, streaming=False, **OPTIONS[name]).load()
    streamed = source(folder, **OPTIONS[name]).load()
    assert isinstance(held, list)
    assert isinstance(streamed, StoredProblems)
    assert list(streamed) == held
    assert hash_problems(streamed) == hash_problems(held)
    if name == "plain":
        assert [p.id for p in streamed] == ["5", "6", "7", "9"]
        assert streamed[3].source == f"{folder}, row 5"


def test_a_limit_ends_the_stream(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    stream = module.hub_stream

    def watched(*place) -> Iterator:
        for row in stream(*place):
            read.append(row[0])
            yield row

    monkeypatch.setattr(module, "hub_stream", watched)
    write(folder / "test.jsonl", [*ROWS[:2], {**ROWS[2], "target": "no number"}])
    assert len(source(folder, limit=2).load()) == 2
    assert len(read) == 2
    with pytest.raises(DataError, match="row 3, field 'answer' is 'no number'"):
        source(folder).load()


def test_what_was_streamed_is_not_streamed_again(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless another option or another content makes other problems."""
    first = list(source(folder).load())
    assert len(list(cache.glob("*.jsonl"))) == 1
    with monkeypatch.context() as patched:
        patched.setattr(module, "hub_stream", None)  # would fail if anything were read
        assert list(source(folder).load()) == first
    assert [p.id for p in source(folder, ids="question").load()] != [p.id for p in first]
    write(folder / "test.jsonl", ROWS[:1])
    assert list(source(folder).load()) == first[:1]
    assert len(list(cache.glob("*.jsonl"))) == 3


def test_a_stream_that_breaks_leaves_nothing_to_be_served(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*place) -> Iterator:
        yield "row 1", {**ROWS[0], "number": "5"}
        raise DataError("the line is cut")

    with monkeypatch.context() as patched:
        patched.setattr(module, "hub_stream", broken)
        with pytest.raises(DataError, match="the line is cut"):
            source(folder).load()
    assert not list(cache.glob("*.jsonl"))
    assert not list(cache.glob(".*.tmp"))
    assert len(source(folder).load()) == 4


def test_user_errors(folder: Path) -> None:
    with pytest.raises(DataError, match="has no field 'question'; it has 'number', 'input'"):
        source(folder, columns=None, leave_out=[]).load()
    with pytest.raises(DataError, match=r"\(nowhere\) cannot be loaded"):
        source(folder, split="nowhere").load()
    write(folder / "test.jsonl", ROWS[3:4])
    with pytest.raises(DataError, match=r"all 1 problems from .*row 1 on have no answer"):
        source(folder).load()


class TestHub:
    """Data sets that are no folders: the commit names their version."""

    @pytest.fixture(autouse=True)
    def hub(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
        """Its one data set, whose commit a test may change or take away."""
        state, load = {"sha": "a" * 40}, datasets.load_dataset

        def asked(api, name: str, revision: str | None) -> object:
            if name not in ("owner/set",) or not state:
                raise ConnectionError("nobody answers\nat all")
            return type("Info", (), state)

        monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", asked)

        def loaded(name: str, *more: object, revision: str | None, **options: object) -> object:
            state["read"] = str(revision)
            return load(str(folder), *more, **options)

        monkeypatch.setattr(datasets, "load_dataset", loaded)
        return state

    def test_another_commit_is_streamed_anew(self, folder: Path, hub: dict[str, str]) -> None:
        assert len(source("owner/set").load()) == 4
        assert (
            hub["read"] == "a" * 40
        )  # the commit of the file's name, whatever is pushed meanwhile
        write(folder / "test.jsonl", ROWS[:2])
        assert len(source("owner/set").load()) == 4
        assert len(source("owner/set", revision="b" * 40).load()) == 2
        hub["sha"] = "c" * 40
        assert len(source("owner/set").load()) == 2

    def test_without_a_network(self, hub: dict[str, str]) -> None:
        """What was streamed before is used; and a commit needs no Hub to be known."""
        before = list(source("owner/set").load())
        hub.clear()
        assert list(source("owner/set").load()) == before
        with pytest.raises(
            DataError, match=r"data set owner/set cannot be loaded: nobody answers$"
        ):
            source("owner/set", limit=1).load()
        with pytest.raises(DataError, match="data set owner/other cannot be loaded"):
            source("owner/other").load()
