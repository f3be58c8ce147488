"""One composed configuration: written down, and handed to LightningCLI."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from lightning_ltts.cli.class_paths import swap_classes
from lightning_ltts.cli.composed import hydra_files, recorded
from lightning_ltts.cli.lightning_front import command_keys, run_lightning
from lightning_ltts.cli.messages import one_line_errors
from lightning_ltts.cli.run_guard import RunGuard
from lightning_ltts.errors import ConfigError, shorten


def split_config(
    command: str,
    tree: dict[str, Any],
    overrides: Sequence[str] = (),
    experiment: dict[str, Any] | None = None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A composed tree -> (configuration for LightningCLI, what served composing only).

    LightningCLI gets every key that it has for any command, so that it can refuse one that
    is set but belongs to another command, and the named callbacks as a list.

    Args:
        command: one of LightningCLI's.
        tree: the composed configuration without references; it is changed.
        overrides: Hydra overrides of one job.
        experiment: what the experiment's own file holds.
    """
    swap_classes(tree, overrides, experiment)
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


def print_config(
    command: str, composed: dict[str, Any], experiment: dict[str, Any], printing: list[str]
) -> None:
    """Prints the composed configuration; nothing is left on disk."""
    with one_line_errors():
        tree, _ = split_config(command, composed, HydraConfig.get().overrides.task, experiment)
    folder = Path(HydraConfig.get().runtime.output_dir)
    print(f"# ltts {command} --config THIS_FILE writes to {folder}")
    argv = sys.argv
    with TemporaryDirectory() as temporary:
        file = Path(temporary) / f"{command}.yaml"
        OmegaConf.save(OmegaConf.create(tree), file)
        sys.argv = [argv[0], command, "--config", str(file), *printing]
        try:
            run_lightning()
        finally:
            sys.argv = argv


def run_job(
    command: str, cfg: DictConfig, composed: dict[str, Any], experiment: dict[str, Any]
) -> float | None:
    """Runs a composed configuration; returns what a sweep optimizes.

    Args:
        command: one of LightningCLI's.
        cfg: as Hydra composed it.
        composed: the same without references.
        experiment: what the experiment's own file holds.
    """
    with one_line_errors():
        if HydraConfig.get().job.chdir:
            raise ConfigError(
                "hydra.job.chdir=true would move the paths of the configuration, which are "
                "relative to the working directory; leave it out: a run writes to its own folder "
                "without it"
            )
        overrides = HydraConfig.get().overrides.task
        tree, composing = split_config(command, composed, overrides, experiment)
    folder = Path(HydraConfig.get().runtime.output_dir)
    file, guard = f"{command}.yaml", RunGuard()
    files = {file: OmegaConf.to_yaml(OmegaConf.create(tree)), **hydra_files(cfg)}
    argv, hydra_config, environment = sys.argv, HydraConfig.instance().cfg, set(os.environ)
    HydraConfig.instance().cfg = None
    try:
        with one_line_errors(), recorded(folder, files, guard) as place:
            # what Lightning starts again for its other processes, which must not compose, or sweep
            sys.argv = [argv[0], command, "--config", str(place / file)]
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
