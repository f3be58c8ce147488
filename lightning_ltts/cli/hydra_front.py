"""The Hydra way in: composes a configuration, writes it down and hands it to LightningCLI."""

import os
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import hydra
import torch
import yaml
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from lightning_ltts.cli.class_paths import swap_classes
from lightning_ltts.cli.composed import hydra_files, recorded
from lightning_ltts.cli.lightning_front import command_keys, run_lightning
from lightning_ltts.cli.messages import one_line_errors
from lightning_ltts.cli.run_guard import RunGuard
from lightning_ltts.errors import ConfigError, shorten

# of a configuration that is printed and may be run later, beside the experiment's own
NEW_FOLDER = "'logs/${name}_${now:%Y-%m-%d_%H-%M-%S-%f}'"


def config_folder() -> Path:
    """Where `configs/` is: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    places = (package / "configs", package.parent / "configs")
    return next(folder for folder in places if folder.is_dir())


# -- the command line


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
    parts = {path.name for path in config_folder().iterdir() if path.is_dir()} - {"hydra"}
    is_option = "=" in argument and key.split(".")[0] in parts and not {"/", "@"} & set(key)
    return f"++{argument}" if is_option and "." in key else argument


def run_hydra(command: str, arguments: list[str]) -> None:
    """Composes the configuration that overrides ask for, and runs it, once or as a sweep.

    With `--print_config` it is printed instead. What is printed names a folder of its own, unless
    the name is given, so that running it does not silently write over the experiment's run.
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
            if not printing:
                return _job(command, cfg)
            _print_config(command, cfg, printing)
            return None
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


# -- one job


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


def split_config(
    command: str, cfg: DictConfig, overrides: Sequence[str] = ()
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A composed Hydra tree -> (configuration for LightningCLI, what served composing only).

    LightningCLI gets every key that it has for any command, so that it can refuse one that
    is set but belongs to another command, and the named callbacks as a list.
    """
    tree: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)  # type: ignore[assignment]
    swap_classes(tree, overrides, experiment_file())
    for part in ("trainer", "callbacks"):
        if not isinstance(tree.get(part) or {}, dict) or (part == "trainer" and not tree.get(part)):
            raise ConfigError(
                f"{part}={shorten(tree.get(part))} must be options by their names, for instance "
                f"{part}.{'max_epochs=3' if part == 'trainer' else 'throughput=null'}"
            )
    named = tree.pop("callbacks", None) or {}
    given = tree["trainer"].get("callbacks") or []
    given = given if isinstance(given, list) else [given]
    tree["trainer"]["callbacks"] = [*filter(None, named.values()), *given]
    ours, anyones = command_keys(command), command_keys()
    lightning = {k: v for k, v in tree.items() if k in ours or (k in anyones and v is not None)}
    if lightning.get("ckpt_path") is None:
        lightning.pop("ckpt_path", None)
    return lightning, {key: value for key, value in tree.items() if key not in anyones}


def _print_config(command: str, cfg: DictConfig, printing: list[str]) -> None:
    """Prints the composed configuration; nothing is left on disk."""
    with one_line_errors():
        tree, _ = split_config(command, cfg, HydraConfig.get().overrides.task)
    folder = Path(HydraConfig.get().runtime.output_dir)
    print(f"# ltts {command} --config THIS_FILE writes to {folder}")
    argv = sys.argv
    with TemporaryDirectory() as temporary:
        composed = Path(temporary) / f"{command}.yaml"
        OmegaConf.save(OmegaConf.create(tree), composed)
        sys.argv = [argv[0], command, "--config", str(composed), *printing]
        try:
            run_lightning()
        finally:
            sys.argv = argv


def _remove_empty(folder: Path) -> None:
    """Removes an empty folder, and the empty ones above it below the working directory."""
    here = Path.cwd()
    with suppress(OSError):  # one is not empty
        while here in folder.parents:
            folder.rmdir()
            folder = folder.parent


def _job(command: str, cfg: DictConfig) -> float | None:
    """Runs the composed configuration; returns what a sweep optimizes."""
    with one_line_errors():
        if HydraConfig.get().job.chdir:
            raise ConfigError(
                "hydra.job.chdir=true would move the paths of the configuration, which are "
                "relative to the working directory; leave it out: a run writes to its own folder "
                "without it"
            )
        tree, composing = split_config(command, cfg, HydraConfig.get().overrides.task)
    folder = Path(HydraConfig.get().runtime.output_dir)
    composed, guard = folder / f"{command}.yaml", RunGuard()
    files = {composed.name: OmegaConf.to_yaml(OmegaConf.create(tree)), **hydra_files(cfg)}
    # processes of a distributed run start sys.argv again: they must not compose, or sweep, again
    argv, hydra_config, environment = sys.argv, HydraConfig.instance().cfg, set(os.environ)
    sys.argv = [argv[0], command, "--config", str(composed)]
    HydraConfig.instance().cfg = None
    try:
        with one_line_errors(), recorded(folder, files, guard):
            metrics = run_lightning(guard)
    finally:
        sys.argv, HydraConfig.instance().cfg = argv, hydra_config
        _forget_distributed(environment)
    value = metrics.get(composing["optimized_metric"])
    return None if value is None else float(value)


def _forget_distributed(environment: set[str]) -> None:
    """Lets the next job of a sweep start its own process group in this process."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    names = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE")
    for name in (*names, "PL_GLOBAL_SEED"):
        if name not in environment:
            os.environ.pop(name, None)
