"""Reading weights: nothing in a file is ever executed, and every key is accounted for."""

import contextlib
import importlib
import json
import pickle
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils import logging as transformers_logging

from lightning_ltts.data.ranges import RAISE_IT, Bound
from lightning_ltts.errors import CheckpointError, reason_of, shorten
from lightning_ltts.files import check_checkpoint

State = dict[str, Tensor]
FOLDER_ENTRY = "lightning_ltts.json"  # in every folder of a model that this package wrote
MAX_JSON = Bound(300_000_000)  # bytes; tokenizers of known models have up to 40 million
_WEIGHT_FILES = ("model.safetensors", "adapter_model.safetensors", "pytorch_model.bin")
# Hyper-parameters of published Lightning checkpoints hold OmegaConf containers: plain data,
# admitted by name while a file is read.
_PLAIN_CLASSES = (
    "omegaconf.nodes.AnyNode", "omegaconf.dictconfig.DictConfig", "omegaconf.listconfig.ListConfig",
    "omegaconf.base.Metadata", "omegaconf.base.ContainerMetadata", "collections.defaultdict",
    "builtins.int", "builtins.dict", "builtins.list", "typing.Any",
)  # fmt: skip
# Checkpoints of this package hold options of their training as objects of its classes. The modules
# below admit theirs when they are imported; no class is made that PyTorch was not told of.
_OWN_MODULES = (
    "lightning_ltts.data.tokenization",
    "lightning_ltts.training.curriculum",
    "lightning_ltts.training.start",
)


def read_pickle(path: Path) -> dict[str, Any]:
    """A PyTorch file as a dictionary of plain values and tensors, by restricted unpickling.

    Raises:
        CheckpointError: missing, cut off, damaged, or holding anything else than plain values and
            tensors.
    """
    if not path.is_file():
        raise CheckpointError(
            f"checkpoint {path} does not exist; train it first or give another path"
        )
    check_checkpoint(path)
    for module in _OWN_MODULES:
        importlib.import_module(module)
    try:
        with torch.serialization.safe_globals([_class(name) for name in _PLAIN_CLASSES]):
            # not memory-mapped: training overwrites checkpoints in place, and a mapped file must
            # not shrink
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file fails in many ways
        foreign = re.search(r"GLOBAL (\S+)", str(error))
        if foreign:
            raise CheckpointError(
                f"{path} is refused: it would run or create '{foreign.group(1)}' when it is read, "
                "and a checkpoint may hold only tensors and plain values"
            ) from None
        reason = reason_of(error)
        if isinstance(error, pickle.UnpicklingError):
            # torch's own advice would be to read it without restrictions
            reason = "not a file of tensors that PyTorch saved"
        raise CheckpointError(
            f"checkpoint {path} cannot be read, it may be cut off or of another kind ({reason})"
        ) from None
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path} holds a {type(content).__name__}, but a dictionary of tensors is needed"
        )
    return content


def weight_files(path: Path) -> list[Path]:
    """The files that hold a model's weights: `path` itself, or those of a folder.

    The shards of a folder are those that its index names.

    Raises:
        CheckpointError: the folder has none, or lacks a shard.
    """
    if path.is_file():
        return [path]
    for name in _WEIGHT_FILES:
        index = path / f"{name}.index.json"
        if index.exists():
            return _shards(path, index)
        if (path / name).is_file():
            return [path / name]
    raise CheckpointError(f"{path} holds no weights; expected one of {', '.join(_WEIGHT_FILES)}")


def _shards(folder: Path, index: Path) -> list[Path]:
    """The shards that the index of a folder names, all of which must lie in the folder.

    Raises:
        CheckpointError: the index is damaged, or a shard is elsewhere or missing.
    """
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        raise CheckpointError(f"{index} is damaged; fetch it again") from None
    if not names or not all(isinstance(name, str) and name for name in names):
        raise CheckpointError(f"{index} is damaged (it names no shards); fetch it again")
    for name in names:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise CheckpointError(
                f"{index} names the shard {shorten(name)}, which is outside of its folder; it is "
                "not read"
            )
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder / name} is missing, although {index.name} names it")
    return [folder / name for name in names]


