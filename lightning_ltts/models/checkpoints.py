"""Loading reasoners and LatentRMs from any source, and saving them as folders.

Sources: the checkpoints that training writes, which describe their model by themselves (entry
`ENTRY`); the folders that `save_folder` writes; and every published format (`formats.py`), on this
machine or on the Hugging Face Hub. Nothing that a source holds is executed.
"""

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, overload

import torch
from huggingface_hub import hf_hub_download, snapshot_download
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, PreTrainedModel

from lightning_ltts.errors import CheckpointError, ConfigError, LTTSError, reason_of, shorten
from lightning_ltts.models.adapters import ALPHA, merge_lora
from lightning_ltts.models.families import Family, family_of
from lightning_ltts.models.latent_lm import LatentReasoner, ReasonerSpec, canonical, make_config
from lightning_ltts.models.latent_rm import LatentRM
from lightning_ltts.models.latent_rm_spec import LatentRMSpec
from lightning_ltts.models.peft_folders import base_of, is_peft_folder, merge_adapters
from lightning_ltts.models.published import Published, change_spec, read_published
from lightning_ltts.models.weights import (
    FOLDER_ENTRY,
    State,
    check_json_sizes,
    check_keys,
    fill_backbone,
    read_pickle,
    read_tensors,
    require_state,
)

ENTRY = "lightning_ltts"
PROVENANCE = "provenance.json"
Kind = Literal["reasoner", "latent_rm"]
TITLES = {"reasoner": "latent reasoner", "latent_rm": "LatentRM"}
_LOCAL_SUFFIXES = (".ckpt", ".pt", ".pth", ".bin", ".safetensors", ".gguf")
_HUB_FILES = ["*.json", "*.safetensors", "pytorch_model*.bin", "*.txt", "*.model"]
VOCABULARY_HEAD = "backbone.lm_head.weight"


def describe(kind: str, model: LatentReasoner | LatentRM, **changes: Any) -> dict[str, Any]:
    """The entry that describes a model in a checkpoint.

    Args:
        kind: the attribute that holds the model in its LightningModule: "reasoner" or "latent_rm".
        model: the model to describe.
        changes: fields of its specification that the checkpoint is to have instead.
    """
    return {"kind": kind, "spec": {**asdict(model.spec), **changes}}


def load_reasoner(
    path: str | Path,
    base: str | Path | None = None,
    dtype: torch.dtype | None = None,
    **changes: Any,
) -> LatentReasoner:
    """The latent reasoner of a checkpoint, folder or Hub repository.

    It is on the CPU, in evaluation mode.

    Args:
        path: a file or folder of any known format, a name `owner/repository[@revision]` on the
            Hugging Face Hub, or `hf://owner/repository/path/to/file`. A plain causal language model
            becomes an untrained reasoner.
        base: the same for the model that gives configuration, tokenizer and missing weights, where
            `path` holds none.
        dtype: data type of the weights; by default the one they are stored in.
        changes: fields of `ReasonerSpec` to set otherwise, for instance num_thoughts=12.

    Raises:
        CheckpointError: something is missing, damaged, unknown, or not a latent reasoner's.
        ConfigError: the specification does not fit together.
    """
    return _load(path, "reasoner", base, dtype, changes)


def load_latent_rm(path: str | Path, dtype: torch.dtype | None = None) -> LatentRM:
    """The LatentRM of a checkpoint, folder or Hub repository.

    It is on the CPU, in evaluation mode.

    Args:
        path: the source, in one of the forms that `load_reasoner` takes.
        dtype: data type of the weights; by default the one they are stored in.

    Raises:
        CheckpointError: something is missing, damaged, unknown, or not a LatentRM's.
    """
    return _load(path, "latent_rm", None, dtype, {})


@overload
def _load(
    path: Any, kind: Literal["reasoner"], base: Any, dtype: Any, changes: dict[str, Any]
) -> LatentReasoner: ...


@overload
def _load(
    path: Any, kind: Literal["latent_rm"], base: Any, dtype: Any, changes: dict[str, Any]
) -> LatentRM: ...


def _load(path: Any, kind: Kind, base: Any, dtype: Any, changes: dict[str, Any]) -> Any:
    found = read_source(locate(path), None if base is None else locate(base), changes)
    if kind != found.kind:
        raise CheckpointError(
            f"{path} holds a {TITLES[found.kind]}, but a {TITLES[kind]} is needed here"
        )
    return build_model(found, str(path), dtype)


