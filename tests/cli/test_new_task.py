"""From a file of problems to configurations that run as they stand."""

import json
import shlex
from pathlib import Path

import pytest
import yaml

from tests.cli.helpers import ltts


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: str, numbers: range, text: bool = False) -> str:
    rows = [
        {"question": f"What is {i} + 1?", "steps": [f"{i}+1"], "answer": f"It is {i + 1}." if text else i + 1}
        for i in numbers
    ]  # fmt: skip
    Path(path).write_text(json.dumps(rows))
    return path


def experiment(name: str) -> dict:
    return yaml.safe_load(Path(f"my_task/experiment/{name}.yaml").read_text())


def test_what_is_written_and_said(monkeypatch, capsys) -> None:
    assert ltts(monkeypatch, "init", "my_task", "--problems", write("p.json", range(50))) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "p.json: 50 problems, a JSON list"
    assert "train.jsonl (30), mine.jsonl (10), valid.jsonl (5), test.jsonl (5)" in out[-3]
    assert out[-1] == "next: ltts fit --config-dir my_task experiment=reasoner"
    assert len(Path("my_task/train.jsonl").read_text().splitlines()) == 30
    reasoner, latent_rm, search = map(experiment, ("reasoner", "latent_rm", "search"))
    assert (reasoner["train"], latent_rm["train"]) == (
        ["my_task/train.jsonl"],
        ["my_task/mine.jsonl"],
    )
    assert reasoner["valid"] == latent_rm["valid"] == ["my_task/valid.jsonl"]
    assert reasoner["test"] == search["test"] == ["my_task/test.jsonl"]
    assert reasoner["data"]["init_args"]["batch_size"] == 30
    curriculum = reasoner["model"]["init_args"]["curriculum"]
    assert curriculum["cot_epochs"] + sum(curriculum["stage_epochs"]) == 80
    assert reasoner["trainer"]["max_epochs"] == 80


def test_files_that_are_given_stay_where_they_are(monkeypatch, capsys) -> None:
    write("p.json", range(50))
    given = ["--valid", write("v.json", range(49, 60)), "--test", write("t.json", range(60, 70))]
    assert ltts(monkeypatch, "init", "my_task", "--problems", "p.json", *given) == 0
    out = capsys.readouterr().out
    assert "1 of 11 questions of v.json (valid) are in p.json, too" in out
    assert experiment("reasoner")["valid"] == ["v.json"]
    assert experiment("search")["test"] == ["t.json"]
    names = sorted(path.name for path in Path("my_task").iterdir())
    assert names == ["experiment", "mine.jsonl", "train.jsonl"]


def test_csv_with_columns_of_its_own(monkeypatch, capsys) -> None:
    """What is written has our names, also of files that are given beside it."""
    for name, numbers in (("p.csv", range(40)), ("t.csv", range(40, 45))):
        lines = [f"{i} + 1?,{i + 1},a note" for i in numbers]
        Path(name).write_text("\n".join(["asked,result,note", *lines]))
    given = ["--test", "t.csv", "--columns", "question=asked", "answer=result"]
    assert ltts(monkeypatch, "init", "my_task", "--problems", "p.csv", *given) == 0
    assert capsys.readouterr().out.startswith("p.csv: 40 problems, CSV\n")
    assert experiment("search")["test"] == ["my_task/test.jsonl"]
    rows = [json.loads(line) for line in Path("my_task/test.jsonl").read_text().splitlines()]
    assert [(row["question"], row["answer"]) for row in rows[:1]] == [("40 + 1?", "41")]
    assert ltts(monkeypatch, "init", "other", "--problems", "p.csv", "--columns", "asked") == 2
    assert "--columns 'asked' must be FIELD=COLUMN" in capsys.readouterr().err


def test_a_file_without_steps(monkeypatch) -> None:
    rows = [{"question": f"What is {i} + 1?", "answer": i + 1} for i in range(20)]
    Path("p.json").write_text(json.dumps(rows))
    assert ltts(monkeypatch, "init", "my_task", "--problems", "p.json") == 0
    curriculum = experiment("reasoner")["model"]["init_args"]["curriculum"]
    assert (curriculum["cot_epochs"], len(curriculum["stage_epochs"])) == (0, 1)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("my_task", "the following arguments are required: --problems"),
        ("a/b --problems p.json", "the name a/b must be of letters"),
        ("taken --problems p.json", "taken exists already; give another name"),
        ("my_task --problems nope.json", "problem file nope.json does not exist"),
        ("my_task --problems few.json", "2 different questions are too few for 4 parts"),
        ("my_task --problems p.json --answers word", "invalid choice: 'word'"),
    ],
)
def test_refused(arguments: str, expected: str, monkeypatch, capsys) -> None:
    write("p.json", range(20))
    write("few.json", range(2))
    Path("taken").mkdir()
    assert ltts(monkeypatch, "init", *arguments.split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert expected in line
    assert not Path("my_task").exists()


@pytest.mark.slow
@pytest.mark.parametrize("text", [False, True], ids=["numbers", "texts"])
def test_to_a_page_by_the_commands_that_are_named(text: bool, monkeypatch, capsys) -> None:
    """Every command is the `next:` of the one before, from a problem file to a report."""
    small = ["trainer.accelerator=cpu", "trainer.enable_progress_bar=false"]
    # as few epochs and samples as there can be, and every mined question kept
    for_stage = {
        "experiment=reasoner": [
            "trainer.max_epochs=1", "model.init_args.start.backbone.n_embd=16", "model.init_args.start.backbone.n_layer=1",
            "model.init_args.curriculum.cot_epochs=0", "model.init_args.curriculum.stage_epochs=[1]",
        ],
        "experiment=latent_rm": [
            "trainer.max_epochs=1", "data.init_args.keep_uninformative=true", "data.init_args.batch_size=4",
            "data.init_args.num_samples=4", "data.init_args.val_num_samples=4", "data.init_args.num_rollouts=1",
        ],
        "experiment=search": ["model.init_args.num_samples=2", "model.init_args.beam=null"],
    }  # fmt: skip
    line, seen = f"ltts init my_task --problems {write('p.json', range(40), text)}", []
    while not seen or seen[-1] != "predict":
        _, *words = shlex.split(line)
        stage = next((word for word in words if word.startswith("experiment=")), None)
        added = [x for x in (*for_stage[stage], *small) if x not in words] if stage else []
        assert ltts(monkeypatch, *words, *added) == 0, line
        last = capsys.readouterr().out.splitlines()[-1]
        line = last.removeprefix("next: ")
        seen.append(words[0])
    assert seen == ["init", "fit", "fit", "predict"]
    assert line == "open logs/my_task/search/report.html in a browser"
    assert "weighted vote" in Path("logs/my_task/search/report.html").read_text()
