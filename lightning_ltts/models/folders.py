"""Saving models as folders that load bit by bit the same, as published ones are laid out."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning
import torch
import transformers
from safetensors.torch import save_file
from transformers import GenerationConfig

from lightning_ltts.errors import CheckpointError
from lightning_ltts.files import public_name, sha256_of, write_json, write_text
from lightning_ltts.models.checkpoints import (
    PROVENANCE,
    TITLES,
    VOCABULARY_HEAD,
    build_model,
    locate,
    read_source,
)
from lightning_ltts.models.families import family_of
from lightning_ltts.models.latent_lm import LatentReasoner
from lightning_ltts.models.latent_rm import LatentRM
from lightning_ltts.models.model_card import CARD, model_card
from lightning_ltts.models.weights import FOLDER_ENTRY, State, weight_files


def save_folder(
    model: LatentReasoner | LatentRM,
    folder: str | Path,
    source: str | Path | None = None,
    format: str | None = None,
    base: str | Path | None = None,
    dropped: Mapping[str, int] | None = None,
) -> Path:
    """Writes a model as a folder from which it loads bit by bit the same.

    The folder has the layout of the published ones: a Hugging Face configuration, safetensors,
    tokenizer. That of a COCONUT reasoner loads with `AutoModelForCausalLM` and `AutoTokenizer`,
    too. `provenance.json` says what it is and where it is from, a local path by its last part;
    `README.md` is its model card.

    Args:
        model: the reasoner or LatentRM to save.
        folder: a new or empty folder.
        source: the checkpoint it came from, for the provenance.
        format: the kind of checkpoint that was.
        base: the model that gave configuration and tokenizer, and missing weights.
        dropped: what the checkpoint held beside the model, as `Published` has it.

    Returns the folder.

    Raises:
        CheckpointError: the folder holds something.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CheckpointError(f"{folder} is not an empty folder; give another target")
    folder.mkdir(parents=True, exist_ok=True)
    names = _names_in_folder(model)
    save_file(_renamed(model, names), folder / "model.safetensors", metadata={"format": "pt"})
    extras = _save_config(model, folder)
    spec = asdict(model.spec)
    spec.pop("backbone")  # is in config.json
    if isinstance(model, LatentReasoner):
        GenerationConfig.from_model_config(model.backbone.config).save_pretrained(folder)
        model.tokenizer.save_pretrained(folder)
        (folder / "tokenizer.json").write_text(spec.pop("tokenizer"), encoding="utf-8")
    kind = "reasoner" if isinstance(model, LatentReasoner) else "latent_rm"
    entry = {"kind": kind, "spec": spec, "extras": list(extras), "names": names}
    write_json(folder / FOLDER_ENTRY, entry)
    origin = {"source": source, "format": format, "base": base}
    origin = {name: value and public_name(str(value)) for name, value in origin.items()}
    left_out = {"left_out": dict(dropped)} if dropped else {}
    write_json(folder / PROVENANCE, {**origin, **left_out, **_facts(model, source)})
    write_text(folder / CARD, model_card(model, folder.absolute().name))
    return folder


def _names_in_folder(model: LatentReasoner | LatentRM) -> list[list[str]]:
    """Beginnings of our names of weights, each with what it is in a folder; the first that fits."""
    if isinstance(model, LatentReasoner):
        return [["thought_head.", f"{model.thought_head.prefix}."], ["backbone.", ""]]
    return [
        ["thought_head.", "projector."],
        ["score_head.", "classifier."],
        ["input_projection.", "projecter."],
        ["answer_head.", "answer_head."],  # this and the two next are not in published ones
        ["reference_mark", "reference_mark"],
        ["noise_projection.", "noise_projection."],
        ["backbone.", f"{family_of(model.backbone.config.model_type).body}."],
    ]


def _renamed(model: LatentReasoner | LatentRM, names: list[list[str]]) -> State:
    """The model's weights as a folder names them, on the CPU; without a head that is tied."""
    tied = isinstance(model, LatentReasoner) and model.backbone.config.tie_word_embeddings
    state: State = {}
    for key, tensor in model.state_dict().items():
        if not (tied and key == VOCABULARY_HEAD):
            ours, theirs = next(pair for pair in names if key.startswith(pair[0]))
            state[theirs + key.removeprefix(ours)] = tensor.detach().cpu().contiguous()
    return state


