"""The files that say how a run was composed: those of the run whose results are in the folder."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from lightning_ltts.cli.run_guard import RunGuard
from lightning_ltts.files import write_text
from lightning_ltts.run_folder import is_first_process


def hydra_files(cfg: DictConfig) -> dict[str, str]:
    """What Hydra would write about a job before it is known to be accepted: name -> text."""
    hydra: Any = HydraConfig.instance().cfg
    parts = {"config": cfg, "hydra": hydra, "overrides": hydra.hydra.overrides.task}
    return {f"hydra/{name}.yaml": OmegaConf.to_yaml(part) for name, part in parts.items()}


@contextmanager
def recorded(folder: Path, files: dict[str, str], guard: RunGuard) -> Iterator[Path]:
    """Writes files into a run's folder, and puts the previous ones back where no run begins.

    Under torchrun and srun every process composes. The first one's files stay; the others read
    their own, in a folder that goes away.

    Args:
        folder: of the run.
        files: name -> text.
        guard: knows whether the run began.

    Yields:
        The folder in which this process finds the files.
    """
    if not is_first_process():
        with TemporaryDirectory() as own:
            _write(Path(own), files)
            yield Path(own)
        return
    paths = [folder / name for name in files]
    before = {path: path.read_text(encoding="utf-8") if path.is_file() else None for path in paths}
    _write(folder, files)
    try:
        yield folder
    finally:
        if not guard.accepted:
            for path, old in before.items():
                path.unlink(missing_ok=True) if old is None else write_text(path, old)
            for parent in {path.parent for path in paths} - {folder}:
                with suppress(OSError):  # it is not empty
                    parent.rmdir()


def _write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
