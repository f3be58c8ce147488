"""Loading reasoners and LatentRMs from any source, and saving them as folders.

Sources: the checkpoints that training writes, which describe their model by themselves (entry `ENTRY`); the folders that
`save_folder` writes; and every published format (`published.py`), on this machine or on the Hugging Face Hub. Nothing that a
source holds is executed.
"""

import copy
import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, overload

import lightning
import torch
import transformers
from huggingface_hub import hf_hub_download, snapshot_download
from safetensors.torch import save_file
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, GenerationConfig

from lightning_ltts.errors import CheckpointError, LTTSError
from lightning_ltts.models.latent_lm import LatentReasoner, ReasonerSpec, canonical, make_config
from lightning_ltts.models.latent_rm import LatentRM, LatentRMSpec
from lightning_ltts.models.published import Published, change_spec, merge_lora, read_published
from lightning_ltts.models.weights import State, check_keys, fill_backbone, read_pickle, read_tensors, weight_files

ENTRY = "lightning_ltts"
FOLDER_ENTRY = "lightning_ltts.json"
PROVENANCE = "provenance.json"
Kind = Literal["reasoner", "latent_rm"]
_TITLES = {"reasoner": "latent reasoner", "latent_rm": "LatentRM"}
_HEADS = {"coconut": "thought_head", "codi": "projector", "colar": "lt_head"}  # names in published folders
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
    found = _read(locate(path), None if base is None else locate(base), changes)
    if kind != found.kind:
        raise CheckpointError(f"{path} holds a {_TITLES[found.kind]}, but a {_TITLES[kind]} is needed here")
    return _build(found, str(path), dtype)


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


def _read(path: Path, base: Path | None, changes: dict[str, Any]) -> Published:
    if (path / FOLDER_ENTRY).is_file():
        return _read_folder(path, changes)
    if path.is_file() and path.suffix == ".ckpt":
        checkpoint = read_pickle(path)
        if ENTRY in checkpoint:
            return _read_checkpoint(checkpoint, path, changes)
    return read_published(path, base, changes)


def _read_checkpoint(checkpoint: dict[str, Any], path: Path, changes: dict[str, Any]) -> Published:
    entry = checkpoint[ENTRY]
    if not isinstance(entry, dict) or entry.get("kind") not in _TITLES or "state_dict" not in checkpoint:
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


def _build(found: Published, source: str, dtype: torch.dtype | None) -> LatentReasoner | LatentRM:
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


# -- folders


