"""What the Tab key offers."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lightning_ltts.cli.completion import LINE, candidates
from tests.cli.helpers import ltts


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("f", ["fit"]),
        ("re", ["report"]),
        ("fit exp", ["experiment="]),
        ("fit experiment=demo/r", ["experiment=demo/reasoner"]),
        ("fit -m sampler=paper_n", ["sampler=paper_noise"]),
        ("fit experiment=nope", []),
        ("report lo", []),
        ("fti experiment=", []),
        ("fit model.init_args.", None),
        ("fit ", None),
    ],
)
def test_candidates(line: str, expected: list[str] | None) -> None:
    assert candidates(line.split(" ")) == expected


def test_own_experiments(tmp_path: Path) -> None:
    (tmp_path / "experiment/a").mkdir(parents=True)
    (tmp_path / "experiment/a/b.yaml").touch()
    words = ["fit", "--config-dir", str(tmp_path), "experiment=a/"]
    assert candidates(words) == ["experiment=a/b"]


def test_hydra_completes_keys_after_the_command(monkeypatch, capsys) -> None:
    """With the composed experiment: only the demo's reasoner has a step_factor."""
    monkeypatch.setenv(LINE, "ltts fit experiment=demo/reasoner model.init_args.st")
    assert ltts(monkeypatch, "-sc", "query=bash") == 0
    words = capsys.readouterr().out.split()
    assert words == ["model.init_args.start.", "model.init_args.step_factor="]


@pytest.mark.parametrize(("shell", "between"), [("bash", " "), ("fish", "\n")])
def test_own_answers_are_told_as_the_shell_reads_them(
    shell: str, between: str, monkeypatch, capsys
) -> None:
    monkeypatch.setenv(LINE, "ltts predict experiment=demo/s")
    assert ltts(monkeypatch, "-sc", f"query={shell}") == 0
    assert capsys.readouterr().out == "experiment=demo/search\n"
    monkeypatch.setenv(LINE, "ltts ")
    assert ltts(monkeypatch, "-sc", f"query={shell}") == 0
    assert f"export{between}fit" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash")
def test_bash(tmp_path: Path) -> None:
    """The script that is installed, asked as the Tab key asks it."""
    (tmp_path / "ltts").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m lightning_ltts "$@"\n')
    (tmp_path / "ltts").chmod(0o755)
    script = f"""
        PATH={tmp_path}:$PATH
        eval "$(ltts -sc install=bash)"
        complete -p ltts
        COMP_LINE="ltts fit experiment=demo/reas" COMP_POINT=29 COMP_CWORD=2
        hydra_bash_completion
        echo "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    installed, completed = done.stdout.splitlines()
    assert installed.endswith("-F hydra_bash_completion ltts")
    assert completed == "experiment=demo/reasoner"
