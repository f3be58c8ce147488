"""Options of report, import and export."""

import json
from pathlib import Path

import pytest

from tests.cli.helpers import ltts


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two prediction runs, of 4 and of 2 samples."""
    monkeypatch.chdir(tmp_path)
    for name, count in (("first", 4), ("second", 2)):
        rows = [
            {
                "id": f"q{i}",
                "question": f"How many are {i}?",
                "answer": str(i),
                "greedy": {"answer": str(i % 2)},
                "samples": [
                    {"answer": str((i + n) % 3), "scores": [0.1 * n]} for n in range(count)
                ],
                "temperature": 1.0,
                "agreement": 0.5,
                "cost": {},
            }
            for i in range(6)
        ]
        (tmp_path / "runs" / name).mkdir(parents=True)
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / "runs" / name / "predictions.jsonl").write_text(lines)
    return tmp_path / "runs"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("--num-samples 0", "0 is not at least 1"),
        ("--num-samples -1", "-1 is not at least 1"),
        ("--num-samples 99", "--num-samples 99 is more than runs/first has; give at most 4"),
        ("--num-samples x", "'x'"),
        ("--temperature nan", "nan is not a number above 0"),
        ("--temperature inf", "inf is not a number above 0"),
        ("--temperature 0", "0 is not a number above 0"),
        ("--temperature -1", "-1 is not a number above 0"),
        ("--confidence nan", "nan is not between 0.5 and 1"),
        ("--confidence 1", "1 is not between 0.5 and 1"),
        ("--confidence 0.5", "0.5 is not between 0.5 and 1"),
        ("--rule x", "'x'"),
        ("--against x", "'x'"),
        ("--nope", "--nope"),
    ],
)
def test_options_have_their_range(
    options: str, expected: str, runs: Path, monkeypatch, capsys
) -> None:
    assert ltts(monkeypatch, "report", "runs/first", *options.split()) == 2
    said = capsys.readouterr()
    (line,) = said.err.splitlines()
    assert line.startswith("error: ")
    assert expected in line
    assert said.out == ""


def test_every_run_must_have_the_samples(runs: Path, monkeypatch, capsys) -> None:
    assert ltts(monkeypatch, "report", "runs/first", "runs/second", "--num-samples", "3") == 2
    assert "is more than runs/second has; give at most 2" in capsys.readouterr().err
    assert ltts(monkeypatch, "report", "runs/first", "runs/second", "--num-samples", "2") == 0


def test_folder_of_runs(runs: Path, monkeypatch, capsys) -> None:
    """Predictions one level below are used; those of the folder itself come first."""
    assert ltts(monkeypatch, "report", "runs", "--json") == 0
    files = [json.loads(line)["file"] for line in capsys.readouterr().out.splitlines()]
    assert files == ["runs/first", "runs/second"]
    own = (runs / "first/predictions.jsonl").read_text()
    (runs / "predictions.jsonl").write_text(own)
    assert ltts(monkeypatch, "report", "runs", "--json") == 0
    files = [json.loads(line)["file"] for line in capsys.readouterr().out.splitlines()]
    assert files == ["runs"]


@pytest.mark.parametrize("command", ["import", "export"])
def test_help_is_the_verbs_own(command: str, monkeypatch, capsys) -> None:
    assert ltts(monkeypatch, command, "--help") == 0
    assert capsys.readouterr().out.startswith(f"usage: ltts {command} ")


def test_missing_arguments(monkeypatch, capsys) -> None:
    assert ltts(monkeypatch, "export", "r.ckpt") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: the following arguments are required: target")


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments", ["-o afile/page.html", "--csv afile", "--png afile"], ids=lambda x: x.split()[0]
)
def test_file_where_a_folder_should_be(arguments: str, runs: Path, monkeypatch, capsys) -> None:
    Path("afile").touch()
    assert ltts(monkeypatch, "report", "runs/first", *arguments.split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: afile")
    assert Path("afile").read_bytes() == b""