def locate(name: str | Path) -> Path:
    """The file or folder with this name, on this machine or fetched from the Hugging Face Hub.

    Raises:
        CheckpointError: it is nowhere.
    """
    path, text = Path(name), str(name)
    if path.exists():
        return path
    file = text.removeprefix("hf://") if text.startswith("hf://") else None
    local = path.is_absolute() or path.suffix in _LOCAL_SUFFIXES or text[0] == "."
    if file is None and (local or text.count("/") != 1):
        raise CheckpointError(
            f"checkpoint {path} does not exist; train it first or give another path"
        )
    owner, repository, *rest = (file or text).split("/")
    repository, _, revision = repository.partition("@")
    try:
        if rest:
            name = "/".join(rest)
            file = hf_hub_download(f"{owner}/{repository}", name, revision=revision or None)
            return Path(file)
        folder = snapshot_download(
            f"{owner}/{repository}", revision=revision or None, allow_patterns=_HUB_FILES
        )
        return Path(folder)
    except Exception as error:  # no network, no such repository, no access: it cannot be had
        raise CheckpointError(
            f"{text} is neither a file or folder here nor could it be fetched from the Hugging "
            f"Face Hub ({reason_of(error, 150)})"
        ) from None


def read_source(path: Path, base: Path | None, changes: dict[str, Any]) -> Published:
    """A model of any known format as specification and weights.

    Args:
        path: a file or folder.
        base: the file or folder that gives what `path` does not hold.
        changes: fields of the specification to set otherwise.

    Raises:
        CheckpointError: something is missing, damaged or unknown.
        ConfigError: the backbone's family or the method is not supported.
    """
    if (path / FOLDER_ENTRY).is_file():
        _refuse_base(path, base)
        return _read_folder(path, changes)
    if path.is_file() and path.suffix == ".ckpt":
        checkpoint = read_pickle(path)
        if ENTRY in checkpoint:
            _refuse_base(path, base)
            return _read_checkpoint(checkpoint, path, changes)
    if is_peft_folder(path):
        return _read_adapters(path, base, changes)
    return read_published(path, base, changes)


def _read_adapters(path: Path, base: Path | None, changes: dict[str, Any]) -> Published:
    """A base with adapters of PEFT merged into it; the base can be of any format."""
    name = base_of(path) if base is None else str(base)
    found = read_source(locate(name), None, changes)
    model = build_model(found, name, None)
    model.backbone = merge_adapters(model.backbone, path, name)
    state = dict(model.state_dict())
    return Published("PEFT adapters", found.kind, model.spec, state, {}, found.new_head)


def _refuse_base(path: Path, base: Path | None) -> None:
    if base is not None:
        raise CheckpointError(
            f"{path} describes its model by itself, so that the base {base} would not be read; "
            "leave it out"
        )


def _read_checkpoint(checkpoint: dict[str, Any], path: Path, changes: dict[str, Any]) -> Published:
    entry = checkpoint[ENTRY]
    known = isinstance(entry, dict) and str(entry.get("kind")) in TITLES
    if not known or not isinstance(entry.get("spec"), dict):
        raise CheckpointError(
            f"the entry '{ENTRY}' of {path} does not describe a model; train it again"
        )
    prefix = f"{entry['kind']}."
    whole = require_state(checkpoint.get("state_dict"), path)
    state = {k.removeprefix(prefix): v for k, v in whole.items() if k.startswith(prefix)}
    backbone = entry["spec"].get("backbone")
    if isinstance(backbone, dict):  # otherwise it is refused below
        merge_lora(state, _family(backbone, path), str(path), entry.get(ALPHA))
    method = changes.get("method")
    # a reasoner that goes on as one of another method starts with a new head, whose options are
    # all given
    new_head = (
        entry["kind"] == "reasoner" and method is not None and method != entry["spec"].get("method")
    )
    if new_head:
        entry = {**entry, "spec": {**entry["spec"], "thought_head": {}}}
        state = {k: tensor for k, tensor in state.items() if not k.startswith("thought_head.")}
    spec = _spec(entry, path, changes)
    others = Counter(f"{key.partition('.')[0]}.*" for key in whole if not key.startswith(prefix))
    return Published("Lightning checkpoint", entry["kind"], spec, state, {}, new_head, others)