def _save_config(model: LatentReasoner | LatentRM, folder: Path) -> dict[str, Any]:
    """Writes the Hugging Face configuration; returns the entries that are not the backbone's."""
    config, extras = copy.deepcopy(model.backbone.config), _extras(model)
    name = type(model.backbone).__name__
    if isinstance(model, LatentRM):
        name = f"{name.removesuffix('Model')}ForTokenClassification"
    config.architectures = [name]
    for entry, value in extras.items():
        setattr(config, entry, value)
    config.save_pretrained(folder)
    return extras


def _extras(model: LatentReasoner | LatentRM) -> dict[str, Any]:
    """Entries that published configurations have beside the backbone's."""
    if isinstance(model, LatentRM):
        extras: dict[str, Any] = {"latent_hidden_size": model.spec.thought_size}
        if model.spec.thought_head is not None:
            inner = model.spec.thought_head.get("hidden_size")
            extras |= {"projector": True, "projector_hidden_size": inner}
        return extras
    spec, vocabulary = model.spec, model.tokenizer.get_vocab()
    roles = {"latent_start_id": "start", "latent_end_id": "end", "latent_id": "latent"}
    ids = {name: vocabulary.get(spec.tokens.get(role) or "", -1) for name, role in roles.items()}
    return {**ids, **model.thought_head.config_entries()}


def _facts(model: LatentReasoner | LatentRM, source: str | Path | None) -> dict[str, Any]:
    """What the provenance says of a model: its source's files, what it is, versions."""
    facts: dict[str, Any] = {}
    if source is not None:
        path = locate(source)
        files = [path] if path.is_file() else [*path.glob("*.gguf")] or weight_files(path)
        facts["files"] = {file.name: sha256_of(file) for file in files}
        # the Hub's cache keeps a repository's files below snapshots/REVISION
        below = path.parts[path.parts.index("snapshots") + 1 :] if "snapshots" in path.parts else ()
        facts["revision"] = below[0] if below else None
    if isinstance(model, LatentReasoner):
        spec, vocabulary = model.spec, model.tokenizer.get_vocab()
        facts |= {
            "kind": TITLES["reasoner"],
            "method": spec.method,
            "tokens": {
                role: {"token": token, "id": vocabulary.get(token)}
                for role, token in spec.tokens.items()
                if token is not None
            },
            "prompt_template": spec.prompt_template,
            "answer_rule": {"marker": spec.answer_marker, "which": spec.answer_which},
            "num_thoughts": spec.num_thoughts,
            "open_ended": spec.open_ended,
        }
    else:
        facts |= {
            "kind": TITLES["latent_rm"],
            "thought_size": model.spec.thought_size,
            "reasoner": model.spec.reasoner,
        }
    facts["dtype"] = str(model.backbone.dtype).removeprefix("torch.")
    modules = (torch, transformers, lightning)
    return {**facts, "versions": {module.__name__: str(module.__version__) for module in modules}}


def import_model(
    source: str | Path,
    target: str | Path,
    base: str | Path | None = None,
    dtype: torch.dtype | None = None,
    check: Callable[[LatentReasoner | LatentRM], None] | None = None,
    **changes: Any,
) -> LatentReasoner | LatentRM:
    """Reads a model from any source and writes it as a folder.

    Args:
        source: what `load_reasoner` or `load_latent_rm` takes as path.
        target: a new or empty folder.
        base: what gives configuration, tokenizer and weights that `source` does not hold.
        dtype: data type of the weights; by default the one they are stored in.
        check: is given the model before anything is written, and can refuse it.
        changes: fields of a reasoner's specification to set otherwise.

    Returns the model.

    Raises:
        CheckpointError: the source cannot be read, or the target holds something.
    """
    found = read_source(locate(source), None if base is None else locate(base), changes)
    model = build_model(found, str(source), dtype)
    if check is not None:
        check(model)
    save_folder(model, target, source, found.format, base, found.dropped)
    return model
