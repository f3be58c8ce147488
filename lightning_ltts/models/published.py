"""Reading published checkpoints of latent reasoners and LatentRMs as specification and weights.

Which formats there are, and how their keys are renamed, stands in `formats.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerFast

from lightning_ltts.data.tokenization import END, LATENT, START
from lightning_ltts.errors import CheckpointError, ConfigError, reason_of
from lightning_ltts.models.adapters import ALPHA, alpha_of, merge_lora, require_adapters
from lightning_ltts.models.backbone_checks import check_config
from lightning_ltts.models.families import FAMILIES, family_of
from lightning_ltts.models.formats import (
    CAUSAL_LM,
    CONFIG_EXTRAS,
    LATENT_TTS,
    LATENT_TTS_COCONUT,
    Format,
    find_format,
    rename,
)
from lightning_ltts.models.gguf import find_gguf, read_gguf
from lightning_ltts.models.latent_lm import ReasonerSpec, canonical
from lightning_ltts.models.latent_rm_spec import LatentRMSpec
from lightning_ltts.models.thought_heads import CodiHead, required_options, thought_head_of
from lightning_ltts.models.weights import State, check_json_sizes, read_tensors

_EMBEDDINGS = tuple(dict.fromkeys(f"{family.embedding}.weight" for family in FAMILIES.values()))


@dataclass(frozen=True)
class Published:
    """A model as it was read.

    Args:
        format: the name of the format.
        kind: what it is, "reasoner" or "latent_rm".
        spec: its `ReasonerSpec` or `LatentRMSpec`.
        state: its weights under our names.
        names: name of a weight here -> its name in the file.
        new_head: whether the file has no thought head, which then starts from random weights.
        dropped: beginnings of names in the file that are no part of the model, each with how many
            tensors have it.
    """

    format: str
    kind: str
    spec: Any
    state: State
    names: dict[str, str]
    new_head: bool = False
    dropped: Mapping[str, int] = field(default_factory=dict)


def read_published(path: Path, base: Path | None, changes: Mapping[str, Any]) -> Published:
    """Reads a published reasoner or LatentRM, a plain causal language model, or a GGUF file of one.

    Args:
        path: the file or folder, of any format in `formats.FORMATS`.
        base: model that gives configuration and tokenizer (and for CoLaR weights), where `path`
            does not hold them.
        changes: fields of the specification to set otherwise; `lora_alpha` is that of adapters.

    Raises:
        CheckpointError: naming the key or file, and what was expected.
        ConfigError: the backbone is of a family that is not supported, or no backbone.
    """
    gguf = find_gguf(path)
    if base is not None and find_gguf(base):
        raise CheckpointError(
            f"the base {base} is a GGUF file; import it as a folder first, and give that"
        )
    given = changes.get(ALPHA)
    changes = {name: value for name, value in changes.items() if name != ALPHA}
    tensors = read_gguf(gguf) if gguf else read_tensors(path)
    known = find_format(set(tensors), str(path))
    state, names, dropped = rename(tensors, known.keys, str(path), known.name)
    home = _home(path, base, gguf, known)
    check_json_sizes(home)
    config = _read_config(home, gguf)
    if known.kind == "latent_rm":
        return _latent_rm(known, config, state, names)

    tokenizer = _read_tokenizer(home, gguf, config)
    if known is CAUSAL_LM and START in tokenizer.get_vocab():
        known = LATENT_TTS_COCONUT
    if known.needs_base_weights:
        state = _with_base_weights(state, path, base)
    alpha = alpha_of(path, given, known.needs_base_weights)
    merge_lora(state, family_of(config.model_type), str(path), alpha)
    rows = _add_tokens(known, tokenizer, state, path, home)

    method = changes.get("method", known.method)
    fields = {
        "tokens": {**_roles(known, tokenizer), **known.markers},
        "thought_head": _head_options(method, state, config, changes, path),
        **known.settings,
        "method": method,
        "backbone": _plain_config(config, rows),
        "tokenizer": tokenizer.backend_tokenizer.to_str(),
    }
    spec = change_spec(ReasonerSpec(**fields), changes)
    return Published(known.name, "reasoner", spec, state, names, known is CAUSAL_LM, dropped)


def change_spec(spec: ReasonerSpec, changes: Mapping[str, Any]) -> ReasonerSpec:
    """The specification with other values; `tokens` and `thought_head` are merged.

    Raises:
        CheckpointError: a field that there is not.
    """
    values = dict(vars(spec))
    for name, value in changes.items():
        if name not in values or name in ("backbone", "tokenizer"):
            fields = ", ".join(key for key in values if key not in ("backbone", "tokenizer"))
            raise CheckpointError(
                f"a reasoner's specification has no field '{name}' to be set; there are {fields}"
            )
        if type(value) is not type(values[name]):
            kind = type(values[name]).__name__
            raise CheckpointError(
                f"the specification's field '{name}' must be a {kind}, for instance {values[name]!r}, not {value!r}"
            )
        values[name] = {**values[name], **value} if isinstance(value, dict) else value
    return ReasonerSpec(**values)


def _latent_rm(
    known: Format, config: PreTrainedConfig, state: State, names: dict[str, str]
) -> Published:
    projection = state.get("input_projection.weight")
    size = config.hidden_size if projection is None else projection.shape[1]
    head = _head_state(state)
    options = CodiHead.published_options(head, config) if "1.weight" in head else None
    rows = _embedding(state, known.name).shape[0]
    spec = LatentRMSpec(_plain_config(config, rows), size, thought_head=options)
    return Published(known.name, "latent_rm", spec, state, names)


# -- where configuration and tokenizer are


def _home(path: Path, base: Path | None, gguf: Path | None, known: Format) -> Path:
    """The folder that holds configuration and tokenizer."""
    if base is not None:
        return base
    home = path if path.is_dir() else path.parent
    if gguf is None and not (path.is_dir() and (home / "config.json").is_file()):
        raise CheckpointError(
            f"{path} is a {known.name}, which holds neither configuration nor tokenizer; give the "
            "model it was trained from as base (a folder or a name on the Hugging Face Hub, for "
            "instance openai-community/gpt2)"
        )
    return home


def _read_config(home: Path, gguf: Path | None) -> PreTrainedConfig:
    try:
        result: PreTrainedConfig = AutoConfig.from_pretrained(
            home, trust_remote_code=False, **_gguf_option(home, gguf)
        )
    except Exception as error:  # of many kinds: no such file, not JSON, values that do not fit
        raise CheckpointError(
            f"no configuration of a supported model can be read from {home} ({reason_of(error)})"
        ) from None
    try:
        check_config(result)
    except ConfigError as error:
        raise ConfigError(f"{home}: {error}") from None
    return result


def _read_tokenizer(
    home: Path, gguf: Path | None, config: PreTrainedConfig
) -> PreTrainedTokenizerFast:
    try:
        if (home / "tokenizer.json").is_file():
            # as it is: AutoTokenizer would put in what it knows of the family
            tokenizer = PreTrainedTokenizerFast.from_pretrained(home, trust_remote_code=False)
        else:
            options = _gguf_option(home, gguf)
            files = ("vocab.json", "tokenizer.model")
            if not options and not any((home / name).is_file() for name in files):
                raise FileNotFoundError(
                    "it has neither tokenizer.json nor vocab.json nor tokenizer.model"
                )
            tokenizer = AutoTokenizer.from_pretrained(home, trust_remote_code=False, **options)
    except Exception as error:  # of many kinds: the files are not there, or not a tokenizer's
        raise CheckpointError(
            f"no tokenizer can be read from {home} ({reason_of(error)})"
        ) from None
    if isinstance(tokenizer, PreTrainedTokenizerFast):
        end = getattr(config, "eos_token_id", None)
        if tokenizer.eos_token is None and isinstance(end, int) and end < len(tokenizer):
            # GPT-2's own files name it in the configuration of the model alone
            tokenizer.eos_token = tokenizer.convert_ids_to_tokens(end)
        if tokenizer.eos_token is not None:
            return tokenizer
    raise CheckpointError(
        f"the tokenizer in {home} is not a fast tokenizer with an end-of-sequence token"
    )


def _gguf_option(home: Path, gguf: Path | None) -> dict[str, str]:
    """What tells transformers to look into the GGUF file, where `home` is that file's folder."""
    return {"gguf_file": gguf.name} if gguf and home == gguf.parent else {}


