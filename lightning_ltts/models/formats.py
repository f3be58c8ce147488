"""The published formats of latent reasoners and LatentRMs, as tables.

Each is one row of `FORMATS`: which keys show it, how keys are renamed, and what the file does not
say (prompt template, answer rule, number of thoughts). Unknown keys are errors, except those named
here.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lightning_ltts.data.tokenization import ANSWER_MARKER, END, LATENT, START
from lightning_ltts.errors import CheckpointError
from lightning_ltts.models.families import FAMILIES
from lightning_ltts.models.weights import State

KeyMap = tuple[tuple[str, str | None], ...]  # (pattern of a whole key, its replacement, None: drop)

_BUFFERS: KeyMap = tuple(
    (pattern, None)
    for pattern in dict.fromkeys(p for family in FAMILIES.values() for p in family.buffers)
)
_BODY = "|".join(dict.fromkeys(family.body for family in FAMILIES.values()))
_MODEL = rf"((?:{_BODY}|lm_head)\..*)"
LATENT_TTS: KeyMap = (
    *_BUFFERS,
    (_MODEL, r"backbone.\1"),
    (r"(?:projector|lt_head)\.(.*)", r"thought_head.\1"),
)
LATENT_TTS_RM: KeyMap = (
    *_BUFFERS,
    (rf"(?:{_BODY})\.(.*)", r"backbone.\1"),
    (r"projector\.(.*)", r"thought_head.\1"),
    (r"projecter\.(.*)", r"input_projection.\1"),  # spelt so in the published Llama variant
    (r"classifier\.(.*)", r"score_head.\1"),
)
# SIM-CoT trains COCONUT and CODI with a decoder beside them, which nothing needs afterwards
_SIM_COT: KeyMap = ((r"(?:expainable_llm|decoder|pj_in|pj_out)\..*", None),)  # spelt so
META_COCONUT: KeyMap = (
    *_BUFFERS,
    *_SIM_COT,
    (rf"base_causallm\.{_MODEL}", r"backbone.\1"),
    (r"embedding\.weight", None),  # the token embeddings once more
)
CODI: KeyMap = (
    *_BUFFERS,
    *_SIM_COT,
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
_COLAR_CHECKPOINT_SETTINGS = {
    **_COLAR_SETTINGS,
    "prompt_template": "Question: {question} Let's think step by step:(Thinking speed: 5)###",
}
_MARKERS: dict[str, str | None] = {"start": START, "end": END, "latent": LATENT}
_COLAR_MARKERS: dict[str, str | None] = {"start": None, "end": "###", "latent": None}


@dataclass(frozen=True)
class Format:
    """How one published kind of checkpoint is recognised and read.

    Args:
        name: what it is called in messages and in the provenance.
        kind: what it holds, "reasoner" or "latent_rm".
        sign: a pattern that the beginning of one of its keys matches.
        keys: how its keys are renamed.
        method: the reasoner's method, which names its thought head.
        settings: fields of `ReasonerSpec` that the file does not hold.
        markers: token of each role that the thinking has, likewise.
        added_tokens: tokens that training added in this order, which the base tokenizer lacks.
        needs_base_weights: whether it holds adapters and head only.
    """

    name: str
    kind: str
    sign: str
    keys: KeyMap
    method: str = "coconut"
    settings: Mapping[str, Any] = field(default_factory=dict)
    markers: Mapping[str, str | None] = field(default_factory=lambda: dict(_MARKERS))
    added_tokens: tuple[str, ...] = ()
    needs_base_weights: bool = False


# the first whose sign is met counts
FORMATS = (
    Format("LatentTTS LatentRM folder", "latent_rm", r"classifier\.", LATENT_TTS_RM),
    Format(
        "LatentTTS CoLaR folder", "reasoner", r"lt_head\.", LATENT_TTS, "colar", _COLAR_SETTINGS,
        _COLAR_MARKERS,
    ),
    Format(
        "LatentTTS CODI folder", "reasoner", r"projector\.", LATENT_TTS, "codi", _CODI_SETTINGS
    ),
    Format(
        "CoLaR Lightning checkpoint", "reasoner", r"latent_policy\.", COLAR, "colar",
        _COLAR_CHECKPOINT_SETTINGS, _COLAR_MARKERS, needs_base_weights=True,
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
LATENT_TTS_COCONUT = Format(
    "LatentTTS COCONUT folder", "reasoner", "", LATENT_TTS, "coconut", _COCONUT_SETTINGS
)
CAUSAL_LM = Format(
    "causal language model", "reasoner", "", LATENT_TTS, "coconut",
    {
        "num_thoughts": 6, "max_answer_tokens": 64, "add_special_tokens": True,
        "prompt_template": "{question}\n", "answer_marker": ANSWER_MARKER, "answer_which": "first",
    },
)  # fmt: skip
# entries of published configurations that belong to the thought head or the markers
CONFIG_EXTRAS = (
    "latent_id", "latent_start_id", "latent_end_id", "target_id", "projector", "projector_dropout",
    "projector_hidden_size", "latent_intermediate_size", "latent_embedding_std",
    "latent_hidden_size", "loss_type",
)  # fmt: skip


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
        f"{source} is not a checkpoint of this package, nor of any other known format: its keys "
        f"are {some}; known are "
        + ", ".join(known.name for known in (*FORMATS, LATENT_TTS_COCONUT, CAUSAL_LM))
    )


def rename(
    tensors: State, keys: KeyMap, source: str, title: str
) -> tuple[State, dict[str, str], Counter[str]]:
    """Tensors under our names, and for each of these the name in the file.

    Last, how many tensors are dropped whose names begin alike; constant buffers are not counted.

    Raises:
        CheckpointError: a key that the table does not know.
    """
    state: State = {}
    names: dict[str, str] = {}
    dropped: Counter[str] = Counter()
    for key, tensor in tensors.items():
        for pattern, replacement in keys:
            match = re.fullmatch(pattern, key)
            if match:
                if replacement is not None:
                    ours = match.expand(replacement)
                    state[ours], names[ours] = tensor, key
                elif (pattern, None) not in _BUFFERS:
                    dropped[f"{key.partition('.')[0]}.*"] += 1
                break
        else:
            known = ", ".join(pattern for pattern, replacement in keys if replacement is not None)
            raise CheckpointError(
                f"{source} holds the key '{key}', which no {title} has; expected are {known}"
            )
    return state, names, dropped
