"""Problems that stay in their files are those that are held, in every use."""

import json
from pathlib import Path

import pytest

from lightning_ltts.data import problems as module
from lightning_ltts.data.problems import ProblemFiles, hash_problems
from lightning_ltts.data.stored_problems import ProblemView, StoredProblems
from lightning_ltts.errors import DataError

ROWS = [
    {"question": "Ann has 3 pens", "answer": "3", "steps": ["<<1+2=3>>"]},
    {"question": "Zoë has 4", "answer": 4},
    {"question": "Ann has 3 pens", "answer": "2"},
    {"question": "And 5?", "answer": "5", "id": "own"},
    {"question": "Ann has 3 pens", "answer": "1"},
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with a byte order mark, an empty line, and no end of the last line."""
    lines = [json.dumps(row, ensure_ascii=False) for row in ROWS]
    text = "\n\n".join([*lines[:2], "\n".join(lines[2:])])
    (tmp_path / "p.jsonl").write_bytes(b"\xef\xbb\xbf" + text.encode())
    return tmp_path / "p.jsonl"


def load(path: Path, monkeypatch: pytest.MonkeyPatch, held: bool, **options) -> list:
    monkeypatch.setattr(module, "IN_MEMORY", 2**20 if held else 0)
    found = ProblemFiles([str(path)], **options).load()
    assert isinstance(found, list) == held
    return found


@pytest.mark.parametrize("options", [{}, {"limit": 4}, {"ids": "question"}], ids=str)
def test_they_are_the_same(options: dict, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of repeated questions, and places for messages, too."""
    held = load(path, monkeypatch, True, **options)
    stored = load(path, monkeypatch, False, **options)
    assert len(stored) == len(held)
    assert [stored[i] for i in range(len(held))] == list(stored) == held
    assert stored[-1] == held[-1]
    assert list(stored[1:3]) == held[1:3]
    assert hash_problems(stored) == hash_problems(held)
    assert held[1].source == f"{path}, row 3"


def test_a_view(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held, stored = (load(path, monkeypatch, kind) for kind in (True, False))
    view = ProblemView(stored, [3, 0, 1])
    assert list(view) == [held[3], held[0], held[1]]
    assert list(view[1:]) == [held[0], held[1]]
    assert view[-1] == held[1]


def test_only_places_are_held(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = load(path, monkeypatch, False)
    assert isinstance(stored, StoredProblems)
    text = path.read_bytes().replace(b"And 5?", b"And 6?")
    path.write_bytes(text)
    assert stored[3].question == "And 6?"


def test_repeats_are_said_as_before(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(module, "say_once", said.append)
    for held in (True, False):
        load(path, monkeypatch, held)
    assert said[0] == said[1]
    assert said[0].startswith("2 of 5 problems repeat the question of another")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b'{"question": "q"}', "row 8 has no field 'answer'"),
        (b"{", r"line 8 is not valid JSON"),
        (b"\xff", r"line 8 is not UTF-8 text"),
        (b'{"question": "other", "answer": "1", "id": "own"}', "both have the id 'own'"),
    ],
)
def test_mistakes_are_told_alike(
    line: bytes, expected: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_bytes(path.read_bytes() + b"\n" + line + b"\n")
    told = []
    for held in (True, False):
        monkeypatch.setattr(module, "IN_MEMORY", 2**20 if held else 0)
        with pytest.raises(DataError, match=expected) as error:
            ProblemFiles([str(path)]).load()
        told.append(str(error.value))
    assert told[0] == told[1]
