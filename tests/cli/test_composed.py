"""The files that say how a run was composed are written by one of several processes alone."""

from pathlib import Path

import pytest

from lightning_ltts.cli.composed import recorded
from lightning_ltts.cli.run_guard import RunGuard


def test_processes_of_one_run_write_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under torchrun each of them composes; they would remove each other's temporary files."""
    files = {"mine.yaml": "a: 1", "hydra/config.yaml": "b: 2"}
    monkeypatch.setenv("RANK", "1")
    with recorded(tmp_path, files, RunGuard()) as place:
        assert {name: (place / name).read_text() for name in files} == files
        assert not any(tmp_path.iterdir())
    assert not place.exists()
    monkeypatch.setenv("RANK", "0")
    with recorded(tmp_path, files, RunGuard()) as place:
        assert place == tmp_path
        assert {name: (place / name).read_text() for name in files} == files
