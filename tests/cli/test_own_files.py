"""`train=`, `valid=`, `test=` and `pretrained=`: the same keys in every command."""

import json
import re
from pathlib import Path
from typing import Any

import hydra
import pytest
import yaml
from omegaconf import OmegaConf

from lightning_ltts.cli.choices import config_folder
from lightning_ltts.cli.own_files import PROBLEM_FILES, check_files, resolved
from lightning_ltts.errors import ConfigError
from lightning_ltts.models.latent_lm import LatentReasoner
from tests.cli.helpers import ltts
from tests.helpers import save_reasoner
from tests.models.helpers import make_base


def compose(command: str, *overrides: str) -> dict[str, Any]:
    """The tree that a command line becomes."""
    with hydra.initialize_config_dir(str(config_folder()), version_base="1.3"):
        options = [*overrides, f"task={command}", "hydra.runtime.output_dir=x"]
        cfg = hydra.compose("config", options, return_hydra_config=True)
    raw: Any = OmegaConf.to_container(cfg)
    del raw["hydra"]
    text = yaml.safe_dump(raw, sort_keys=False)  # what Hydra knows only while it runs is put in
    for reference in re.findall(r"\$\{(?:hydra|now):[^}]*\}", text):
        text = text.replace(reference, "x")
    return resolved(command, OmegaConf.create(text), overrides)


def paths_of(source: Any) -> Any:
    assert source["class_path"] == PROBLEM_FILES
    return source["init_args"]["paths"]


@pytest.mark.slow
@pytest.mark.parametrize("experiment", ["files/reasoner", "demo/reasoner", "recipes/coconut_cot"])
def test_fit_of_a_reasoner(experiment: str) -> None:
    """Whatever the experiment's data: files of problems, the built-in task, or the Hub's."""
    tree = compose("fit", f"experiment={experiment}", "train=[a.json,b.json]", "valid=c.json")
    data = tree["data"]["init_args"]
    assert paths_of(data["train"]) == ["a.json", "b.json"]
    assert paths_of(data["val"]) == ["c.json"]
    assert data["test"] is None  # that of other problems
    assert paths_of(compose("test", f"experiment={experiment}", "test=d.json")["data"]["init_args"]["test"]) == ["d.json"]  # fmt: skip # noqa: E501


@pytest.mark.slow
@pytest.mark.parametrize("place", ["a.csv", "saved:test", "hf://openai/gsm8k@v1/main:test"])
def test_other_places_of_problems(place: str, tmp_path: Path, monkeypatch) -> None:
    """They need no quotes, and are known to be there before anything heavy is imported."""
    tree = compose("predict", "experiment=files/search", f"test={place}", "reasoner=r.ckpt")
    assert paths_of(tree["data"]["init_args"]["problems"]) == [place]
    monkeypatch.chdir(tmp_path)
    if not place.startswith("hf://"):
        with pytest.raises(ConfigError, match=f"problem file {place} does not exist"):
            check_files("predict", tree)
    Path("a.csv").touch()
    Path("saved").mkdir()
    Path("saved/dataset_dict.json").touch()
    check_files("predict", tree)


@pytest.mark.slow
def test_columns_stay_with_files_alone() -> None:
    """Those of a data set of the Hub say nothing of one's own file."""
    hub = compose("predict", "experiment=benchmark/gsm_hard", "test=a.csv")
    assert "columns" not in hub["data"]["init_args"]["problems"]["init_args"]
    columns = "++data.init_args.problems.init_args.columns={question:asked}"
    own = compose("predict", "experiment=files/search", "test=a.csv", "reasoner=r.ckpt", columns)
    assert own["data"]["init_args"]["problems"]["init_args"]["columns"] == {"question": "asked"}


def test_tokenizer_is_made_from_the_files_to_train_on() -> None:
    tree = compose("fit", "experiment=files/reasoner", "train=a.json", "valid=c.json")
    tokenizer = tree["model"]["init_args"]["start"]["tokenizer"]
    assert tokenizer["init_args"]["paths"] == ["a.json"]


@pytest.mark.slow
@pytest.mark.parametrize("experiment", ["files/latent_rm", "demo/latent_rm"])
def test_mining(experiment: str) -> None:
    """Files to test on may be given, too, so that all commands can have the same keys."""
    for command in ("mine", "fit"):
        given = ["train=a.json", "valid=c.json", "test=d.json"]
        data = compose(command, f"experiment={experiment}", *given)["data"]["init_args"]
        assert paths_of(data["train"]) == ["a.json"]
        assert paths_of(data["val"]) == ["c.json"]
        assert "test" not in data


