"""Published checkpoints of latent reasoners and LatentRMs, whatever their format, read as specification and weights.

The format is found by the keys in the file. Each is one row of `FORMATS`: which keys show it, how keys are renamed, and what
the file does not say (prompt template, answer rule, number of thoughts). Unknown keys are errors, except those named here.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerFast

from lightning_ltts.data.tokenization import ANSWER_MARKER, END, LATENT, START
from lightning_ltts.errors import CheckpointError
from lightning_ltts.models.latent_lm import ReasonerSpec, canonical
from lightning_ltts.models.latent_rm import LatentRMSpec
from lightning_ltts.models.weights import State, quiet_transformers, read_tensors

KeyMap = tuple[tuple[str, str | None], ...]  # (pattern of the whole key, its replacement, or None where it is left out)

# buffers that old versions of transformers saved, and that hold no weights
_BUFFERS: KeyMap = ((r".*\.attn\.(masked_)?bias", None), (r".*rotary_emb\.inv_freq", None))
_MODEL = r"((?:transformer|model|lm_head)\..*)"
LATENT_TTS: KeyMap = (
    *_BUFFERS,
    (_MODEL, r"backbone.\1"),
    (r"(?:projector|lt_head)\.(.*)", r"thought_head.\1"),
)
LATENT_TTS_RM: KeyMap = (
    *_BUFFERS,
    (r"(?:transformer|model)\.(.*)", r"backbone.\1"),
    (r"projector\.(.*)", r"thought_head.\1"),
    (r"projecter\.(.*)", r"input_projection.\1"),  # spelt so in the published Llama variant
    (r"classifier\.(.*)", r"score_head.\1"),
)
META_COCONUT: KeyMap = (
    *_BUFFERS,
    (rf"base_causallm\.{_MODEL}", r"backbone.\1"),
    (r"embedding\.weight", None),  # the token embeddings once more
)
CODI: KeyMap = (
    *_BUFFERS,
    (rf"(?:codi|coconut)\.base_model\.model\.{_MODEL}", r"backbone.\1"),
    (r"prj\.([13]\..*)", r"thought_head.\1"),
    (r"prj\.ln\.(.*)", r"thought_head.4.\1"),
    (r"dynamic_cls\..*", None),  # a head of training that nothing reads
)
COLAR: KeyMap = (
    *_BUFFERS,
    (rf"llm\.base_model\.model\.{_MODEL}", r"backbone.\1"),
    (r"latent_policy\.((?:fc|mean|log_std)\..*)", r"thought_head.\1"),
)

_COCONUT_SETTINGS = {
    "num_thoughts": 6,
    "max_answer_tokens": 64,
    "prompt_template": "{question}\n",
    "answer_marker": "#",
    "answer_which": "only",
}
_CODI_SETTINGS = {
    **_COCONUT_SETTINGS,
    "prompt_template": "{question}",
    "answer_marker": "",
    "answer_which": "last",
}
_COLAR_SETTINGS = {
    "num_thoughts": 64,
    "max_answer_tokens": 64,
    "open_ended": True,
    "prompt_template": "Question: {question} Let's think step by step:(Thinking speed: 2)###",
    "answer_marker": "Answer:",
    "answer_which": "only",
}
_MARKERS: dict[str, str | None] = {"start": START, "end": END, "latent": LATENT}
_COLAR_MARKERS: dict[str, str | None] = {"start": None, "end": "###", "latent": None}
LORA_ALPHA = 32.0  # of the published CODI and CoLaR adapters; their rank is read from the file

# standard deviation of token embeddings, by (family, hidden size), as CoLaR's training code has them
EMBEDDING_STD = {
    ("llama", 2048): 0.018,
    ("llama", 3072): 0.018,
    ("llama", 4096): 0.008,
    ("qwen2", 1536): 0.03,
    ("gpt2", 768): 0.12,
}


@dataclass(frozen=True)
class Format:
    """How one published kind of checkpoint is recognised and read."""

    name: str
    kind: str  # reasoner or latent_rm
    sign: str  # pattern that one of its keys starts with
    keys: KeyMap
    method: str = "coconut"
    settings: Mapping[str, Any] = field(default_factory=dict)  # fields of ReasonerSpec that the file does not hold
    markers: Mapping[str, str | None] = field(default_factory=lambda: dict(_MARKERS))
    added_tokens: tuple[str, ...] = ()  # the base tokenizer lacks these, which training added in this order
    needs_base_weights: bool = False


# the first whose sign is met counts
FORMATS = (
    Format("LatentTTS LatentRM folder", "latent_rm", r"classifier\.", LATENT_TTS_RM),
    Format("LatentTTS CoLaR folder", "reasoner", r"lt_head\.", LATENT_TTS, "colar", _COLAR_SETTINGS, _COLAR_MARKERS),
    Format("LatentTTS CODI folder", "reasoner", r"projector\.", LATENT_TTS, "codi", _CODI_SETTINGS),
    Format(
        "CoLaR Lightning checkpoint", "reasoner", r"latent_policy\.", COLAR, "colar",
        {**_COLAR_SETTINGS, "prompt_template": "Question: {question} Let's think step by step:(Thinking speed: 5)###"},
        _COLAR_MARKERS, needs_base_weights=True,
    ),
    Format(
        "CODI state dict", "reasoner", r"(codi|coconut)\.base_model\.", CODI, "codi",
        {**_CODI_SETTINGS, "add_special_tokens": True, "suppressed_tokens": [END]},
        {"start": START, "end": END, "latent": None}, ("[PAD]", START, END),
    ),
    Format(
        "COCONUT state dict", "reasoner", r"base_causallm\.", META_COCONUT, "coconut",
        {**_COCONUT_SETTINGS, "add_special_tokens": True}, _MARKERS, (START, END, LATENT),
    ),
)  # fmt: skip
LATENT_TTS_COCONUT = Format("LatentTTS COCONUT folder", "reasoner", "", LATENT_TTS, "coconut", _COCONUT_SETTINGS)
CAUSAL_LM = Format(
    "causal language model", "reasoner", "", LATENT_TTS, "coconut",
    {
        "num_thoughts": 6, "max_answer_tokens": 64, "add_special_tokens": True, "prompt_template": "{question}\n",
        "answer_marker": ANSWER_MARKER, "answer_which": "first",
    },
)  # fmt: skip
# entries of published configurations that belong to the thought head or the markers, not to the backbone
_EXTRAS = (
    "latent_id", "latent_start_id", "latent_end_id", "target_id", "projector", "projector_dropout",
    "projector_hidden_size", "latent_intermediate_size", "latent_embedding_std", "latent_hidden_size", "loss_type",
)  # fmt: skip


@dataclass(frozen=True)
class Published:
    """A model as read: what it is, and its weights under our names."""

    format: str
    kind: str
    spec: Any  # ReasonerSpec or LatentRMSpec
    state: State
    names: dict[str, str]  # our key -> the file's
    new_head: bool = False  # the thought head is not in the file and starts from random weights


def find_format(keys: set[str], source: str) -> Format:
    """The format with these keys; without any sign, a causal language model.

    Raises:
        CheckpointError: they are of no known format.
    """
    for known in FORMATS:
        if any(re.match(known.sign, key) for key in keys):
            return known
    if any(re.fullmatch(_MODEL, key) for key in keys):
        return CAUSAL_LM
    some = ", ".join(f"'{key}'" for key in sorted(keys)[:3]) or "none"
    raise CheckpointError(
        f"{source} is not a checkpoint of this package, nor of any other known format: its keys are {some}; known are "
        + ", ".join(known.name for known in (*FORMATS, LATENT_TTS_COCONUT, CAUSAL_LM))
    )


def read_published(path: Path, base: Path | None, changes: dict[str, Any]) -> Published:
    """Reads a file or folder of any format in `FORMATS`, a plain causal language model, or a GGUF file of one.

    Args:
        path: what to read.
        base: model that gives configuration and tokenizer (and for CoLaR weights), where `path` does not hold them.
        changes: fields of the specification to set otherwise.

    Raises:
        CheckpointError: naming the key or file, and what was expected.
    """
    gguf = _gguf_file(path)
    if base is not None and _gguf_file(base):
        raise CheckpointError(f"the base {base} is a GGUF file; import it as a folder first, and give that")
    tensors = _read_gguf(gguf) if gguf else read_tensors(path)
    known = find_format(set(tensors), str(path))
    state, names = rename(tensors, known.keys, str(path), known.name)
    home = path if path.is_dir() else path.parent
    described = gguf is not None or (path.is_dir() and (home / "config.json").is_file())
    home = home if base is None and described else base  # type: ignore[assignment]
    if home is None:
        raise CheckpointError(
            f"{path} is a {known.name}, which holds neither configuration nor tokenizer; give the model it was trained from as "
            "base (a folder or a name on the Hugging Face Hub, for instance openai-community/gpt2)"
        )
    config = _read_config(home, gguf)
    if known.kind == "latent_rm":
        return _latent_rm(known, config, state, names)
    tokenizer = _read_tokenizer(home, gguf)
    if known is CAUSAL_LM and START in tokenizer.get_vocab():
        known = LATENT_TTS_COCONUT
    if known.needs_base_weights:
        _require_adapters(state, str(path))
        if base is None:
            raise CheckpointError(f"{path} holds adapters only; give the model they belong to as base")
        weights, _ = rename(read_tensors(base), LATENT_TTS, str(base), CAUSAL_LM.name)
        state = {**weights, **state}
    method = changes.get("method", known.method)
    merge_lora(state, config.model_type, str(path))
    tokenizer.add_tokens([token for token in known.added_tokens if token not in tokenizer.get_vocab()])
    if known is CAUSAL_LM:
        tokenizer.add_tokens([START, END, LATENT])
        _add_rows(state, len(tokenizer))
    rows = _embedding(state, str(path)).shape[0]
    if len(tokenizer) > rows or (known.added_tokens and len(tokenizer) != rows):
        added = f" with {', '.join(known.added_tokens)} added" if known.added_tokens else ""
        raise CheckpointError(
            f"{path} has a vocabulary of {rows}, but the tokenizer of {home} has {len(tokenizer)} tokens{added}; give the base "
            "it was trained from"
        )
    head, std = _head_options(method, state, config), getattr(config, "latent_embedding_std", None)
    if method == "colar":
        std = std or EMBEDDING_STD.get((config.model_type, config.hidden_size))
        if std is None and "embedding_std" not in changes.get("thought_head", {}):
            raise CheckpointError(
                f"{path} does not say the standard deviation of the embeddings that CoLaR's latent head works in, and it is "
                f"not known for {config.model_type} of size {config.hidden_size}; set thought_head.embedding_std"
            )
        head["embedding_std"] = std
    backbone = _plain_config(config, rows)
    roles = {"pad": tokenizer.pad_token, "eos": tokenizer.eos_token, "unk": tokenizer.unk_token, "bos": tokenizer.bos_token}
    if "[PAD]" in known.added_tokens:
        roles["pad"] = "[PAD]"
    fields = {"tokens": {**roles, **known.markers}, "thought_head": head, **known.settings, "method": method}
    fields |= {"backbone": backbone, "tokenizer": tokenizer.backend_tokenizer.to_str()}
    new_head = known is CAUSAL_LM and method != "coconut"
    return Published(known.name, "reasoner", change_spec(ReasonerSpec(**fields), changes), state, names, new_head)


def change_spec(spec: ReasonerSpec, changes: Mapping[str, Any]) -> ReasonerSpec:
    """The specification with other values; `tokens` and `thought_head` are merged.

    Raises:
        CheckpointError: a field that there is not.
    """
    values = dict(vars(spec))
    for name, value in changes.items():
        if name not in values or name in ("backbone", "tokenizer"):
            fields = ", ".join(field for field in values if field not in ("backbone", "tokenizer"))
            raise CheckpointError(f"a reasoner's specification has no field '{name}' to be set; there are {fields}")
        if type(value) is not type(values[name]):
            kind = type(values[name]).__name__
            raise CheckpointError(
                f"the specification's field '{name}' must be a {kind}, for instance {values[name]!r}, not {value!r}"
            )
        values[name] = {**values[name], **value} if isinstance(value, dict) else value
    return ReasonerSpec(**values)


def rename(tensors: State, keys: KeyMap, source: str, title: str) -> tuple[State, dict[str, str]]:
    """Tensors under our names, and for each of these the name in the file.

    Raises:
        CheckpointError: a key that the table does not know.
    """
    state: State = {}
    names: dict[str, str] = {}
    for key, tensor in tensors.items():
        for pattern, replacement in keys:
            match = re.fullmatch(pattern, key)
            if match:
                if replacement is not None:
                    ours = match.expand(replacement)
                    state[ours], names[ours] = tensor, key
                break
        else:
            known = ", ".join(pattern for pattern, replacement in keys if replacement is not None)
            raise CheckpointError(f"{source} holds the key '{key}', which no {title} has; expected are {known}")
    return state, names


def merge_lora(state: State, family: str, source: str, alpha: float = LORA_ALPHA) -> None:
    """Adds adapters to the weights they belong to, in place: W + (alpha / r) B A (arXiv 2106.09685).

    GPT-2 keeps its matrices transposed (Conv1D), and so is what is added.

    Raises:
        CheckpointError: an adapter without the weights it belongs to, or of another shape.
    """
    for key in [key for key in state if key.endswith(".base_layer.weight")]:
        adapter = key.replace(".base_layer.weight", ".lora_A.default.weight")
        if adapter not in state:
            raise CheckpointError(f"{source} lacks the adapter '{adapter}' of the weights '{key}'")
    for key in [key for key in state if ".base_layer." in key]:
        state[key.replace(".base_layer.", ".")] = state.pop(key)
    for key in [key for key in state if key.endswith(".lora_A.default.weight")]:
        module = key.removesuffix(".lora_A.default.weight")
        up, target = f"{module}.lora_B.default.weight", f"{module}.weight"
        if up not in state or target not in state:
            raise CheckpointError(f"{source} holds the adapter '{key}' without '{up if up not in state else target}'")
        a, b = state.pop(key).float(), state.pop(up).float()
        if a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[1]:
            raise CheckpointError(
                f"{source}: the adapter '{key}' of shape {tuple(a.shape)} does not fit '{up}' of {tuple(b.shape)}"
            )
        added = b @ a * (alpha / a.shape[0])
        added = added.T if family == "gpt2" else added
        weight = state[target]
        if weight.shape != added.shape:
            raise CheckpointError(
                f"{source}: the adapter '{key}' makes a change of shape {tuple(added.shape)}, but the weights it belongs to "
                f"have {tuple(weight.shape)}"
            )
        state[target] = (weight.float() + added).to(weight.dtype)


def _require_adapters(state: State, source: str) -> None:
    """Every layer must have the adapters that any layer has."""
    adapters = [key for key in state if key.endswith(".lora_A.default.weight")]
    if not adapters:
        raise CheckpointError(f"{source} lacks adapters; expected keys that end in lora_A.default.weight")
    kinds = {re.sub(r"\.\d+\.", ".*.", key) for key in adapters}
    for layer in {match.group() for key in adapters if (match := re.search(r"\.\d+\.", key))}:
        for kind in kinds:
            if (key := kind.replace(".*.", layer)) not in state:
                raise CheckpointError(f"{source} lacks the adapter '{key}', which other layers have")


def _latent_rm(known: Format, config: PreTrainedConfig, state: State, names: dict[str, str]) -> Published:
    projection = state.get("input_projection.weight")
    size = config.hidden_size if projection is None else projection.shape[1]
    head = _head_options("codi", state, config) if "thought_head.1.weight" in state else None
    rows = _embedding(state, known.name).shape[0]
    return Published(known.name, "latent_rm", LatentRMSpec(_plain_config(config, rows), size, thought_head=head), state, names)


def _embedding(state: State, source: str) -> torch.Tensor:
    """The token embeddings (V, d)."""
    for key, tensor in state.items():
        if key.endswith((".wte.weight", ".embed_tokens.weight")):
            return tensor
    raise CheckpointError(f"{source} lacks token embeddings; expected a key that ends in wte.weight or embed_tokens.weight")


def _head_options(method: str, state: State, config: PreTrainedConfig) -> dict[str, Any]:
    """Sizes of the thought head, from its weights."""
    inner = state.get("thought_head.1.weight" if method == "codi" else "thought_head.fc.0.weight")
    if method == "codi":
        options: dict[str, Any] = {"dropout": float(getattr(config, "projector_dropout", 0.0))}
        return options if inner is None else {**options, "hidden_size": inner.shape[0]}
    if method == "colar":
        options = {"spread": "thought_head.log_std.weight" in state}
        return options if inner is None else {**options, "intermediate_size": inner.shape[0]}
    return {}


def _plain_config(config: PreTrainedConfig, rows: int) -> dict[str, Any]:
    config.vocab_size = rows
    return {key: value for key, value in canonical(config).items() if key not in _EXTRAS}


def _add_rows(state: State, rows: int) -> None:
    """Makes room for new tokens; each starts as the mean of all tokens."""
    for key in [key for key in state if key.endswith((".wte.weight", ".embed_tokens.weight", "lm_head.weight"))]:
        missing = rows - state[key].shape[0]
        if missing > 0:
            mean = state[key].float().mean(0, keepdim=True).to(state[key].dtype)
            state[key] = torch.cat([state[key], mean.expand(missing, -1)])


def _read_config(home: Path, gguf: Path | None) -> PreTrainedConfig:
    try:
        options = {"gguf_file": gguf.name} if gguf and home == gguf.parent else {}
        return AutoConfig.from_pretrained(home, trust_remote_code=False, **options)
    except Exception as error:  # of many kinds: no such file, not JSON, values that do not fit
        raise CheckpointError(f"no configuration of a supported model can be read from {home} ({_first_line(error)})") from None


def _read_tokenizer(home: Path, gguf: Path | None) -> PreTrainedTokenizerFast:
    try:
        if (home / "tokenizer.json").is_file():  # as it is: AutoTokenizer would put in what it knows of the family
            tokenizer = PreTrainedTokenizerFast.from_pretrained(home, trust_remote_code=False)
        else:
            options = {"gguf_file": gguf.name} if gguf and home == gguf.parent else {}
            if not options and not any((home / name).is_file() for name in ("vocab.json", "tokenizer.model")):
                raise FileNotFoundError("it has neither tokenizer.json nor vocab.json nor tokenizer.model")
            tokenizer = AutoTokenizer.from_pretrained(home, trust_remote_code=False, **options)
    except Exception as error:  # many kinds, all of which mean that the files are not there or not a tokenizer's
        raise CheckpointError(f"no tokenizer can be read from {home} ({_first_line(error)})") from None
    if not isinstance(tokenizer, PreTrainedTokenizerFast) or tokenizer.eos_token is None:
        raise CheckpointError(f"the tokenizer in {home} is not a fast tokenizer with an end-of-sequence token")
    return tokenizer


def _gguf_file(path: Path) -> Path | None:
    if path.is_dir():
        found = sorted(path.glob("*.gguf"))
        return found[0] if len(found) == 1 and not (path / "config.json").exists() else None
    with path.open("rb") as file:
        return path if file.read(4) == b"GGUF" else None


def _read_gguf(path: Path) -> State:
    """The de-quantised weights of a GGUF file, in float32."""
    try:
        with quiet_transformers():
            model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    except ImportError:
        raise CheckpointError(f"{path} is a GGUF file; install the extra for it: pip install 'lightning_ltts[gguf]'") from None
    except Exception as error:  # a damaged file fails in many ways, none of which says more than this
        raise CheckpointError(f"the GGUF file {path} cannot be read ({_first_line(error)})") from None
    state: State = model.state_dict()
    if model.config.tie_word_embeddings:
        state.pop("lm_head.weight", None)
    return state


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
