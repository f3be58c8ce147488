"""Folders of adapters as PEFT saves them (`adapter_config.json`), merged into their base by PEFT."""

import warnings
from pathlib import Path

from peft import LoraConfig, PeftModel
from safetensors import safe_open
from transformers import PreTrainedModel

from lightning_ltts.errors import CheckpointError, reason_of, shorten
from lightning_ltts.files import read_json
from lightning_ltts.models.adapters import CONFIG

_WEIGHTS = "adapter_model.safetensors"
_PREFIX = "base_model.model."  # of every key that PEFT writes


def is_peft_folder(path: Path) -> bool:
    """Whether a folder holds adapters as PEFT saves them, and no model's format of its own."""
    if not (path / CONFIG).is_file() or not (path / _WEIGHTS).is_file():
        return False
    try:
        with safe_open(path / _WEIGHTS, "pt") as file:
            return all(key.startswith(_PREFIX) for key in file.keys())  # noqa: SIM118  # no mapping
    except Exception:  # a damaged file is refused by what reads it
        return False


def base_of(path: Path) -> str:
    """The model that adapters belong to, as their configuration names it.

    Raises:
        CheckpointError: it names none.
        StoreError: the configuration is damaged.
    """
    name = read_json(path / CONFIG, "fetch it again").get("base_model_name_or_path")
    if not isinstance(name, str) or not name:
        raise CheckpointError(
            f"{path / CONFIG} does not name the model that the adapters belong to; give it as base"
        )
    return name


def merge_adapters(backbone: PreTrainedModel, path: Path, base: str) -> PreTrainedModel:
    """The backbone with adapters added to its weights.

    Args:
        backbone: of the base, which is changed.
        path: the folder of the adapters.
        base: name of the base, for messages.

    Raises:
        CheckpointError: the adapters are of a type that cannot be merged, or do not fit the base.
        StoreError: their configuration is damaged.
    """
    stored = read_json(path / CONFIG, "fetch it again")
    if stored.get("peft_type") != "LORA":
        raise CheckpointError(
            f"{path} holds adapters of the type {shorten(stored.get('peft_type'))}, which cannot be "
            "merged here; merge them with PEFT and import the result"
        )
    if stored.get("megatron_config"):  # for which PEFT would import a module that the file names
        raise CheckpointError(f"{path / CONFIG}: adapters of Megatron are not supported")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what they warn of is checked below
            model = PeftModel(backbone, LoraConfig.from_pretrained(str(path)))
            loaded = model.load_adapter(path, "default", torch_device="cpu")
            merged: PreTrainedModel = model.merge_and_unload(safe_merge=True)
    except (
        Exception
    ) as error:  # modules that are not there, other shapes, options of other versions
        raise CheckpointError(
            f"the adapters of {path} do not fit the base {base}: {reason_of(error)}"
        ) from None
    for keys, problem in ((loaded.missing_keys, "lack"), (loaded.unexpected_keys, "have")):
        if keys:
            raise CheckpointError(
                f"the adapters of {path} do not fit the base {base}: they {problem} '{keys[0]}'"
            )
    return merged
