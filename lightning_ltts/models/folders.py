"""Saving models as folders that load bit by bit the same, and with `AutoModel` where published ones do."""

import copy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning
import torch
import transformers
from safetensors.torch import save_file
from torch import nn
from transformers import GenerationConfig

from lightning_ltts.errors import CheckpointError
from lightning_ltts.files import sha256_of, write_json
from lightning_ltts.models.checkpoints import (
    FOLDER_ENTRY,
    PROVENANCE,
    TITLES,
    build_model,
    locate,
    read_source,
)
from lightning_ltts.models.latent_lm import LatentReasoner
from lightning_ltts.models.latent_rm import LatentRM
from lightning_ltts.models.weights import State, weight_files

_HEADS = {"coconut": "thought_head", "codi": "projector", "colar": "lt_head"}  # names in published folders


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
    write_json(folder / FOLDER_ENTRY, entry)
    origin = {"source": None if source is None else str(source), "format": format, "base": None if base is None else str(base)}
    write_json(folder / PROVENANCE, {**origin, **_facts(model, source)})
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
        facts["files"] = {file.name: sha256_of(file) for file in files}
        below = path.parts[path.parts.index("snapshots") + 1 :] if "snapshots" in path.parts else ()
        facts["revision"] = below[0] if below else None  # of a repository on the Hub
    if isinstance(model, LatentReasoner):
        spec, vocabulary = model.spec, model.tokenizer.get_vocab()
        facts |= {
            "kind": TITLES["reasoner"],
            "method": spec.method,
            "tokens": {role: {"token": t, "id": vocabulary.get(t)} for role, t in spec.tokens.items() if t is not None},
            "prompt_template": spec.prompt_template,
            "answer_rule": {"marker": spec.answer_marker, "which": spec.answer_which},
            "num_thoughts": spec.num_thoughts,
            "open_ended": spec.open_ended,
        }
    else:
        facts |= {"kind": TITLES["latent_rm"], "thought_size": model.spec.thought_size, "reasoner": model.spec.reasoner}
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
    found = read_source(locate(source), None if base is None else locate(base), changes)
    model = build_model(found, str(source), dtype)
    save_folder(model, target, source, found.format, base)
    return model
