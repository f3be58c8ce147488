"""The files that say how a run was composed: those of the run whose results are in the folder."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from lightning_ltts.cli.run_guard import RunGuard
from lightning_ltts.files import write_text


def hydra_files(cfg: DictConfig) -> dict[str, str]:
    """What Hydra would write about a job before it is known to be accepted: name -> text."""
    hydra: Any = HydraConfig.instance().cfg
    parts = {"config": cfg, "hydra": hydra, "overrides": hydra.hydra.overrides.task}
    return {f"hydra/{name}.yaml": OmegaConf.to_yaml(part) for name, part in parts.items()}


@contextmanager
def recorded(folder: Path, files: dict[str, str], guard: RunGuard) -> Iterator[None]:
    """Writes files into a run's folder, and puts the previous ones back where no run begins.

    Args:
        folder: of the run.
        files: name -> text.
        guard: knows whether the run began.
    """
    paths = {folder / name: text for name, text in files.items()}
    before = {path: path.read_text(encoding="utf-8") if path.is_file() else None for path in paths}
    for path, text in paths.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
    try:
        yield
    finally:
        if not guard.accepted:
            for path, old in before.items():
                path.unlink(missing_ok=True) if old is None else write_text(path, old)
            for parent in {path.parent for path in paths} - {folder}:
                with suppress(OSError):  # it is not empty
                    parent.rmdir()
