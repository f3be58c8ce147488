import os
import zipfile
from pathlib import Path

import pytest
import torch

from lightning_ltts.errors import CheckpointError, OtherSettingsError, StoreError
from lightning_ltts.files import (
    atomic,
    check_checkpoint,
    check_same_settings,
    read_json,
    remove_leftovers,
    write_json,
    write_text,
)


def test_atomic_keeps_the_previous_file_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("before")
    with atomic(path) as temporary:
        temporary.write_text("after")
        assert temporary.parent == path.parent
        assert path.read_text() == "before"
    assert path.read_text() == "after"
    assert list(tmp_path.iterdir()) == [path]


def test_atomic_leaves_nothing_after_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("before")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "a lone surrogate \ud800")
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_is_on_the_disk_before_it_is_renamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    sync, rename = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (done.append("sync"), sync(file)))
    monkeypatch.setattr(os, "replace", lambda *names: (done.append("rename"), rename(*names)))
    write_json(tmp_path / "a.json", {})
    assert done == ["sync", "rename", "sync"]


def test_leftovers_of_killed_processes_go_and_other_files_stay(tmp_path: Path) -> None:
    ours = tmp_path / ".last.ckpt.123-0011aabb.tmp"
    others = [
        tmp_path / name
        for name in (".best.ckpt.123-0011aabb.tmp", "notes.tmp", ".hidden.tmp", "last.ckpt")
    ]
    for path in (ours, *others):
        path.write_text("x")
    with atomic(tmp_path / "last.ckpt") as temporary:
        temporary.write_text("y")
    assert not ours.exists()
    assert all(path.exists() for path in others)
    remove_leftovers(tmp_path)
    assert [path.exists() for path in others] == [False, True, True, True]


@pytest.mark.parametrize(
    "content", [b'{"set', b"[]", b"null", b"\xff\xfe", b'{"b": 1}', b"[" * 100_000]
)
def test_damaged_json_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(StoreError, match=r"a\.json is damaged \(.+\); do this"):
        read_json(tmp_path / "a.json", "do this", ("a",))


def test_settings_that_differ_are_named(tmp_path: Path) -> None:
    check_same_settings(tmp_path, {"a": 1, "b": None}, {"a": 1})
    with pytest.raises(OtherSettingsError, match="made with b=2, but this run has 3; try that"):
        check_same_settings(tmp_path, {"a": 1, "b": 2}, {"a": 1, "b": 3}, advice="try that")


@pytest.mark.slow
def test_no_changed_byte_of_a_checkpoint_changes_what_is_read(tmp_path: Path) -> None:
    """Every third byte of a small checkpoint: a change is found, or it is without any meaning."""
    path, state = tmp_path / "a.ckpt", {"w": torch.randn(9, 5), "epoch": 3}
    torch.save(state, path)
    check_checkpoint(path)
    whole, found = path.read_bytes(), 0
    for position in range(0, len(whole), 3):
        changed = bytearray(whole)
        changed[position] ^= 1 << (4 if position % 2 else position // 2 % 8)
        path.write_bytes(changed)
        try:
            check_checkpoint(path)
        except CheckpointError:
            found += 1
            continue
        try:
            read = torch.load(path, weights_only=True)
        except Exception:  # whatever damage PyTorch finds by itself
            continue
        assert read["epoch"] == 3
        assert torch.equal(read["w"], state["w"])
    assert found > len(whole) / 6


def test_a_checkpoint_that_was_cut_off_or_is_of_another_kind(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    torch.save({"w": torch.zeros(99)}, path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"a\.ckpt cannot be read, it may be cut off"):
        check_checkpoint(path)
    path.write_bytes(b"\x80\x02 an older format has no checksums")
    check_checkpoint(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("folder/", "")
    check_checkpoint(path)
