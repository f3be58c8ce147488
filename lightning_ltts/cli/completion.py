"""Completion of commands, experiments and keys by the Tab key: Hydra's own, with two additions.

    eval "$(ltts -sc install=bash)"      also in zsh; in fish: ltts -sc install=fish | source

The shell then calls `ltts -sc query=SHELL` with the line so far in COMP_LINE. Hydra knows neither
commands nor choices in folders (`demo/reasoner`), so these are answered here.
"""

import os
import sys
from collections.abc import Sequence

from lightning_ltts.cli.choices import choices_of, config_folder, own_folders
from lightning_ltts.cli.commands import COMMANDS

LINE = "COMP_LINE"  # environment variable, what is typed so far


def complete(arguments: Sequence[str]) -> None:
    """`ltts -sc install=SHELL`, `uninstall=SHELL`, and what the shell asks, `query=SHELL`."""
    shell = dict(argument.partition("=")[::2] for argument in arguments).get("query")
    if shell is None:
        _hydra(arguments)
        return
    words = os.environ.get(LINE, "").split(" ")[1:]
    answer = candidates(words)
    if answer is None:
        before = os.environ[LINE]
        # Hydra takes the first word for its application, and all others for overrides
        os.environ[LINE] = " ".join(["ltts", *words[1:]])
        try:
            _hydra(arguments)
        finally:
            os.environ[LINE] = before
    else:
        print(("\n" if shell == "fish" else " ").join(answer))


def candidates(words: Sequence[str]) -> list[str] | None:
    """What the last of some words can become; None where Hydra knows.

    Args:
        words: those after `ltts`, the last one, which may be empty, unfinished.
    """
    *before, last = words or [""]
    if not before:
        return sorted(name for name in COMMANDS if name.startswith(last))
    if before[0] not in COMMANDS or not COMMANDS[before[0]].composed:
        return []  # the shell's own completion knows files
    if last and "experiment=".startswith(last):
        return ["experiment="]
    group, equals, _ = last.partition("=")
    folders = own_folders(before)
    groups = [folder / group for folder in (config_folder(), *folders)]
    if not equals or "/" in group or not any(folder.is_dir() for folder in groups):
        return None
    choices = (f"{group}={choice}" for choice in choices_of(group, folders))
    return [choice for choice in choices if choice.startswith(last)]


def _hydra(arguments: Sequence[str]) -> None:
    """Hydra's own answer."""
    import hydra

    argv = sys.argv
    sys.argv = ["ltts", "-sc", *arguments]  # the name that completion is installed for
    try:
        hydra.main(version_base="1.3", config_path=str(config_folder()), config_name="config")(
            lambda _: None
        )()
    finally:
        sys.argv = argv
