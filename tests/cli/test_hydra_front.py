"""Which command lines are Hydra's, what they are composed to, and what of it LightningCLI sees."""

import copy
from pathlib import Path

import pytest
import yaml
from hydra.core.hydra_config import HydraConfig
from lightning.pytorch import LightningDataModule, LightningModule
from omegaconf import DictConfig

from lightning_ltts.cli.commands import COMMANDS
from lightning_ltts.cli.hydra_front import _loosen, _split_flags, wants_hydra
from lightning_ltts.cli.job import split_config
from lightning_ltts.cli.lightning_front import LTTSCLI, command_keys
from lightning_ltts.trainer import Trainer
from tests.cli.helpers import ltts

pytestmark = pytest.mark.slow


class ParsersMadeError(Exception):
    """Raised where LightningCLI would begin to parse."""


class OnlyParsers(LTTSCLI):
    """Stops when the parsers are made."""

    parsers: dict = {}  # noqa: RUF012

    def parse_arguments(self, parser, args) -> None:
        OnlyParsers.parsers = self._subcommand_parsers
        raise ParsersMadeError


def test_command_keys_are_those_of_the_parsers() -> None:
    with pytest.raises(ParsersMadeError):
        OnlyParsers(
            LightningModule,
            LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            trainer_class=Trainer,
            auto_configure_optimizers=False,
        )
    assert set(OnlyParsers.parsers) == {"fit", "validate", "test", "predict", "mine", "tune"}
    composed = {name for name, c in COMMANDS.items() if c.composed}
    assert set(OnlyParsers.parsers) == composed - {"plan"}  # which runs nothing
    for command, parser in OnlyParsers.parsers.items():
        keys = {action.dest.split(".")[0] for action in parser._actions}
        assert command_keys(command) == keys - {"help", "config", "print_config"}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", True),
        ("experiment=demo/reasoner trainer.max_epochs=3", True),
        ("experiment=demo/reasoner -m model.init_args.lr=1,2", True),
        ("experiment=demo/reasoner --print_config", True),
        ("experiment=demo/reasoner --print_config=skip_null", True),
        ("--config-dir own experiment=x --cfg job --resolve", True),
        ("experiment=demo/reasoner -c job", True),
        ("--config run.yaml", False),
        ("-c run.yaml", False),
        ("-c", False),
        ("--config=run.yaml --trainer.max_epochs 3", False),
        ("--help", False),
        ("-h", False),
        ("--model.help lightning_ltts.training.coconut.CoconutModule", False),
    ],
)
def test_form_of_a_command_line(line: str, expected: bool) -> None:
    assert wants_hydra(line.split()) is expected


def test_flags_keep_their_values_wherever_they_stand() -> None:
    line = "a=1 --config-dir own -m b=2 --info defaults-tree -cn name c=3"
    flags, overrides = _split_flags(line.split())
    assert flags == ["--config-dir", "own", "-m", "--info", "-cn", "name"]
    assert overrides == ["a=1", "b=2", "defaults-tree", "c=3"]
    assert _split_flags(["--config-dir"]) == (["--config-dir"], [])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("model.init_args.lr=1", "++model.init_args.lr=1"),
        ("callbacks.new.class_path=x.Y", "++callbacks.new.class_path=x.Y"),
        ("sampler.init_args.p=0.1", "++sampler.init_args.p=0.1"),
        ("sampler=mc_dropout", "sampler=mc_dropout"),
        ("reasoner=a.ckpt", "reasoner=a.ckpt"),
        ("start@model.init_args.start=gpt2", "start@model.init_args.start=gpt2"),
        ("~callbacks.last", "~callbacks.last"),
        ("+trainer.x=1", "+trainer.x=1"),
        ("hydra.run.dir=x", "hydra.run.dir=x"),
        ("tainer.max_epochs=3", "tainer.max_epochs=3"),  # Hydra refuses it
    ],
)
def test_options_that_no_file_has_may_be_set(given: str, expected: str) -> None:
    assert _loosen(given) == expected


def test_what_serves_composing_stays_behind() -> None:
    tree = {
        "task": "fit", "name": "x", "reasoner": "r.ckpt", "own": 3,
        "model": {"class_path": "M"}, "data": {"class_path": "D"}, "seed_everything": 1,
        "ckpt_path": None, "trainer": {"max_epochs": 1},
        "callbacks": {"first": {"class_path": "A"}, "off": None, "last": {"class_path": "B"}},
    }  # fmt: skip
    lightning, composing = split_config("fit", tree)
    assert set(lightning) == {"model", "data", "seed_everything", "trainer"}
    assert lightning["trainer"]["callbacks"] == [{"class_path": "A"}, {"class_path": "B"}]
    assert composing == {"task": "fit", "name": "x", "reasoner": "r.ckpt", "own": 3}