def _read_folder(path: Path, changes: dict[str, Any]) -> Published:
    check_json_sizes(path)
    try:
        entry = json.loads((path / FOLDER_ENTRY).read_text(encoding="utf-8"))
        entry["spec"]["backbone"] = canonical(
            AutoConfig.from_pretrained(path, trust_remote_code=False)
        )
        for extra in entry["extras"]:
            entry["spec"]["backbone"].pop(extra, None)
        if entry["kind"] == "reasoner":
            entry["spec"]["tokenizer"] = (path / "tokenizer.json").read_text(encoding="utf-8")
        names = entry["names"]
    except Exception as error:  # a damaged folder fails in many ways
        raise CheckpointError(
            f"{path} is damaged: {type(error).__name__} {str(error)[:200]}; export it again"
        ) from None
    if str(entry["kind"]) not in TITLES:
        raise CheckpointError(
            f"{path} is damaged: its kind {shorten(entry['kind'])} in {FOLDER_ENTRY} is not known; "
            "export it again"
        )
    if not isinstance(names, list) or not all(
        isinstance(pair, list) and [type(name) for name in pair] == [str, str] for pair in names
    ):
        raise CheckpointError(
            f"{path} is damaged: 'names' in {FOLDER_ENTRY} is not a list of pairs; export it again"
        )
    state, theirs = {}, {}
    for key, tensor in read_tensors(path).items():
        prefixes = (pair for pair in names if key.startswith(pair[1]))
        our_prefix, their_prefix = next(prefixes, ("", ""))
        name = our_prefix + key.removeprefix(their_prefix)
        state[name], theirs[name] = tensor, key
    return Published("folder", entry["kind"], _spec(entry, path, changes), state, theirs)


def _family(backbone: dict[str, Any], path: Path) -> Family:
    try:
        return family_of(backbone.get("model_type"))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def _spec(
    entry: dict[str, Any], path: Path, changes: dict[str, Any]
) -> ReasonerSpec | LatentRMSpec:
    try:
        if entry["kind"] == "latent_rm":
            return LatentRMSpec.of(entry["spec"])
        return change_spec(ReasonerSpec(**entry["spec"]), changes)
    except (TypeError, KeyError) as error:
        raise CheckpointError(
            f"the specification in {path} is not one that this version knows ({error}); it may be damaged or newer"
        ) from None


def build_model(
    found: Published, source: str, dtype: torch.dtype | None
) -> LatentReasoner | LatentRM:
    """The model, with the tensors as they were read.

    Weights in a file stay mapped to it and are not copied, unless `dtype` is another than theirs.

    Args:
        found: what was read.
        source: the file or folder, for messages.
        dtype: data type of the weights; by default the one they are stored in.

    Raises:
        CheckpointError: weights, configuration and tokenizer do not fit together.
        ConfigError: the specification does not.
    """
    model, empty = _empty_model(found, source)
    state = found.state
    # which keys there must be
    expected = {key: tensor.shape for key, tensor in model.state_dict().items()}
    optional = {key for key in expected if found.new_head and key.startswith("thought_head.")}
    tied = found.kind == "reasoner" and empty.config.tie_word_embeddings
    if tied:
        optional.add(VOCABULARY_HEAD)
    check_keys(state, expected, optional, source, found.names)
    if tied:
        _check_tied(state, family_of(empty.config.model_type), source)
    # the backbone is filled by transformers, which knows how; the rest is a plain module
    prefix = "backbone."
    in_body = {k.removeprefix(prefix): t for k, t in state.items() if k.startswith(prefix)}
    model.backbone = fill_backbone(empty, in_body, dtype)
    model.backbone.set_attn_implementation(empty.config._attn_implementation)
    rest = {key: tensor for key, tensor in state.items() if not key.startswith(prefix)}
    model.load_state_dict(rest, strict=False, assign=True)
    for name, child in model.named_children():
        if name != "backbone":
            child.to(model.backbone.dtype)
    result: LatentReasoner | LatentRM = model.eval()
    return result


def _empty_model(found: Published, source: str) -> tuple[Any, PreTrainedModel]:
    """The model and its backbone, which has no weights yet."""
    reasoner = found.kind == "reasoner"
    try:
        with torch.device("meta"):
            body: Any = AutoModelForCausalLM if reasoner else AutoModel
            empty = body.from_config(make_config(found.spec.backbone))
        return (LatentReasoner if reasoner else LatentRM)(found.spec, empty), empty
    except LTTSError as error:
        raise type(error)(f"{source}: {error}") from None
    except Exception as error:  # a configuration or tokenizer that does not fit fails in many ways
        raise CheckpointError(
            f"configuration or tokenizer of {source} cannot be used: {type(error).__name__}: {reason_of(error)}"
        ) from None


def _check_tied(state: State, family: Family, source: str) -> None:
    """Checks that a vocabulary head that is stored, though tied to the embeddings, equals them."""
    head = state.get(VOCABULARY_HEAD)
    if head is None:
        return
    if not torch.equal(head, state[f"backbone.{family.body}.{family.embedding}.weight"]):
        raise CheckpointError(
            f"{source} holds a vocabulary head that differs from the embeddings, although its configuration ties them"
        )