def save_folder(
    model: LatentReasoner | LatentRM,
    folder: str | Path,
    source: str | Path | None = None,
    format: str | None = None,
    base: str | Path | None = None,
) -> Path:
    """Writes a model as a folder from which it loads bit by bit the same.

    The folder has the layout of the published ones: a Hugging Face configuration, safetensors, tokenizer. That of a COCONUT
    reasoner loads with `AutoModelForCausalLM` and `AutoTokenizer`, too. `provenance.json` says what it is and where it is from.

    Args:
        model: what to save.
        folder: a new or empty folder.
        source: the checkpoint it came from, for the provenance.
        format: what kind of checkpoint that was.
        base: the model that gave configuration and tokenizer, and missing weights.

    Raises:
        CheckpointError: the folder holds something.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CheckpointError(f"{folder} is not an empty folder; give another target")
    folder.mkdir(parents=True, exist_ok=True)
    reasoner = model if isinstance(model, LatentReasoner) else None
    body = {"gpt2": "transformer.", "other": "model."}["gpt2" if model.backbone.config.model_type == "gpt2" else "other"]
    if reasoner is not None:
        names = [["thought_head.", f"{_HEADS[reasoner.spec.method]}."], ["backbone.", ""]]
        classes = [type(reasoner.backbone).__name__]
    else:
        names = [["thought_head.", "projector."], ["score_head.", "classifier."], ["input_projection.", "projecter."]]
        names += [["answer_head.", "answer_head."], ["reference_mark", "reference_mark"]]  # not in published ones
        names += [["backbone.", body]]
        classes = [f"{type(model.backbone).__name__.removesuffix('Model')}ForTokenClassification"]
    tied = reasoner is not None and reasoner.backbone.config.tie_word_embeddings
    state: State = {}
    for key, tensor in model.state_dict().items():
        if not (tied and key == "backbone.lm_head.weight"):
            ours, theirs = next(pair for pair in names if key.startswith(pair[0]))
            state[theirs + key.removeprefix(ours)] = tensor.detach().cpu().contiguous()
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})

    config, extras = copy.deepcopy(model.backbone.config), _extras(model)
    config.architectures = classes
    for name, value in extras.items():
        setattr(config, name, value)
    config.save_pretrained(folder)
    spec = asdict(model.spec)
    spec.pop("backbone")
    if reasoner is not None:
        GenerationConfig.from_model_config(model.backbone.config).save_pretrained(folder)
        reasoner.tokenizer.save_pretrained(folder)
        (folder / "tokenizer.json").write_text(spec.pop("tokenizer"), encoding="utf-8")
    entry = {"kind": "latent_rm" if reasoner is None else "reasoner", "spec": spec, "extras": list(extras), "names": names}
    _write_json(folder / FOLDER_ENTRY, entry)
    origin = {"source": None if source is None else str(source), "format": format, "base": None if base is None else str(base)}
    _write_json(folder / PROVENANCE, {**origin, **_facts(model, source)})
    return folder


def _extras(model: nn.Module) -> dict[str, Any]:
    """Entries that published configurations have beside the backbone's."""
    if isinstance(model, LatentRM):
        head, extras = model.spec.thought_head, {"latent_hidden_size": model.spec.thought_size}
        return extras if head is None else {**extras, "projector": True, "projector_hidden_size": head.get("hidden_size")}
    assert isinstance(model, LatentReasoner)
    spec, vocabulary = model.spec, model.tokenizer.get_vocab()
    roles = {"latent_start_id": "start", "latent_end_id": "end", "latent_id": "latent"}
    extras = {name: vocabulary.get(spec.tokens.get(role) or "", -1) for name, role in roles.items()}
    if spec.method == "codi":
        extras |= {"projector": True, "projector_hidden_size": spec.thought_head.get("hidden_size", model.hidden_size)}
        extras["projector_dropout"] = spec.thought_head.get("dropout", 0.0)
    if spec.method == "colar":
        extras["latent_intermediate_size"] = spec.thought_head.get("intermediate_size", model.hidden_size)
        extras["latent_embedding_std"] = spec.thought_head["embedding_std"]
    return extras


def _facts(model: LatentReasoner | LatentRM, source: str | Path | None) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    if source is not None:
        path = locate(source)
        files = [path] if path.is_file() else [*path.glob("*.gguf")] or weight_files(path)
        facts["files"] = {file.name: _sha256(file) for file in files}
        below = path.parts[path.parts.index("snapshots") + 1 :] if "snapshots" in path.parts else ()
        facts["revision"] = below[0] if below else None  # of a repository on the Hub
    if isinstance(model, LatentReasoner):
        spec, vocabulary = model.spec, model.tokenizer.get_vocab()
        facts |= {
            "kind": _TITLES["reasoner"],
            "method": spec.method,
            "tokens": {role: {"token": t, "id": vocabulary.get(t)} for role, t in spec.tokens.items() if t is not None},
            "prompt_template": spec.prompt_template,
            "answer_rule": {"marker": spec.answer_marker, "which": spec.answer_which},
            "num_thoughts": spec.num_thoughts,
            "open_ended": spec.open_ended,
        }
    else:
        facts |= {"kind": _TITLES["latent_rm"], "thought_size": model.spec.thought_size, "reasoner": model.spec.reasoner}
    facts["dtype"] = str(model.backbone.dtype).removeprefix("torch.")
    modules = (torch, transformers, lightning)
    return {**facts, "versions": {module.__name__: str(module.__version__) for module in modules}}


def import_model(
    source: str | Path,
    target: str | Path,
    base: str | Path | None = None,
    dtype: torch.dtype | None = None,
    **changes: Any,
) -> LatentReasoner | LatentRM:
    """Reads a model from any source and writes it as a folder; see `load_reasoner` and `save_folder`."""
    found = _read(locate(source), None if base is None else locate(base), changes)
    model = _build(found, str(source), dtype)
    save_folder(model, target, source, found.format, base)
    return model


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
