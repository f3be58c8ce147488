import json
from pathlib import Path

import pytest

from lightning_ltts.analysis.prediction_files import MANIFEST, PREDICTIONS
from lightning_ltts.analysis.predictions import read_rows
from lightning_ltts.data.problems import key_of
from lightning_ltts.errors import DataError, OtherSettingsError, StoreError
from lightning_ltts.prediction.row_files import merge, open_folder, rank_file, row_files

SETTINGS = {"seed": 0, "beam": (2, 3)}


def row(name: str, answer: str = "1") -> str:
    one = {"answer": None}
    return json.dumps({"id": name, "answer": answer, "greedy": one, "samples": [one]}) + "\n"


def append(path: Path, *lines: str) -> None:
    with path.open("a") as file:
        file.writelines(lines)


def found(folder: Path) -> list[int]:
    return open_folder(folder, SETTINGS).tolist()


def keys(*names: str) -> list[int]:
    return sorted(map(key_of, names))


def test_rows_of_all_processes_become_one_file_in_the_problems_order(tmp_path: Path) -> None:
    assert found(tmp_path) == []
    append(rank_file(tmp_path, 0), row("c"), row("a"))
    append(rank_file(tmp_path, 1), row("b"))
    assert found(tmp_path) == keys("a", "b", "c")
    merge(tmp_path, SETTINGS, ["a", "b", "c", "d"])
    assert [x["id"] for x in read_rows(tmp_path)] == ["a", "b", "c"]
    assert sorted(x.name for x in tmp_path.iterdir()) == [PREDICTIONS, MANIFEST]


def test_other_files_of_the_user_are_neither_read_nor_removed(tmp_path: Path) -> None:
    names = (
        "predictions.backup.jsonl",
        "predictions.rank0.backup.jsonl",
        "predictions.rankings.jsonl",
        "predictions2.jsonl",
    )
    for name in names:
        append(tmp_path / name, row("a", "wrong"))
    assert found(tmp_path) == []
    append(rank_file(tmp_path, 0), row("a"))
    merge(tmp_path, SETTINGS, ["a"])
    assert read_rows(tmp_path)[0]["answer"] == "1"
    assert all((tmp_path / name).read_text() == row("a", "wrong") for name in names)


def test_rows_without_a_manifest_are_refused(tmp_path: Path) -> None:
    append(tmp_path / PREDICTIONS, row("a"))
    with pytest.raises(
        StoreError,
        match=r"holds predictions but no predictions\.manifest\.json; give another folder",
    ):
        open_folder(tmp_path, SETTINGS)
    assert not (tmp_path / MANIFEST).exists()


def test_settings_are_checked_at_the_start_and_when_files_are_merged(tmp_path: Path) -> None:
    open_folder(tmp_path, SETTINGS)
    open_folder(tmp_path, SETTINGS | {"seed": 5})  # nothing was predicted yet
    append(rank_file(tmp_path, 0), row("a"))
    with pytest.raises(OtherSettingsError, match="seed=5, but this run has 0"):
        open_folder(tmp_path, SETTINGS)
    with pytest.raises(OtherSettingsError, match="seed=5, but this run has 0"):
        merge(tmp_path, SETTINGS, ["a"])
    assert rank_file(tmp_path, 0).read_text() == row("a")


@pytest.mark.parametrize("content", ["{", "[]", "3", ""])
def test_a_damaged_manifest_is_refused(tmp_path: Path, content: str) -> None:
    open_folder(tmp_path, SETTINGS)
    append(rank_file(tmp_path, 0), row("a"))
    (tmp_path / MANIFEST).write_text(content)
    with pytest.raises(StoreError, match=r"predictions\.manifest\.json is damaged"):
        open_folder(tmp_path, SETTINGS)


def test_a_kill_while_files_are_merged_leaves_the_same_rows_twice(tmp_path: Path) -> None:
    open_folder(tmp_path, SETTINGS)
    for path in (tmp_path / PREDICTIONS, rank_file(tmp_path, 0)):
        append(path, row("a"))
    assert found(tmp_path) == keys("a")
    merge(tmp_path, SETTINGS, ["a"])
    assert row_files(tmp_path) == [tmp_path / PREDICTIONS]
    append(rank_file(tmp_path, 1), row("a", "2"))
    with pytest.raises(StoreError, match=r"rank1\.jsonl, line 1 is another row of problem 'a'"):
        open_folder(tmp_path, SETTINGS)


@pytest.mark.parametrize("damage", ["{torn\n", "[]\n", "\0\0\0\n", "{}\n"])
def test_a_damaged_line_is_named_and_a_torn_last_one_dropped(tmp_path: Path, damage: str) -> None:
    open_folder(tmp_path, SETTINGS)
    append(rank_file(tmp_path, 0), row("a"), row("b")[:-20])
    assert found(tmp_path) == keys("a")
    assert rank_file(tmp_path, 0).read_text() == row("a")
    append(rank_file(tmp_path, 0), damage, row("c"))
    with pytest.raises(StoreError, match=r"rank0\.jsonl, line 2 is damaged"):
        open_folder(tmp_path, SETTINGS)


def test_a_problem_twice_in_a_predictions_file_is_refused(tmp_path: Path) -> None:
    """It would count twice in every table."""
    append(tmp_path / PREDICTIONS, row("a"), row("b"), row("a"))
    with pytest.raises(
        DataError, match=r"predictions\.jsonl, line 3 is a second row of problem 'a'; remove one"
    ):
        read_rows(tmp_path)