def _plain_config(config: PreTrainedConfig, rows: int) -> dict[str, Any]:
    """The backbone's configuration as a specification holds it, for a vocabulary of `rows`."""
    config.vocab_size = rows
    return {key: value for key, value in canonical(config).items() if key not in CONFIG_EXTRAS}


# -- weights and vocabulary


def _with_base_weights(state: State, path: Path, base: Path | None) -> State:
    """The weights of the base model, and above them the adapters and head of `state`."""
    require_adapters(state, str(path))
    if base is None:
        raise CheckpointError(f"{path} holds adapters only; give the model they belong to as base")
    weights, *_ = rename(read_tensors(base), LATENT_TTS, str(base), CAUSAL_LM.name)
    return {**weights, **state}


def _add_tokens(
    known: Format, tokenizer: PreTrainedTokenizerFast, state: State, path: Path, home: Path
) -> int:
    """Adds to the tokenizer what training added, or to a plain model the markers.

    Returns the size of the vocabulary.

    Raises:
        CheckpointError: the tokenizer and the embeddings differ in size.
    """
    vocabulary = tokenizer.get_vocab()
    tokenizer.add_tokens([token for token in known.added_tokens if token not in vocabulary])
    if known is CAUSAL_LM:
        before = len(tokenizer)
        tokenizer.add_tokens([START, END, LATENT])
        _add_rows(state, before, len(tokenizer))
    rows = _embedding(state, str(path)).shape[0]
    if len(tokenizer) > rows or (known.added_tokens and len(tokenizer) != rows):
        added = f" with {', '.join(known.added_tokens)} added" if known.added_tokens else ""
        raise CheckpointError(
            f"{path} has a vocabulary of {rows}, but the tokenizer of {home} has {len(tokenizer)} "
            f"tokens{added}; give the base it was trained from"
        )
    return rows


