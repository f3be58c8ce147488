"""What libraries say, and what of it a user reads.

Each message is tidied as this version of the library writes it; where the library changes its
words, the live half of the test fails.
"""

import errno
import os
import sys
from pathlib import Path

import hydra
import pytest
from hydra.errors import HydraException
from jsonargparse import ArgumentError, ArgumentParser
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lightning_ltts import cli
from lightning_ltts.cli.hydra_front import config_folder
from lightning_ltts.cli.messages import fail, one_line_errors, tidy_hydra, tidy_parser

UNION = """\
Parser key "epochs":
  Does not validate against any of the Union subtypes
  Subtypes: [<class 'int'>, <class 'NoneType'>]
  Errors:
    - Expected a <class 'int'>
    - Expected a <class 'NoneType'>
  Given value type: <class 'str'>
  Given value: abc"""
NOT_FOUND = """\
In 'config': Could not find 'sampler/nope'

Available options in 'sampler':
\tdeterministic
\tgaussian_noise
\tlearned_noise
\tmc_dropout
\tpaper_dropout
\tpaper_noise
\tsingular_values
\tsingular_values_codi
\ttoken_sampling
Config search path:
\tprovider=hydra, path=pkg://hydra.conf
\tprovider=main, path=file://{folder}
\tprovider=schema, path=structured://"""
NO_KEY = "Interpolation key 'nope' not found\n    full_key: a\n    object_type=dict"


def words(message: str) -> str:
    """As `fail` prints it."""
    return " ".join(message.split())


def test_option_of_several_types() -> None:
    assert words(tidy_parser(UNION)) == "Parser key \"epochs\": Expected a <class 'int'>"
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--epochs", type=int | None)
    with pytest.raises(ArgumentError) as raised:
        parser.parse_args(["--epochs=abc"])
    assert str(raised.value) == UNION


def test_configuration_that_is_not_there() -> None:
    said = NOT_FOUND.format(folder=config_folder())
    assert words(tidy_hydra(said)).startswith(
        "In 'config': Could not find 'sampler/nope' Available options in 'sampler': deterministic"
    )
    assert "Config search path" not in tidy_hydra(said)
    assert tidy_hydra(said.replace("nope", "mcdropout")).endswith("; did you mean mc_dropout?")
    with (
        hydra.initialize_config_dir(str(config_folder()), version_base="1.3"),
        pytest.raises(HydraException) as raised,
    ):
        hydra.compose("config", ["sampler=nope"])
    assert str(raised.value) == said


def test_interpolation_of_nothing() -> None:
    assert tidy_hydra(NO_KEY) == "Interpolation key 'nope' not found"
    with pytest.raises(OmegaConfBaseException) as raised:
        OmegaConf.to_container(OmegaConf.create({"a": "${nope}"}), resolve=True)
    assert str(raised.value) == NO_KEY


def test_one_line(capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        fail("two\n  lines")
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: two lines\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own/experiment").mkdir(parents=True)
    (tmp_path / "afile").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"# @package _global_\nname: [1\nb: {", "own/experiment/bad.yaml, line 3"),
        (b"# @package _global_\nname: caf\xe9\n", "own/experiment/bad.yaml is not UTF-8"),
    ],
    ids=["not YAML", "not UTF-8"],
)
def test_experiment_that_cannot_be_read(
    content: bytes, expected: str, here: Path, monkeypatch, capsys
) -> None:
    (here / "own/experiment/bad.yaml").write_bytes(content)
    monkeypatch.setattr(sys, "argv", ["ltts", "fit", "--config-dir", "own", "experiment=bad"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert expected in line


@pytest.mark.parametrize("form", [["--config", "bad.yaml"], ["--config=bad.yaml"]])
@pytest.mark.parametrize(
    ("content", "expected"),
    [(b"trainer: [1\nb: {", "bad.yaml, line 2"), (b"trainer: caf\xe9\n", "bad.yaml is not UTF-8")],
    ids=["not YAML", "not UTF-8"],
)
def test_configuration_that_cannot_be_read(
    content: bytes, expected: str, form: list[str], here: Path, monkeypatch, capsys
) -> None:
    (here / "bad.yaml").write_bytes(content)
    monkeypatch.setattr(sys, "argv", ["ltts", "fit", *form])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert expected in line


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        "fit name=../afile/x",
        "predict name=../afile/x",
        "mine experiment=demo/latent_rm reasoner=x name=../afile",
        "tune experiment=demo/tune reasoner=x name=../afile/x",
        "validate name=../afile/x",
        "test name=../afile/x",
        "fit hydra.run.dir=/proc/no/such",
    ],
)
def test_folder_that_cannot_be_made(words: str, here: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["ltts", *words.split()])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("error: ")
    assert "afile" in line or "/proc/no" in line
    assert (here / "afile").read_bytes() == b""


def test_full_disk(capsys) -> None:
    with pytest.raises(SystemExit) as stop, one_line_errors():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "logs/x/last.ckpt")
    assert stop.value.code == 2
    assert capsys.readouterr().err == (
        "error: logs/x/last.ckpt: No space left on device; check the path, its permissions and "
        "the free space\n"
    )


def test_bug_keeps_its_traceback() -> None:
    with pytest.raises(ValueError, match="ours"), one_line_errors():
        raise ValueError("ours")
