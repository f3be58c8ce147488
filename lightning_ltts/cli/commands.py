"""The commands, and the pages that explain them, which need nothing but text."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from lightning_ltts.cli.choices import config_folder, list_experiments, nearest, own_folders
from lightning_ltts.errors import shorten

OVERWRITE = "LTTS_OVERWRITE"  # environment variable, for the other processes of a distributed run
HELP_FLAGS = {"-h", "--help"}
HELP_ALL = "--help-all"


class Command(NamedTuple):
    """What a command is."""

    about: str
    composed: bool = True  # whether Hydra composes its configuration, which LightningCLI runs


COMMANDS = {
    "fit": Command("train a reasoner, or mine and train a LatentRM"),
    "mine": Command("mine the trajectories that training a LatentRM needs, and no more"),
    "validate": Command("validate a checkpoint"),
    "test": Command("test a checkpoint"),
    "predict": Command("search over a problem set"),
    "tune": Command("choose strength and rules on validation problems, for predict"),
    "plan": Command("what mining or searching would take, before it runs"),
    "report": Command("sum up prediction files", composed=False),
    "import": Command("any checkpoint to a folder", composed=False),
    "export": Command("a trained checkpoint to a folder", composed=False),
    "push": Command("a folder of a model to the Hugging Face Hub", composed=False),
    "lm-eval": Command("tasks of lm-evaluation-harness, answered by a search", composed=False),
    "init": Command(
        "configurations of a task of your own, from a file of problems", composed=False
    ),
    "list": Command("the experiments, a line each", composed=False),
}
USAGE = """usage: ltts COMMAND [experiment=NAME] [KEY=VALUE ...]      (Hydra)
       ltts COMMAND --config FILE [--KEY VALUE ...]        (LightningCLI)

commands:
{commands}

experiments:
{experiments}

  ltts COMMAND --help                          what a command takes, and its experiments
  ltts COMMAND --help-all                      every option of a command
  ltts COMMAND --model.help CLASS              every option of a model (likewise --data.help)
  ltts COMMAND experiment=NAME --print_config  the composed configuration, without running it
  ltts COMMAND --config-dir DIR experiment=X   finds DIR/experiment/X.yaml too
  ltts fit ... --overwrite                     starts anew in a folder that holds a training
  ltts COMMAND ... --quiet                     errors and the result alone: no bars, no warnings
  ltts plan experiment=X --devices 8           also --tflops (of a device), --mixed (share of
                                               informative questions), --shape gpt2|llama-1b|llama-8b
                                               for a backbone without a checkpoint
  ltts predict ... --json                      the summary as one line on stdout; likewise report
  ltts --version                               the version of the package
  eval "$(ltts -sc install=bash)"              the Tab key completes commands, experiments, keys
"""
COMMAND_PAGE = """usage: ltts {command} [experiment=NAME] [KEY=VALUE ...]

{about}

experiments for it:
{experiments}

keys, beside those of the files in configs/:
{keys}
  model.init_args.X, data.init_args.X, sampler.init_args.X, trainer.X, callbacks.NAME.init_args.X

  ltts {command} experiment=NAME --print_config   the composed configuration, without running it
  ltts {command} --help-all                       every option, as LightningCLI has them
  ltts {command} --model.help CLASS               every option of a model (likewise --data.help)
"""
# keys of config.yaml that are no option of a command
_NO_OPTIONS = ("defaults", "task")


def usage() -> str:
    """The page of `ltts --help`."""
    commands = "\n".join(f"  {name:10} {command.about}" for name, command in COMMANDS.items())
    return USAGE.format(commands=commands, experiments=list_experiments())


def command_page(command: str, arguments: Sequence[str] = ()) -> str:
    """The page of `ltts COMMAND --help`, for a command that Hydra composes.

    Args:
        command: its name.
        arguments: of the command line, which may add experiments by `--config-dir`.
    """
    given = [folder for folder in own_folders(arguments) if folder.is_dir()]
    fitting = command if command in ("fit", "mine", "predict", "tune") else "fit"
    return COMMAND_PAGE.format(
        command=command,
        about=COMMANDS[command].about,
        experiments=list_experiments(given, fitting),
        keys=_keys(config_folder() / "config.yaml"),
    )


def _keys(path: Path) -> str:
    """The keys that a configuration explains, each with the comment beside it."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        key, colon, rest = line.partition(":")
        about = rest.partition("  # ")[2]
        if colon and about and key.isidentifier() and key not in _NO_OPTIONS:
            lines.append(f"  {key + '=':18} {about}")
    return "\n".join(lines)


def unknown_command(command: str) -> str:
    """What to say of a command that there is not."""
    close = nearest(command, list(COMMANDS))
    meant = f"did you mean '{close}'? The commands" if close else "the commands"
    return f"{shorten(command)} is not a command; {meant} are {', '.join(COMMANDS)}"
