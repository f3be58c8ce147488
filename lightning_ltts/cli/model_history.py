"""What runs say of a model, for its card: how it was trained, and what searches with it came to."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from lightning_ltts.analysis.prediction_files import MANIFEST
from lightning_ltts.errors import ConfigError
from lightning_ltts.files import public_name, read_json
from lightning_ltts.models.latent_lm import LatentReasoner, fingerprint
from lightning_ltts.models.latent_rm import LatentRM
from lightning_ltts.models.model_card import History, Measured
from lightning_ltts.run_folder import FIT_MANIFEST

_SUMMARY, _CONFIG = "summary.json", "predict.yaml"
_ADVICE = "run 'ltts predict' again"


def history_of(source: str) -> History | None:
    """How the checkpoint `RUN/checkpoints/X.ckpt` was trained; None where no manifest says it."""
    manifest = _run_of(source) / FIT_MANIFEST
    if not manifest.is_file():
        return None
    content = read_json(manifest, "export without the run's folder", ("settings",))
    finished = content.get("finished") or {}
    outcome = {**finished.get("metrics", {})}
    if "epochs" in finished:
        outcome = {"epochs": finished["epochs"], **outcome}
    settings = {name: _shown(value) for name, value in content["settings"].items()}
    return History(settings, outcome)


def measured_beside(source: str, model: LatentReasoner | LatentRM) -> list[Measured]:
    """The searches with a model among the runs beside the one that trained it."""
    folders = sorted(file.parent for file in _run_of(source).parent.glob(f"*/{_SUMMARY}"))
    found = [folder for folder in folders if (folder / MANIFEST).is_file()]
    return [_measured(folder) for folder in found if _searched_with(folder, model)]


def measured_by(runs: Sequence[str], model: LatentReasoner | LatentRM) -> list[Measured]:
    """What the searches in these folders came to.

    Raises:
        ConfigError: a folder holds no finished search, or one with another model.
        StoreError: a file in it is damaged.
    """
    for folder in map(Path, runs):
        if not (folder / _SUMMARY).is_file() or not (folder / MANIFEST).is_file():
            raise ConfigError(
                f"--results {folder} is not the folder of a finished 'ltts predict' ({_SUMMARY} or "
                f"{MANIFEST} is missing)"
            )
        if not _searched_with(folder, model):
            raise ConfigError(
                f"--results {folder} was made with another {model.kind} than the one that is "
                "exported; a card shows what its own model came to"
            )
    return [_measured(Path(folder)) for folder in runs]


def _run_of(source: str) -> Path:
    """The folder of the run that wrote a checkpoint, where it lies in one."""
    return Path(source).absolute().parent.parent


def _searched_with(folder: Path, model: LatentReasoner | LatentRM) -> bool:
    return read_json(folder / MANIFEST, _ADVICE).get(model.kind) == fingerprint(model)


def _measured(folder: Path) -> Measured:
    summary = read_json(folder / _SUMMARY, _ADVICE, ("results", "num_problems"))
    return Measured(_problems(folder / _CONFIG), read_json(folder / MANIFEST, _ADVICE), summary)


def _problems(config: Path) -> str:
    """What was searched over: the class of the problems and its options, files by their names."""
    if not config.is_file():
        return "a problem set that the run does not name"
    tree: Any = yaml.safe_load(config.read_text(encoding="utf-8"))
    source = ((tree.get("data") or {}).get("init_args") or {}).get("problems") or {}
    options = {name: _shown(value) for name, value in (source.get("init_args") or {}).items()}
    inside = ", ".join(f"{name}={value}" for name, value in options.items() if value is not None)
    return f"`{str(source.get('class_path')).rpartition('.')[2]}({inside})`"


def _shown(value: Any) -> Any:
    """A path by its last part, so that a card tells nothing of the machine."""
    if isinstance(value, list):
        return [_shown(item) for item in value]
    return public_name(value) if isinstance(value, str) else value
