"""Loading reasoners and LatentRMs from any source, and saving them as folders.

Sources: the checkpoints that training writes, which describe their model by themselves (entry `ENTRY`); the folders that
`save_folder` writes; and every published format (`published.py`), on this machine or on the Hugging Face Hub. Nothing that a
source holds is executed.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, overload

import torch
from huggingface_hub import hf_hub_download, snapshot_download
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from lightning_ltts.errors import CheckpointError, LTTSError
from lightning_ltts.models.latent_lm import LatentReasoner, ReasonerSpec, canonical, make_config
from lightning_ltts.models.latent_rm import LatentRM, LatentRMSpec
from lightning_ltts.models.published import Published, change_spec, merge_lora, read_published
from lightning_ltts.models.weights import check_keys, fill_backbone, read_pickle, read_tensors

ENTRY = "lightning_ltts"


FOLDER_ENTRY = "lightning_ltts.json"


PROVENANCE = "provenance.json"


Kind = Literal["reasoner", "latent_rm"]


TITLES = {"reasoner": "latent reasoner", "latent_rm": "LatentRM"}


_LOCAL_SUFFIXES = (".ckpt", ".pt", ".pth", ".bin", ".safetensors", ".gguf")


_HUB_FILES = ["*.json", "*.safetensors", "pytorch_model*.bin", "*.txt", "*.model"]


def describe(kind: str, model: LatentReasoner | LatentRM, **changes: Any) -> dict[str, Any]:
    """The checkpoint entry of a model that the LightningModule holds as attribute `kind`; `changes` override its spec."""
    return {"kind": kind, "spec": {**asdict(model.spec), **changes}}


def load_reasoner(
    path: str | Path, base: str | Path | None = None, dtype: torch.dtype | None = None, **changes: Any
) -> LatentReasoner:
    """The latent reasoner of a checkpoint, folder or Hub repository, on the CPU, in evaluation mode.

    Args:
        path: a file or folder of any known format, a name `owner/repository[@revision]` on the Hugging Face Hub, or
            `hf://owner/repository/path/to/file`. A plain causal language model becomes an untrained reasoner.
        base: the same for the model that gives configuration, tokenizer and missing weights, where `path` holds none.
        dtype: of the weights; by default as they are stored.
        changes: fields of `ReasonerSpec` to set otherwise, for instance num_thoughts=12.

    Raises:
        CheckpointError: something is missing, damaged, unknown, or not a latent reasoner's.
        ConfigError: the specification does not fit together.
    """
    return _load(path, "reasoner", base, dtype, changes)


def load_latent_rm(path: str | Path, dtype: torch.dtype | None = None) -> LatentRM:
    """The LatentRM of a checkpoint, folder or Hub repository, on the CPU, in evaluation mode; see `load_reasoner`.

    Raises:
        CheckpointError: something is missing, damaged, unknown, or not a LatentRM's.
    """
    return _load(path, "latent_rm", None, dtype, {})


@overload
def _load(path: Any, kind: Literal["reasoner"], base: Any, dtype: Any, changes: dict[str, Any]) -> LatentReasoner: ...


@overload
def _load(path: Any, kind: Literal["latent_rm"], base: Any, dtype: Any, changes: dict[str, Any]) -> LatentRM: ...


def _load(path: Any, kind: Kind, base: Any, dtype: Any, changes: dict[str, Any]) -> Any:
    found = read_source(locate(path), None if base is None else locate(base), changes)
    if kind != found.kind:
        raise CheckpointError(f"{path} holds a {TITLES[found.kind]}, but a {TITLES[kind]} is needed here")
    return build_model(found, str(path), dtype)


def locate(name: str | Path) -> Path:
    """The file or folder with this name, fetched from the Hugging Face Hub where it is not on this machine.

    Raises:
        CheckpointError: it is nowhere.
    """
    path, text = Path(name), str(name)
    if path.exists():
        return path
    file = text.removeprefix("hf://") if text.startswith("hf://") else None
    if file is None and (path.is_absolute() or text.count("/") != 1 or path.suffix in _LOCAL_SUFFIXES or text[0] == "."):
        raise CheckpointError(f"checkpoint {path} does not exist; train it first or give another path")
    owner, repository, *rest = (file or text).split("/")
    repository, _, revision = repository.partition("@")
    try:
        if rest:
            return Path(hf_hub_download(f"{owner}/{repository}", "/".join(rest), revision=revision or None))
        return Path(snapshot_download(f"{owner}/{repository}", revision=revision or None, allow_patterns=_HUB_FILES))
    except Exception as error:  # no network, no such repository, no access: all mean that it cannot be had
        reason = (str(error).splitlines() or [type(error).__name__])[0][:150]
        raise CheckpointError(
            f"{text} is neither a file or folder here nor could it be fetched from the Hugging Face Hub ({reason})"
        ) from None


def read_source(path: Path, base: Path | None, changes: dict[str, Any]) -> Published:
    """A model of any known format as specification and weights; see `load_reasoner`."""
    if (path / FOLDER_ENTRY).is_file():
        return _read_folder(path, changes)
    if path.is_file() and path.suffix == ".ckpt":
        checkpoint = read_pickle(path)
        if ENTRY in checkpoint:
            return _read_checkpoint(checkpoint, path, changes)
    return read_published(path, base, changes)


def _read_checkpoint(checkpoint: dict[str, Any], path: Path, changes: dict[str, Any]) -> Published:
    entry = checkpoint[ENTRY]
    if not isinstance(entry, dict) or entry.get("kind") not in TITLES or "state_dict" not in checkpoint:
        raise CheckpointError(f"the entry '{ENTRY}' of {path} does not describe a model; train it again")
    prefix = f"{entry['kind']}."
    state = {k.removeprefix(prefix): v for k, v in checkpoint["state_dict"].items() if k.startswith(prefix)}
    if "lora_alpha" in entry:
        merge_lora(state, entry["spec"]["backbone"]["model_type"], str(path), entry["lora_alpha"])
    method = changes.get("method")
    # a reasoner that goes on as one of another method starts with a new head, whose options are all given
    new_head = entry["kind"] == "reasoner" and method is not None and method != entry["spec"]["method"]
    if new_head:
        entry = {**entry, "spec": {**entry["spec"], "thought_head": {}}}
        state = {key: tensor for key, tensor in state.items() if not key.startswith("thought_head.")}
    return Published("Lightning checkpoint", entry["kind"], _spec(entry, path, changes), state, {}, new_head)


def _read_folder(path: Path, changes: dict[str, Any]) -> Published:
    try:
        entry = json.loads((path / FOLDER_ENTRY).read_text(encoding="utf-8"))
        entry["spec"]["backbone"] = canonical(AutoConfig.from_pretrained(path, trust_remote_code=False))
        for extra in entry["extras"]:
            entry["spec"]["backbone"].pop(extra, None)
        if entry["kind"] == "reasoner":
            entry["spec"]["tokenizer"] = (path / "tokenizer.json").read_text(encoding="utf-8")
        names = entry["names"]
    except Exception as error:  # a damaged folder fails in many ways
        raise CheckpointError(f"{path} is damaged: {type(error).__name__} {str(error)[:200]}; export it again") from None
    if not (isinstance(names, list) and all(isinstance(pair, list) and len(pair) == 2 for pair in names)):
        raise CheckpointError(f"{path} is damaged: 'names' in {FOLDER_ENTRY} is not a list of pairs; export it again")
    state = {}
    for key, tensor in read_tensors(path).items():
        ours = next((ours + key.removeprefix(theirs) for ours, theirs in names if key.startswith(theirs)), key)
        state[ours] = tensor
    return Published("folder", entry["kind"], _spec(entry, path, changes), state, {})


def _spec(entry: dict[str, Any], path: Path, changes: dict[str, Any]) -> ReasonerSpec | LatentRMSpec:
    try:
        if entry["kind"] == "latent_rm":
            return LatentRMSpec(**entry["spec"])
        return change_spec(ReasonerSpec(**entry["spec"]), changes)
    except (TypeError, KeyError) as error:
        raise CheckpointError(
            f"the specification in {path} is not one that this version knows ({error}); it may be damaged or newer"
        ) from None


def build_model(found: Published, source: str, dtype: torch.dtype | None) -> LatentReasoner | LatentRM:
    """The model, using the tensors as they were read: weights in a file stay mapped to it and are not copied."""
    spec = found.spec
    model_class, body_class = (LatentReasoner, AutoModelForCausalLM) if found.kind == "reasoner" else (LatentRM, AutoModel)
    try:
        with torch.device("meta"):
            empty = body_class.from_config(make_config(spec.backbone))
        model: Any = model_class(spec, empty)
    except LTTSError:
        raise
    except Exception as error:  # a configuration or tokenizer that does not fit fails in many ways
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise CheckpointError(
            f"configuration or tokenizer of {source} cannot be used: {type(error).__name__}: {reason}"
        ) from None
    expected = {key: tensor.shape for key, tensor in model.state_dict().items()}
    tied = found.kind == "reasoner" and empty.config.tie_word_embeddings
    optional = {"backbone.lm_head.weight"} if tied else set()
    head = found.state.get("backbone.lm_head.weight")
    if tied and head is not None:
        table = next(t for key, t in found.state.items() if key.endswith((".wte.weight", ".embed_tokens.weight")))
        if head.shape != table.shape or not torch.equal(head, table):
            raise CheckpointError(
                f"{source} holds a vocabulary head that differs from the embeddings, although its configuration ties them"
            )
    if found.new_head:
        optional |= {key for key in expected if key.startswith("thought_head.")}
    check_keys(found.state, expected, optional, source, found.names)
    in_body = {key.removeprefix("backbone."): t for key, t in found.state.items() if key.startswith("backbone.")}
    model.backbone = fill_backbone(empty, in_body, dtype)
    model.backbone.set_attn_implementation(empty.config._attn_implementation)
    rest = {key: tensor for key, tensor in found.state.items() if not key.startswith("backbone.")}
    model.load_state_dict(rest, strict=False, assign=True)
    for name, child in model.named_children():
        if name != "backbone":
            child.to(model.backbone.dtype)
    return model.eval()