def check_json_sizes(folder: Path) -> None:
    """Refuses a folder with a JSON file that no model has, before it is read.

    Raises:
        CheckpointError: naming the file.
    """
    for path in sorted(folder.glob("*.json")):
        if path.stat().st_size > MAX_JSON.raised:
            raise CheckpointError(
                f"{path} has {path.stat().st_size / 1e6:,.0f} MB, more than the "
                f"{MAX_JSON.raised / 1e6:,.0f} MB that any tokenizer or configuration needs; fetch it "
                f"again, or {RAISE_IT}"
            )


def read_tensors(path: Path) -> State:
    """All tensors of a file or folder; of a Lightning checkpoint, those of its state dict.

    Safetensors are mapped into memory and not copied.

    Raises:
        CheckpointError: something cannot be read or is not a tensor.
    """
    tensors: State = {}
    for file in weight_files(path):
        if file.suffix == ".safetensors":
            try:
                content: dict[str, Any] = load_file(file)
            except (SafetensorError, OSError) as error:
                raise CheckpointError(
                    f"{file} cannot be read, it may be cut off ({error})"
                ) from None
        else:
            content = read_pickle(file)
            content = content.get("state_dict", content)
        tensors |= require_state(content, file)
    return tensors


def require_state(content: Any, source: str | Path) -> State:
    """What a file holds as weights, which must be plain tensors by name.

    Raises:
        CheckpointError: it is something else.
    """
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise CheckpointError(
            f"{source} holds no state_dict: names of weights with their tensors; use another"
        )
    for key, value in content.items():
        if not isinstance(value, Tensor):
            raise CheckpointError(
                f"{source} holds '{key}', which is a {type(value).__name__} and not a tensor"
            )
        if value.layout != torch.strided or value.is_quantized or value.is_complex():
            raise CheckpointError(
                f"{source} holds '{key}', which is a tensor of another kind ({value.layout}, "
                f"{value.dtype}); give it as a plain one"
            )
    return content


def check_keys(
    state: Mapping[str, Tensor],
    expected: Mapping[str, torch.Size],
    optional: set[str],
    source: str,
    names: Mapping[str, str],
) -> None:
    """Compares a state with what the model needs.

    Args:
        state: the weights there are.
        expected: the shape of every key of the model.
        optional: keys that may be missing (a head tied to the embeddings).
        source: the file or folder, for messages.
        names: key of `state` -> its name in the file.

    Raises:
        CheckpointError: naming the first key that is unknown, missing or of another shape, and what
            was expected.
    """
    for key, tensor in state.items():
        if key not in expected:
            raise CheckpointError(
                f"{source} holds the key '{names.get(key, key)}', which this kind of model does "
                f"not have; expected keys are such as '{next(iter(expected))}'"
            )
        if not tensor.is_floating_point():
            raise CheckpointError(
                f"{source}: '{names.get(key, key)}' holds numbers of the type {tensor.dtype}, but "
                "weights must be floating-point numbers"
            )
        if tensor.shape != expected[key]:
            raise CheckpointError(
                f"{source}: '{names.get(key, key)}' has the shape {tuple(tensor.shape)}, but {tuple(expected[key])} is expected"
            )
    for key in expected:
        if key not in state and key not in optional:
            raise CheckpointError(f"{source} lacks the key '{key}' of shape {tuple(expected[key])}")


def fill_backbone(
    backbone: PreTrainedModel, state: State, dtype: torch.dtype | None = None
) -> PreTrainedModel:
    """A model like `backbone`, which may be on the meta device, with these weights.

    The tensors are used as they are and not copied, unless `dtype` is another than theirs.
    """
    stored = (tensor.dtype for tensor in state.values() if tensor.is_floating_point())
    dtype = dtype or next(stored, torch.float32)
    with quiet_transformers():
        return type(backbone).from_pretrained(
            None, config=backbone.config, state_dict=dict(state), dtype=dtype
        )


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Hides transformers' progress bars while weights load."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


def _class(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)
