"""What needs no model is answered without importing what takes seconds."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lightning_ltts.analysis.predictions import read_rows
from lightning_ltts.analysis.stored_result import write_result
from lightning_ltts.analysis.summary import summarize

HEAVY = {"torch", "lightning", "transformers", "torchmetrics", "numpy", "sklearn", "datasets"}
# runs the commands of stdin one by one; of each, prints exit code, output and modules as JSON
RUNNER = """
import io, json, sys
from contextlib import redirect_stderr, redirect_stdout
from lightning_ltts.cli import main
for line in json.load(sys.stdin):
    sys.argv, out, err, code = ["ltts", *line], io.StringIO(), io.StringIO(), 0
    with redirect_stdout(out), redirect_stderr(err):
        try:
            main()
        except SystemExit as stop:
            code = stop.code
    print(json.dumps([code, out.getvalue(), err.getvalue(), sorted(sys.modules)]))
"""
# command, exit code, what it says
COMMANDS = [
    ("", 0, "demo/reasoner"),
    ("--help", 0, "ltts COMMAND --help"),
    ("--version", 0, "ltts 0."),
    ("list", 0, "demo/search "),
    ("fit --help", 0, "train a reasoner"),
    ("predict experiment=demo/search -h", 0, "demo/search"),
    ("mine --config-dir nope --help", 0, "demo/latent_rm"),
    ("report --help", 0, "--temperature"),
    ("import --help", 0, "usage: ltts import"),
    ("export --help", 0, "usage: ltts export"),
    ("push --help", 0, "usage: ltts push"),
    ("push folder", 2, "the following arguments are required: repository"),
    ("init --help", 0, "usage: ltts init"),
    ("init my_task --problems nope.json", 2, "problem file nope.json does not exist"),
    ("init task --problems problems.json", 0, "next: ltts fit --config-dir task"),
    ("fti", 2, "did you mean 'fit'?"),
    ("frobnicate", 2, "'frobnicate' is not a command; the commands are fit, mine"),
    ("fit experiment=demo/reasonr", 2, "did you mean demo/reasoner?"),
    ("fit experiment=multiarith", 2, "did you mean benchmark/multiarith?"),
    ("fit experiment=nope", 2, "'ltts list' lists the experiments"),
    ("fit --config-dir own experiment=ownn", 2, "did you mean own?"),
    ("predict sampler=mcdropout", 2, "did you mean mc_dropout?"),
    ("fit mdoel=coconut", 2, "did you mean model?"),
    ("fit experiment=demo/reasoner model.init_args.lr=[", 2, "lr=["),
    ("fit experiment=files/reasoner", 2, "give your own problems: train=FILE valid=FILE"),
    ("predict experiment=files/search", 2, "give your own problems: test=FILE"),
    ("fit experiment=demo/reasoner train=a.json", 2, "needs valid=FILE beside it"),
    ("mine --json", 2, "has no --json"),
    ("report nope", 2, "nope does not exist"),
    ("report", 2, "the following arguments are required"),
    ("export r.ckpt", 2, "the following arguments are required: target"),
]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list]:
    """Each command -> exit code, stdout, stderr and the modules that were imported by then."""
    here = tmp_path_factory.mktemp("here")
    (here / "own/experiment").mkdir(parents=True)
    (here / "own/experiment/own.yaml").write_text("# @package _global_\n# fit: ours\n")
    rows = [{"question": f"What is {i % 9} + 1?", "answer": i % 9 + 1} for i in range(12)]
    (here / "problems.json").write_text(json.dumps(rows))  # three are repeated
    return run(here, [command for command, *_ in COMMANDS])


def run(here: Path, commands: list[str]) -> dict[str, list]:
    lines = json.dumps([command.split() for command in commands])
    done = subprocess.run(
        [sys.executable, "-c", RUNNER], cwd=here, input=lines, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = map(json.loads, done.stdout.splitlines())
    return dict(zip(commands, found, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize(("command", "code", "expected"), COMMANDS, ids=[c for c, *_ in COMMANDS])
def test_answer_without_heavy_imports(
    command: str, code: int, expected: str, answers: dict[str, list]
) -> None:
    given, out, err, modules = answers[command]
    assert given == code
    assert expected in (err if code else out)
    assert not code or err.count("\n") == 1, err
    assert HEAVY & set(modules) == set()


def prediction_run(folder: Path) -> Path:
    """Predictions of one question."""
    samples = [{"answer": "1", "scores": [0.1]}, {"answer": "0", "scores": [0.2]}]
    row = {"id": "q", "question": "?", "answer": "1", "greedy": {"answer": "1"}, "cost": {}}
    row |= {"samples": samples, "temperature": 1.0}
    (folder / "predictions.jsonl").write_text(json.dumps(row) + "\n")
    return folder


@pytest.mark.slow
def test_report_of_a_finished_run(tmp_path: Path) -> None:
    """What `ltts predict` has summed up is shown, and computed again where that is needed."""
    folder = prediction_run(tmp_path)
    write_result(folder, summarize(read_rows(folder)))
    given = ["report .", "report . --json", "report . --against greedy"]
    answers = run(tmp_path, given)
    for command in given[:2]:
        code, out, _, modules = answers[command]
        assert code == 0
        assert "majority@2" in out
        assert HEAVY & set(modules) == set()
    assert "next: ltts report . -o report.html" in answers["report ."][1]
    code, out, _, modules = answers["report . --against greedy"]
    assert (code, "torch" in modules) == (0, True)


@pytest.mark.slow
def test_report_needs_neither_lightning_nor_transformers(tmp_path: Path) -> None:
    """Where there is no summary, its numbers are PyTorch's, and nothing else's."""
    prediction_run(tmp_path)
    code, out, _, modules = run(tmp_path, ["report ."])["report ."]
    assert code == 0
    assert "majority@2" in out
    assert {"lightning", "transformers", "torchmetrics"} & set(modules) == set()


@pytest.mark.processes
def test_public_names_are_imported_when_asked_for() -> None:
    code = (
        "import sys, lightning_ltts as l; assert 'torch' not in sys.modules;"
        "assert {'load_reasoner', 'Start', '__version__'} <= set(dir(l));"
        "from lightning_ltts import *; assert callable(load_reasoner);"
        "assert l.Curriculum.__name__ == 'Curriculum'; print(l.__version__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.startswith("0."), done.stderr