def _add_rows(state: State, before: int, rows: int) -> None:
    """Each token from number `before` to `rows` starts as the mean of those before.

    A table may have rows that no token had used (Qwen's has); further ones stay as they are. Where
    it lacks rows of earlier tokens, they start likewise.
    """
    for key in [key for key in state if key.endswith((*_EMBEDDINGS, "lm_head.weight"))]:
        known, unused = state[key][:before], state[key][rows:]
        mean = known.float().mean(0, keepdim=True).to(known.dtype)
        state[key] = torch.cat([known, mean.expand(rows - len(known), -1), unused])


def _embedding(state: State, source: str) -> torch.Tensor:
    """The token embeddings (V, d)."""
    for key, tensor in state.items():
        if key.endswith(_EMBEDDINGS):
            return tensor
    raise CheckpointError(
        f"{source} lacks token embeddings; expected a key that ends in {' or '.join(_EMBEDDINGS)}"
    )


def _roles(known: Format, tokenizer: PreTrainedTokenizerFast) -> dict[str, str | None]:
    """Token of each role that has nothing to do with thinking."""
    return {
        "pad": "[PAD]" if "[PAD]" in known.added_tokens else tokenizer.pad_token,
        "eos": tokenizer.eos_token,
        "unk": tokenizer.unk_token,
        "bos": tokenizer.bos_token,
    }


# -- the thought head


def _head_state(state: State) -> State:
    """The weights of the thought head, by its own names."""
    prefix = "thought_head."
    return {k.removeprefix(prefix): tensor for k, tensor in state.items() if k.startswith(prefix)}


def _head_options(
    method: str, state: State, config: PreTrainedConfig, changes: Mapping[str, Any], path: Path
) -> dict[str, Any]:
    """Options of the thought head, as far as weights and configuration say them.

    Raises:
        CheckpointError: one that it needs is neither known nor among the changes.
    """
    head = thought_head_of(method)
    options = head.published_options(_head_state(state), config)
    for name in required_options(head):
        if name not in options and name not in changes.get("thought_head", {}):
            raise CheckpointError(
                f"{path} does not say the {name} of its thought head of the method '{method}', and "
                f"it is not known for {config.model_type} of size {config.hidden_size}; set "
                f"thought_head.{name}"
            )
    return options
