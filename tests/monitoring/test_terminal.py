import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lightning_ltts import cli
from lightning_ltts.monitoring.terminal import JSON_STREAM, QUIET

pytestmark = pytest.mark.slow

TINY = [
    "trainer.accelerator=cpu",
    "data.init_args.problems.init_args.size=4",
    "model.init_args.num_samples=2",
]


@pytest.fixture
def search(reasoner_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Arguments of a small prediction run."""
    monkeypatch.chdir(tmp_path)
    return [
        "experiment=demo/search",
        f"reasoner={reasoner_file}",
        "latent_rm=null",
        "model.init_args.beam=null",
        *TINY,
    ]


def ltts(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["ltts", *arguments])
    cli.main()
    assert sys.argv == ["ltts", *arguments]


def test_bar_shows_speed_and_accuracy_on_stderr(search: list[str], monkeypatch, capfd) -> None:
    ltts(monkeypatch, "predict", *search)
    out, err = capfd.readouterr()
    assert "questions/s, greedy=" in err
    assert "majority=" in err
    assert "questions/s" not in out
    assert "majority@2" in out
    ltts(monkeypatch, "predict", *search)  # nothing is left to count
    out, err = capfd.readouterr()
    assert "questions/s" not in err
    assert "majority@2" in out
    assert out.splitlines()[-1] == "next: ltts report logs/demo/search -o report.html"


def test_quiet_leaves_the_result(search: list[str], monkeypatch, capfd) -> None:
    ltts(monkeypatch, "predict", *search, "--quiet")
    out, err = capfd.readouterr()
    assert err == ""
    assert out.split()[:2] == ["4", "problems;"]
    assert QUIET not in os.environ


@pytest.mark.processes
def test_quiet_in_a_fresh_process(search: list[str]) -> None:
    """Lightning, which sets up its messages when it is imported, is imported late."""
    for options in (["--quiet"], []):
        line = [sys.executable, "-m", "lightning_ltts", "predict", *search, *options]
        done = subprocess.run(line, capture_output=True, text=True)
        assert done.returncode == 0
        assert "4 problems;" in done.stdout
        if options:
            assert done.stderr == ""
            shutil.rmtree("logs")
        else:
            assert "GPU available" in done.stderr
            assert "Tip:" not in done.stderr


def test_json_is_the_last_line_of_stdout(search: list[str], monkeypatch, capfd) -> None:
    """By Hydra, quietly, and by LightningCLI; `ltts report` gives the same."""
    ltts(monkeypatch, "predict", *search, "--json")
    out, err = capfd.readouterr()
    summary = json.loads(out)
    assert summary["num_problems"] == 4
    assert "majority@2" in err  # the table
    assert JSON_STREAM.get() is None
    ltts(monkeypatch, "predict", *search, "--json", "--quiet")
    assert capfd.readouterr() == (out, "")
    ltts(monkeypatch, "predict", "--config", "logs/demo/search/predict.yaml", "--json", "--quiet")
    assert capfd.readouterr() == (out, "")
    ltts(monkeypatch, "report", "logs/demo/search", "--json")
    report = json.loads(capfd.readouterr().out)
    assert report["results"] == summary["results"]


def test_errors_remain(search: list[str], monkeypatch, capfd) -> None:
    for arguments, expected in (
        (
            ["predict", *search, "model.init_args.num_samples=0", "--quiet", "--json"],
            "num_samples=0",
        ),
        (["fit", "experiment=demo/reasoner", "--json"], "'ltts fit' has no --json"),
    ):
        with pytest.raises(SystemExit):
            ltts(monkeypatch, *arguments)
        out, err = capfd.readouterr()
        assert out == ""
        (line,) = [x for x in err.splitlines() if x]
        assert line.startswith("error: ")
        assert expected in line
