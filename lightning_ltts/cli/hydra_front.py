"""The Hydra way in: composes a configuration, writes it down and hands it to LightningCLI."""

import os
import sys
from pathlib import Path
from typing import Any

import hydra
import torch
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from lightning_ltts.cli.lightning_front import run_lightning
from lightning_ltts.cli.messages import one_line_errors

VALUE_FLAGS = {"--cfg", "-c", "--config-dir", "-cd", "--config-name", "-cn", "--package", "-p"}


HYDRA_FLAGS = {"-m", "--multirun", "--info", "-i", "--resolve", "--hydra-help", "--run", "-r", *VALUE_FLAGS}


# keys of the composed tree that serve composing only; LightningCLI does not see them
COMPOSE_KEYS = (
    "task", "name", "sampler", "optimized_metric", "reasoner", "latent_rm", "problems_dir", "model_dir", "train_files", "paper",
    "extra_argv",
)  # fmt: skip


def config_folder() -> Path:
    """Where `configs/` is: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    return next(folder for folder in (package / "configs", package.parent / "configs") if folder.is_dir())


def split_config(cfg: DictConfig) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """A composed Hydra tree -> (command, configuration for LightningCLI, what served composing only)."""
    tree: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)  # type: ignore[assignment]
    rest = {key: tree.pop(key, None) for key in COMPOSE_KEYS}
    named = tree.pop("callbacks", None) or {}
    if tree.get("ckpt_path") is None:  # not every command has this option
        tree.pop("ckpt_path", None)
    tree["trainer"]["callbacks"] = [callback for callback in named.values() if callback]
    return rest["task"], tree, rest


def _hydra_job(cfg: DictConfig) -> float | None:
    with one_line_errors():
        task, tree, rest = split_config(cfg)
    folder = Path(HydraConfig.get().runtime.output_dir)
    composed = folder / f"{task}.yaml"
    OmegaConf.save(OmegaConf.create(tree), composed)
    # the processes of a distributed run start sys.argv again: they must not compose, or sweep, a second time
    argv, hydra_config, environment = sys.argv, HydraConfig.instance().cfg, set(os.environ)
    sys.argv = [argv[0], task, "--config", str(composed), *(rest["extra_argv"] or [])]
    HydraConfig.instance().cfg = None
    try:
        with one_line_errors():
            cli = run_lightning()
    finally:
        sys.argv, HydraConfig.instance().cfg = argv, hydra_config
        _forget_distributed(environment)
    value = cli.trainer.callback_metrics.get(rest["optimized_metric"])
    return None if value is None else float(value)


def _forget_distributed(environment: set[str]) -> None:
    """Lets the next job of a sweep start its own process group in this process."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE", "PL_GLOBAL_SEED"):
        if name not in environment:
            os.environ.pop(name, None)


def wants_hydra(arguments: list[str]) -> bool:
    """Whether a command line is in Hydra's form (KEY=VALUE) and not in LightningCLI's (--KEY VALUE)."""
    flags = {a.split("=")[0] for a in arguments if a.startswith("-")}
    return flags <= {*HYDRA_FLAGS, "--print_config"}


def _split_flags(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Hydra's flags, each with its value, and the overrides, wherever they stood."""
    flags, overrides = [], []
    remaining = iter(arguments)
    for argument in remaining:
        if not argument.startswith("-"):
            overrides.append(argument)
            continue
        flags.append(argument)
        if argument in VALUE_FLAGS:
            flags += [value for value in (next(remaining, None),) if value is not None]
    return flags, overrides


def _loosen(argument: str) -> str:
    """`a.b=c` -> `++a.b=c`, so that an option no file mentions can be set; jsonargparse refuses what does not exist."""
    key = argument.split("=", 1)[0]
    is_option = "=" in argument and "." in key and key[0] not in "+~-" and not {"/", "@"} & set(key)
    return f"++{argument}" if is_option and not key.startswith("hydra.") else argument


def run_hydra(command: str, arguments: list[str]) -> None:
    """Composes the configuration that overrides ask for, and runs the command with it, once or as a sweep."""
    printing = [a for a in arguments if a.startswith("--print_config")]
    flags, overrides = _split_flags([a for a in arguments if a not in printing])
    extra = [f"extra_argv={printing}"] if printing else []
    argv = sys.argv
    # Hydra's argparse wants its overrides in one run
    sys.argv = [argv[0], *flags, *map(_loosen, overrides), f"task={command}", *extra]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions come here, to be told in one line
    GlobalHydra.instance().clear()
    try:
        hydra.main(version_base="1.3", config_path=str(config_folder()), config_name="config")(_hydra_job)()
    finally:
        sys.argv = argv