@pytest.mark.slow
@pytest.mark.parametrize("experiment", ["files/search", "demo/search", "benchmark/gsm8k_test"])
def test_search(experiment: str) -> None:
    given = [f"experiment={experiment}", "train=a.json", "valid=c.json", "test=d.json"]
    if experiment.startswith("benchmark"):
        given.append("name=x")
    assert paths_of(compose("predict", *given)["data"]["init_args"]["problems"]) == ["d.json"]
    assert paths_of(compose("tune", *given)["data"]["init_args"]["problems"]) == ["c.json"]


@pytest.mark.slow
def test_options_of_files_stay() -> None:
    """Text answers of ProsQA; neither the size of the built-in task nor how many of other files are read."""
    prosqa = compose("fit", "experiment=recipes/coconut_prosqa", "train=a.json", "valid=b.json")
    assert prosqa["data"]["init_args"]["train"]["init_args"] == {
        "paths": ["a.json"],
        "answers": "text",
    }
    mining = ["mine", "experiment=files/latent_rm", "train=[a.json,b.json]", "valid=c.json"]
    option = "data.init_args.train.init_args.limit=7"
    for options, limit in (((), None), ((option,), 7)):
        mined = compose(*mining, *options)["data"]["init_args"]["train"]["init_args"]
        assert mined == {"paths": ["a.json", "b.json"], "limit": limit}
    words = compose("mine", "experiment=demo/latent_rm", "train=a.json", "valid=b.json")
    assert words["data"]["init_args"]["train"]["init_args"] == {"paths": ["a.json"]}


def test_copies_with_other_numbers_stay() -> None:
    tree = compose("fit", "experiment=recipes/smollm2_cot", "train=a.json", "valid=b.json")
    train = tree["data"]["init_args"]["train"]
    assert train["class_path"].endswith("PerturbedProblems")
    assert paths_of(train["init_args"]["source"]) == ["a.json"]
    assert [paths_of(source) for source in train["init_args"]["exclude"]] == [["b.json"]]
    # problems to test on, too, also where this command does not read them
    mining = ["experiment=smollm2/latent_rm", "train=a.json", "valid=b.json", "test=c.json"]
    train = compose("mine", *mining)["data"]["init_args"]["train"]
    assert [paths_of(source) for source in train["init_args"]["exclude"]] == [["b.json", "c.json"]]
    # beside those of the folder, where problems to train on come from there
    folder = ["problems_dir=P", "valid=b.json", "test=c.json"]
    train = compose("fit", "experiment=recipes/smollm2_cot", *folder)["data"]["init_args"]["train"]
    *given, own = [paths_of(source) for source in train["init_args"]["exclude"]]
    assert own == ["b.json", "c.json"]
    assert any(path.startswith("P/") for paths in given for path in paths)


