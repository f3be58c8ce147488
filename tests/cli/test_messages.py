"""What libraries say, and what of it a user reads.

Each message is tidied as this version of the library writes it; where the library changes its
words, the live half of the test fails.
"""

import hydra
import pytest
from hydra.errors import HydraException
from jsonargparse import ArgumentError, ArgumentParser
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lightning_ltts.cli.hydra_front import config_folder
from lightning_ltts.cli.messages import fail, tidy_hydra, tidy_parser

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
\tmc_dropout
\tpaper_dropout
\tpaper_noise
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
    assert tidy_hydra(said).endswith("'ltts --help' lists the experiments")
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
