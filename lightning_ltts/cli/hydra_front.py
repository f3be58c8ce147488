"""The Hydra way in: composes a configuration, for `job.py` to write down and hand to LightningCLI."""

import os
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from lightning_ltts.cli.choices import config_folder
from lightning_ltts.cli.messages import one_line_errors
from lightning_ltts.cli.next_step import Run, next_step
from lightning_ltts.cli.own_files import check_files, resolved
from lightning_ltts.monitoring.terminal import QUIET, hushed

# of a configuration that is printed and may be run later, beside the experiment's own
NEW_FOLDER = "'logs/${name}_${now:%Y-%m-%d_%H-%M-%S-%f}'"


@cache
def _hydra_flags() -> dict[str, bool]:
    """Hydra's own flags, and whether each takes a value; `--help` is LightningCLI's here."""
    actions = get_args_parser()._option_string_actions
    flags = {flag: action.nargs is None for flag, action in actions.items()}
    return {flag: takes for flag, takes in flags.items() if flag not in ("-h", "--help")}


def wants_hydra(arguments: list[str]) -> bool:
    """Whether a command line is in Hydra's form (KEY=VALUE), not LightningCLI's (--KEY VALUE)."""
    following = dict(pairwise(arguments))
    if "-c" in arguments and following.get("-c") not in ("job", "hydra", "all"):
        return False  # LightningCLI's --config, not Hydra's --cfg
    flags = {argument.split("=")[0] for argument in arguments if argument.startswith("-")}
    return flags <= {*_hydra_flags(), "--print_config"}


def _split_flags(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Hydra's flags, each with its value, and the overrides, wherever they stood."""
    flags: list[str] = []
    overrides: list[str] = []
    value_follows = False
    for argument in arguments:
        is_flag = argument.startswith("-")
        (flags if is_flag or value_follows else overrides).append(argument)
        value_follows = is_flag and _hydra_flags().get(argument, False)
    return flags, overrides


def _loosen(argument: str) -> str:
    """`a.b=c` -> `++a.b=c`, so that an option which no file mentions can be set.

    LightningCLI refuses options that do not exist. Only the parts that have a folder of
    configurations are open in this way: Hydra itself refuses any other key that no file has.
    """
    key, _, value = argument.partition("=")
    if key == "trainer.logger" and re.fullmatch(r"[\w.]*Logger", value):
        return f"++{key}.class_path={value}"  # as in LightningCLI: options that it has stay
    parts = {path.name for path in config_folder().iterdir() if path.is_dir()} - {"hydra", "logger"}
    is_option = "=" in argument and key.split(".")[0] in parts and not {"/", "@"} & set(key)
    return f"++{argument}" if is_option and "." in key else argument


def run_hydra(
    command: str,
    arguments: list[str],
    instead: Callable[[dict[str, Any]], None] | None = None,
) -> None:
    """Composes the configuration that overrides ask for, and runs it, once or as a sweep.

    With `--print_config` it is printed instead. What is printed names a folder of its own, unless
    the name is given, so that running it does not silently write over the experiment's run.

    Args:
        command: one of LightningCLI's, or one that does something instead.
        arguments: of the command line.
        instead: what is done with the composed configuration, which is not run then.
    """
    printing = [argument for argument in arguments if argument.startswith("--print_config")]
    flags, overrides = _split_flags([a for a in arguments if a not in printing])
    # what Hydra would write is written once the folder is known to take the run
    options = [*map(_loosen, overrides), f"task={command}", "hydra.output_subdir=null"]
    named = any(option.startswith(("name=", "hydra.run.dir=")) for option in overrides)
    if printing and not named:
        options += [f"hydra.run.dir={NEW_FOLDER}"]

    def job(cfg: DictConfig) -> float | None:
        folder = Path(HydraConfig.get().runtime.output_dir)
        try:
            with one_line_errors():
                experiment = experiment_file()
                tree = resolved(command, cfg, HydraConfig.get().overrides.task, experiment)
                if not printing:
                    check_files(command, tree)
                if instead is not None:
                    instead(tree)
                    return None
            # imported when there is something to run: mistakes so far are told before that
            from lightning_ltts.cli.job import print_config, run_job

            with hushed():
                if printing:
                    print_config(command, tree, experiment, printing)
                    return None
                value = run_job(command, cfg, tree, experiment)
            if HydraConfig.get().mode != RunMode.MULTIRUN:
                _say_next(command, arguments, tree)
            return value
        finally:
            _remove_empty(folder)

    argv = sys.argv
    sys.argv = [argv[0], *flags, *options]  # Hydra's argparse wants its overrides in one run
    os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions come here, to be told in one line
    GlobalHydra.instance().clear()
    try:
        hydra.main(version_base="1.3", config_path=str(config_folder()), config_name="config")(
            job
        )()
    finally:
        sys.argv = argv


def _say_next(command: str, arguments: list[str], tree: dict[str, Any]) -> None:
    """The last line of a command: what to run next."""
    chosen = HydraConfig.get().runtime
    folder = Path(chosen.output_dir)
    line = next_step(Run(command, arguments, chosen.choices.get("experiment"), tree, folder))
    if line is not None and QUIET not in os.environ:
        print(f"next: {line}")


def experiment_file() -> dict[str, Any]:
    """What the file of the chosen experiment holds; empty where none is chosen."""
    if HydraConfig.instance().cfg is None:
        return {}
    chosen = HydraConfig.get().runtime.choices.get("experiment")
    for source in HydraConfig.get().runtime.config_sources:
        path = Path(source.path) / "experiment" / f"{chosen}.yaml"
        if source.schema == "file" and path.is_file():
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
            return content if isinstance(content, dict) else {}
    return {}


def _remove_empty(folder: Path) -> None:
    """Removes an empty folder, and the empty ones above it below the working directory."""
    here = Path.cwd()
    with suppress(OSError):  # one is not empty
        while here in folder.parents:
            folder.rmdir()
            folder = folder.parent