@pytest.mark.slow
def test_older_keys_go_on_working() -> None:
    tree = compose("fit", "experiment=files/reasoner", "problems_dir=P", "train_files=[a.json]")
    data = tree["data"]["init_args"]
    assert paths_of(data["train"]) == ["a.json"]
    assert paths_of(data["val"]) == ["P/eval/gsm_valid.json"]
    assert paths_of(data["test"]) == ["P/eval/multiarith.json"]
    both = compose("fit", "experiment=files/reasoner", "problems_dir=P", "train=a.json")
    assert paths_of(both["data"]["init_args"]["val"]) == ["P/eval/gsm_valid.json"]
    found = compose("predict", "experiment=files/search", "problems_dir=P")
    assert paths_of(found["data"]["init_args"]["problems"]) == ["P/eval/multiarith.json"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("fit experiment=demo/reasoner train=a.json", "needs valid=FILE beside it"),
        ("predict experiment=demo/search train=a.json valid=b.json", "give test= (the data"),
        ("tune experiment=demo/tune test=a.json", "give valid= (the data"),
        ("mine experiment=demo/latent_rm test=a.json", "give train= valid= (the data"),
        ("fit experiment=demo/reasoner train=3 valid=b.json", "train=3 must be a problem file"),
        ("fit experiment=demo/latent_rm pretrained=m", "which LatentRMModule has no place for"),
        ("predict experiment=demo/search pretrained=m", "which LatentSearch has no place for"),
    ],
)
def test_refused(line: str, expected: str) -> None:
    command, *overrides = line.split()
    with pytest.raises(ConfigError) as raised:
        compose(command, *overrides)
    assert expected in str(raised.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "experiment", "file", "example"),
    [
        ("fit", "files/reasoner", "data/train/gsm8k_train_steps.json", "train=FILE valid=FILE"),
        ("mine", "files/latent_rm", "data/train/gsm8k_train_steps.json", "train=FILE valid=FILE"),
        ("validate", "files/reasoner", "data/eval/gsm_valid.json", "train=FILE valid=FILE"),
        ("predict", "files/search", "data/eval/multiarith.json", "test=FILE"),
        ("fit", "recipes/smollm2_cot", "data/train/gsm8k_train_steps.json", "train=FILE"),
    ],
)
def test_files_that_are_not_there(
    command: str, experiment: str, file: str, example: str, tmp_path: Path, monkeypatch
) -> None:
    """Which the experiments with files say without `problems_dir`."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as raised:
        check_files(command, compose(command, f"experiment={experiment}"))
    assert f"problem file {file} does not exist" in str(raised.value)
    assert f"give your own problems: {example}" in str(raised.value)


@pytest.mark.slow
def test_files_of_other_commands_may_be_missing(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.json").touch()
    for command, key in (("test", "test"), ("validate", "valid")):
        check_files(command, compose(command, "experiment=files/reasoner", f"{key}=a.json"))
    check_files("fit", compose("fit", "experiment=demo/reasoner"))


@pytest.mark.slow
def test_pretrained_takes_the_place_of_the_start() -> None:
    tree = compose("fit", "experiment=files/reasoner", "pretrained=models/mine")
    assert tree["model"]["init_args"]["start"] == {"pretrained": "models/mine"}
    adapters = ["+lora@model.init_args.start.lora=small", "pretrained=models/mine"]
    start = compose("fit", "experiment=methods/codi", *adapters)["model"]["init_args"]["start"]
    assert start["pretrained"] == "models/mine"
    assert start["lora"]["rank"] > 0


SMALL = ["trainer.accelerator=cpu", "trainer.enable_progress_bar=false", "trainer.max_epochs=1"]


def write(path: Path, first: int, count: int) -> str:
    """A file of problems, numbered from `first` on."""
    numbers = range(first, first + count)
    rows = [
        {"question": f"What is {i} + 1?", "steps": [f"{i}+1"], "answer": i + 1} for i in numbers
    ]
    path.write_text(json.dumps(rows))
    return path.name


@pytest.mark.slow
def test_own_files_and_a_model_of_ones_own(tmp_path: Path, monkeypatch, capsys) -> None:
    """A Hugging Face folder and two files to a trained reasoner."""
    monkeypatch.chdir(tmp_path)
    make_base(tmp_path / "model", "gpt2")
    given = [
        f"train={write(tmp_path / 'a.json', 0, 8)}",
        f"valid={write(tmp_path / 'b.json', 8, 4)}",
    ]
    given += ["data.init_args.batch_size=4", "callbacks.flat_accuracy=null", "pretrained=model"]
    arguments = ["fit", "experiment=files/reasoner", *given, *SMALL]
    assert ltts(monkeypatch, *arguments) == 0, capsys.readouterr().err
    saved = yaml.safe_load((tmp_path / "logs/files/reasoner/fit.yaml").read_text())
    assert saved["data"]["init_args"]["train"]["init_args"]["paths"] == ["a.json"]
    assert saved["model"]["init_args"]["start"] == {"pretrained": "model"}
    capsys.readouterr()
    as_list = [f"{option.replace('=', '=[')}]" for option in given[:2]]
    assert ltts(monkeypatch, "fit", "experiment=files/reasoner", *as_list, *given[2:], *SMALL) == 0
    assert "holds the finished run of these settings" in capsys.readouterr().out


@pytest.mark.slow
def test_files_take_the_place_of_the_built_in_task(
    gpt2: LatentReasoner, tmp_path: Path, monkeypatch, capsys
) -> None:
    """Nothing is said of options of the class before, and the rows are those of the file."""
    monkeypatch.chdir(tmp_path)
    save_reasoner(gpt2, tmp_path / "r.ckpt")
    rows = [{"question": "Ann has 7 pens. How many pens are left?", "answer": 7, "id": "mine"}]
    (tmp_path / "d.json").write_text(json.dumps(rows))
    given = ["experiment=demo/search", "reasoner=r.ckpt", "latent_rm=null", "test=d.json"]
    options = ["model.init_args.beam=null", "model.init_args.num_samples=2", *SMALL]
    assert ltts(monkeypatch, "predict", *given, *options) == 0
    (line,) = (tmp_path / "logs/demo/search/predictions.jsonl").read_text().splitlines()
    assert json.loads(line)["id"] == "mine"
    assert "left out" not in capsys.readouterr().err