def test_option_of_another_command_is_not_left_out() -> None:
    """LightningCLI shall refuse it by name."""
    tree = {"trainer": {"max_epochs": 1}, "verbose": False, "ckpt_path": "x.ckpt"}
    assert split_config("fit", copy.deepcopy(tree))[0]["verbose"] is False
    assert split_config("mine", tree)[0]["ckpt_path"] == "x.ckpt"


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["fit", "mdoel.init_args.lr=3"], "mdoel"),
        (["fit", "tainer.max_epochs=3"], "tainer"),
        (["fit", "optimizer.class_path=torch.optim.SGD"], "optimizer"),
        (["fit", "reasonr=x.ckpt"], "reasonr"),
        (["fit", "+verbose=false"], "verbose"),
        (["mine", "ckpt_path=x.ckpt"], "ckpt_path"),
    ],
    ids=str,
)
def test_unknown_top_level_keys_are_refused(
    arguments: list[str], name: str, tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    assert ltts(monkeypatch, *arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert name in line


def test_own_key_may_serve_composing(tmp_path: Path, monkeypatch, capsys) -> None:
    """Also one that the command line adds, for instance to sweep over what stands in two places."""
    monkeypatch.chdir(tmp_path)
    both = ["model.init_args.lr=${rate}", "model.init_args.weight_decay=${rate}"]
    assert ltts(monkeypatch, "fit", "+rate=0.5", *both, "--print_config") == 0
    options = yaml.safe_load(capsys.readouterr().out)["model"]["init_args"]
    assert (options["lr"], options["weight_decay"]) == (0.5, 0.5)


def folders_of(config: dict) -> set[str]:
    """Every folder that a printed configuration of fit writes to."""
    callbacks = config["trainer"]["callbacks"]
    named = [c["init_args"]["dirpath"] for c in callbacks if "dirpath" in c.get("init_args", {})]
    return {
        config["trainer"]["default_root_dir"],
        str(Path(config["trainer"]["logger"]["init_args"]["save_dir"]).parent),
        *(str(Path(folder).parent) for folder in named),
    }


def test_printed_configuration_has_a_folder_of_its_own(tmp_path: Path, monkeypatch, capsys) -> None:
    """Running it must not write over the experiment's run, and printing leaves nothing behind."""
    monkeypatch.chdir(tmp_path)
    seen = []
    for _ in range(2):
        assert ltts(monkeypatch, "fit", "experiment=demo/reasoner", "--print_config") == 0
        text = capsys.readouterr().out
        (folder,) = folders_of(yaml.safe_load(text))
        assert text.splitlines()[0].endswith(f"writes to {folder}")
        assert Path(folder).parent == tmp_path / "logs/demo"
        seen.append(folder)
    assert str(tmp_path / "logs/demo/reasoner") not in seen
    assert len(set(seen)) == 2
    assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize("given", ["name=own", "hydra.run.dir=logs/own"])
def test_printed_configuration_keeps_a_given_folder(
    given: str, tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "logs/own").mkdir(parents=True)
    (tmp_path / "logs/own/kept").touch()
    assert ltts(monkeypatch, "fit", "experiment=demo/reasoner", given, "--print_config") == 0
    assert folders_of(yaml.safe_load(capsys.readouterr().out)) == {str(tmp_path / "logs/own")}
    assert [path.name for path in (tmp_path / "logs/own").iterdir()] == ["kept"]


def test_sweeps_of_one_second_have_folders_of_their_own(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)

    def write(
        command: str, cfg: DictConfig, *_: object
    ) -> None:  # an empty folder would be taken away
        Path(HydraConfig.get().runtime.output_dir, "written").touch()

    monkeypatch.setattr("lightning_ltts.cli.job.run_job", write)
    for _ in range(2):
        assert ltts(monkeypatch, "fit", "experiment=demo/reasoner", "seed_everything=1", "-m") == 0
    assert len(list(tmp_path.glob("logs/multirun/*/0"))) == 2


def test_working_directory_stays(tmp_path: Path, monkeypatch, capsys) -> None:
    """Paths such as the reasoner's are relative to it."""
    monkeypatch.chdir(tmp_path)
    assert ltts(monkeypatch, "fit", "experiment=demo/reasoner", "hydra.job.chdir=true") == 2
    assert "hydra.job.chdir" in capsys.readouterr().err
    assert Path.cwd() == tmp_path


def test_given_callbacks_are_added_to_the_named_ones(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    given = "[{class_path: lightning.pytorch.callbacks.DeviceStatsMonitor}]"
    for form in (given, given[1:-1]):
        options = ["experiment=demo/reasoner", f"trainer.callbacks={form}", "--print_config"]
        assert ltts(monkeypatch, "fit", *options) == 0
        callbacks = yaml.safe_load(capsys.readouterr().out)["trainer"]["callbacks"]
        names = [callback["class_path"].rsplit(".", 1)[-1] for callback in callbacks]
        assert names[0] == "ModelCheckpoint"
        assert names[-2:] == ["FlatAccuracy", "DeviceStatsMonitor"]
