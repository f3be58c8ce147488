"""A class that is replaced on the command line, through Hydra as through LightningCLI."""

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from lightning_ltts import cli
from lightning_ltts.cli.class_paths import name_the_class, swap_classes

FILES = "lightning_ltts.data.problems.ProblemFiles"
WORDS = "lightning_ltts.data.word_problems.WordProblems"


def source(class_path: str, **options: Any) -> dict[str, Any]:
    return {"data": {"train": {"class_path": class_path, "init_args": options}}}


@pytest.mark.parametrize(
    ("overrides", "kept"),
    [
        ([f"data.train.class_path={FILES}"], {"limit"}),
        ([f"++data.train.class_path={FILES}"], {"limit"}),
        ([f"++data.train={{class_path: {FILES}}}"], {"limit"}),
        (["data.train.init_args.limit=1"], {"limit", "size", "seed"}),
        # what is given stays, so that LightningCLI refuses it
        ([f"data.train.class_path={FILES}", "++data.train.init_args.size=3"], {"limit", "size"}),
        ([f"++data.train={{class_path: {FILES}, init_args: {{size: 3}}}}"], {"limit", "size"}),
        (["data.train.class_path=no.Such"], {"limit", "size", "seed"}),
        (["~data.val"], {"limit", "size", "seed"}),
    ],
)
def test_left_behind_options(overrides: list[str], kept: set[str]) -> None:
    class_path = "no.Such" if "no.Such" in overrides[0] else FILES
    tree = source(class_path, limit=1, size=2, seed=3)
    swap_classes(tree, overrides)
    assert set(tree["data"]["train"]["init_args"]) == kept


def test_an_experiment_replaces_classes_too() -> None:
    tree = source(FILES, limit=1, size=2, seed=3)
    swap_classes(tree, [], {"data": {"train": {"class_path": FILES}}})
    assert set(tree["data"]["train"]["init_args"]) == {"limit"}
    tree = source(FILES, limit=1, size=2, seed=3)
    swap_classes(tree, [], {"data": {"train": {"class_path": FILES, "init_args": {"size": 2}}}})
    assert set(tree["data"]["train"]["init_args"]) == {"limit", "size"}  # given, to be refused
    tree = source(FILES, limit=1, size=2)
    swap_classes(tree, [f"data.train.class_path={FILES}"], {"data": {"train": {"x": 1}}})
    assert set(tree["data"]["train"]["init_args"]) == {"limit"}


@pytest.mark.slow
def test_source_of_an_own_experiment(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own/experiment").mkdir(parents=True)
    (tmp_path / "own/experiment/mine.yaml").write_text(
        f"# @package _global_\ndata:\n  init_args:\n    train:\n      class_path: {FILES}\n"
        "      init_args:\n        paths: [a.json]\n"
        "trainer:\n  logger:\n    class_path: lightning.pytorch.loggers.CSVLogger\n"
    )
    config = printed(monkeypatch, capsys, "fit", "--config-dir", "own", "experiment=mine")
    assert config["data"]["init_args"]["train"]["init_args"]["paths"] == ["a.json"]
    assert config["data"]["init_args"]["val"]["class_path"] == WORDS
    assert config["trainer"]["logger"]["init_args"]["save_dir"].endswith("tensorboard")


def printed(monkeypatch: pytest.MonkeyPatch, capsys, *arguments: str) -> dict[str, Any]:
    monkeypatch.setattr(sys, "argv", ["ltts", *arguments, "--print_config"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 0
    return yaml.safe_load(capsys.readouterr().out)


@pytest.mark.slow
def test_source_model_and_logger(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    train = "data.init_args.train"
    config = printed(
        monkeypatch,
        capsys,
        "fit",
        f"{train}.class_path={FILES}",
        f"{train}.init_args.paths=[a.json]",
        "model.class_path=lightning_ltts.training.codi.CodiModule",
        "trainer.logger.class_path=lightning.pytorch.loggers.CSVLogger",
    )
    assert config["data"]["init_args"]["train"]["init_args"]["paths"] == ["a.json"]
    assert config["data"]["init_args"]["val"]["class_path"] == WORDS
    model = config["model"]["init_args"]
    assert "curriculum" not in model
    assert model["lr"] == 3e-3  # both classes have it
    assert model["start"]["backbone"]["n_embd"] == 64
    assert config["trainer"]["logger"]["init_args"]["save_dir"].endswith("tensorboard")


@pytest.mark.slow
def test_a_refused_option_is_told_with_its_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    options = ["experiment=demo/latent_rm", "name=try", "sampler.init_args.widht=2"]
    monkeypatch.setattr(sys, "argv", ["ltts", "mine", *options])
    with pytest.raises(SystemExit):
        cli.main()
    said = "option 'widht' is not accepted by lightning_ltts.sampling.GaussianNoise; its options "
    assert f"error: {said}are relative_std, std\n" in capsys.readouterr().err
    # one that stands in no file stays as the parser says it, and so does any other message
    for message in ("Option 'nope' is not accepted", "something else"):
        assert name_the_class(message) == message
