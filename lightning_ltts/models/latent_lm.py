"""A latent reasoner: a Hugging Face causal language model that can be fed its own thoughts."""

import copy
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any, TypedDict, get_args

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.cache_utils import Cache

from lightning_ltts.data.answers import Answer, Which, extract_answer
from lightning_ltts.data.ranges import MAX_TOKENS, require_whole
from lightning_ltts.data.tokenization import ANSWER_MARKER, ROLES, encode_template, wrap_tokenizer
from lightning_ltts.errors import ConfigError, reason_of
from lightning_ltts.models.backbone_checks import check_config, check_memory
from lightning_ltts.models.families import Family, Site, family_of
from lightning_ltts.models.hub import HubModel
from lightning_ltts.models.shared_prefix import IMPLEMENTATION
from lightning_ltts.models.thought_heads import thought_head_of

# entries of a configuration that say nothing of what the model computes
_VOLATILE = (
    "transformers_version",
    "architectures",
    "_name_or_path",
    "torch_dtype",
    "dtype",
    "auto_map",
)


@dataclass(frozen=True)
class ReasonerSpec:
    """All that fixes a latent reasoner except its weights; plain values, in every checkpoint.

    Args:
        method: the method, whose thought head is the `ThoughtHead` of this name.
        backbone: Hugging Face configuration, with its model_type.
        tokenizer: JSON text of the tokenizer.
        num_thoughts: T, thoughts before the answer; the most there can be where `open_ended`.
        max_answer_tokens: tokens decoded after the last thought.
        prompt_template: the prompt, with `{question}` in it.
        answer_marker: the mark that the answer follows in a text (the last such mark).
        answer_which: which number after the mark is the answer, or whether the text is; see
            `extract_answer`.
        open_ended: whether the model ends its thinking by predicting the end token, instead of
            after T thoughts.
        tokens: token of each role; that of `start` may be `None`.
        add_special_tokens: whether a prompt gets the tokenizer's own first token (Llama's begin of
            text).
        suppressed_tokens: tokens that are never written in an answer.
        thought_head: options of the thought head.
    """

    method: str
    backbone: dict[str, Any]
    tokenizer: str
    num_thoughts: int
    max_answer_tokens: int = 16
    prompt_template: str = "{question}\n"
    answer_marker: str = ANSWER_MARKER
    answer_which: Which = "first"
    open_ended: bool = False
    tokens: dict[str, str | None] = field(default_factory=lambda: dict(ROLES))
    add_special_tokens: bool = False
    suppressed_tokens: list[str] = field(default_factory=list)
    thought_head: dict[str, Any] = field(default_factory=dict)

    def identity(self) -> dict[str, Any]:
        """What a fingerprint is made of."""
        return asdict(self)


class SpecChanges(TypedDict, total=False):
    """Fields of `ReasonerSpec` that can be set otherwise when a reasoner is loaded."""

    method: str
    num_thoughts: int
    max_answer_tokens: int
    prompt_template: str
    answer_marker: str
    answer_which: Which
    open_ended: bool
    tokens: dict[str, str | None]
    add_special_tokens: bool
    suppressed_tokens: list[str]
    thought_head: dict[str, Any]


class LatentReasoner(HubModel):
    """Backbone, thought head and tokenizer behind one interface, whatever the method and family.

    A sequence is: prompt template, start token, thoughts, end token, answer text, end of sequence.
    Where there is no start token, the template ends the prompt.

    Args:
        spec: all that it is beside its weights.
        backbone: its causal language model; by default one with random weights, made from the
            specification.

    Raises:
        ConfigError: something in the specification is not known or does not fit together.
    """

    kind = "reasoner"

    def __init__(self, spec: ReasonerSpec, backbone: PreTrainedModel | None = None):
        super().__init__()
        head = thought_head_of(spec.method)
        owner = "the reasoner's specification"
        require_whole(owner, "num_thoughts", spec.num_thoughts, 0, MAX_TOKENS)
        require_whole(owner, "max_answer_tokens", spec.max_answer_tokens, 1, MAX_TOKENS)
        if spec.answer_which not in get_args(Which):
            raise ConfigError(
                f"answer_which={spec.answer_which!r} is not known; use one of {', '.join(get_args(Which))}"
            )
        if "{question}" not in spec.prompt_template:
            raise ConfigError(
                f"the prompt template {spec.prompt_template!r} has no place for the {{question}}"
            )
        self.backbone = backbone if backbone is not None else new_backbone(spec.backbone)
        self.backbone.set_attn_implementation(IMPLEMENTATION)
        self.spec = replace(spec, backbone=canonical(self.backbone.config))
        self.family: Family = family_of(self.spec.backbone["model_type"])
        self.tokenizer = wrap_tokenizer(spec.tokenizer, spec.tokens)
        try:
            self.thought_head = head(self.hidden_size, **spec.thought_head)
        except TypeError as error:
            raise ConfigError(
                f"thought_head={spec.thought_head} does not fit the method '{spec.method}': {error}"
            ) from None
        self.start_id = None if spec.tokens.get("start") is None else self._id_of("start")
        self.end_id = self._id_of("end")
        self.eos_id = self._id_of("eos")
        self.pad_id = self._id_of("pad") if spec.tokens.get("pad") else self.eos_id
        self.suppressed_ids = [self._id_of_token(token) for token in spec.suppressed_tokens]
        markers = (self.start_id, self._id_of("latent") if spec.tokens.get("latent") else None)
        self._hidden_ids = {self.pad_id, self.eos_id} | {i for i in markers if i is not None}

    def _id_of(self, role: str) -> int:
        token = self.spec.tokens.get(role)
        if token is None:
            raise ConfigError(f"the reasoner's specification names no {role} token")
        return self._id_of_token(token)

    def _id_of_token(self, token: str) -> int:
        number = self.tokenizer.get_vocab().get(token)
        if number is None:
            raise ConfigError(
                f"the tokenizer has no token '{token}', which the reasoner's specification names"
            )
        rows = self.backbone.config.vocab_size
        if number >= rows:
            raise ConfigError(
                f"the token '{token}' has the id {number}, but the backbone's vocabulary ends at {rows - 1}"
            )
        return number

    # -- text

    def encode_prompt(self, question: str, source: str = "") -> list[int]:
        """Token ids of a question's prompt, start token included.

        Raises:
            DataError: a word is not in the vocabulary.
        """
        template = self.spec.prompt_template
        ids = encode_template(
            self.tokenizer, template, question, source, self.spec.add_special_tokens
        )
        return ids if self.start_id is None else [*ids, self.start_id]

    def decode(self, ids: Tensor | list[int]) -> str:
        """The text of answer tokens, without special tokens and markers of thinking."""
        numbers = ids.tolist() if isinstance(ids, Tensor) else ids
        kept = [number for number in numbers if number not in self._hidden_ids]
        return str(self.tokenizer.decode(kept, skip_special_tokens=True))

    def read_answer(self, ids: Tensor | list[int]) -> Answer | None:
        """The answer that answer tokens write, by the specification's rule."""
        spec = self.spec
        return extract_answer(self.decode(ids), spec.answer_marker, spec.answer_which)

    # -- passes

    @property
    def hidden_size(self) -> int:
        """d, the width of a thought."""
        result: int = self.backbone.config.hidden_size
        return result

    @property
    def max_positions(self) -> int:
        """Longest sequence the backbone can read."""
        result: int = self.backbone.config.max_position_embeddings
        return result

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.backbone.device

    def embed(self, ids: Tensor) -> Tensor:
        """Token ids (...) -> input embeddings (..., d)."""
        result: Tensor = self.backbone.get_input_embeddings()(ids)
        return result

    def read(
        self,
        inputs: Tensor,
        positions: Tensor,
        cache: Cache,
        attention_mask: Tensor | None = None,
    ) -> Tensor:
        """One pass over inputs (R, L, d) at position ids (R, L), appended to `cache`.

        `attention_mask` covers what is in the cache already, too; by default all of it is read.

        Returns the hidden states (R, L, d) after the final norm; other layers' states are not kept.
        """
        result: Tensor = self.backbone.base_model(
            inputs_embeds=inputs,
            position_ids=positions,
            past_key_values=cache,
            attention_mask=attention_mask,
            use_cache=True,
        ).last_hidden_state
        return result

    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden states (..., d) -> vocabulary logits (..., V)."""
        result: Tensor = self.backbone.get_output_embeddings()(hidden)
        return result

    @property
    def blocks(self) -> list[nn.Module]:
        """The transformer blocks, first to last."""
        return list(self.backbone.base_model.get_submodule(self.family.blocks).children())

    def modules_at(self, sites: Iterable[Site]) -> list[nn.Module]:
        """The modules whose outputs are these sites, block by block.

        Raises:
            ConfigError: the backbone's family has no such site.
        """
        body, paths, modules = self.backbone.base_model, self.family.sites, []
        for site in sites:
            if site not in paths:
                raise ConfigError(
                    f"the {self.family.model_type} family has no site '{site}'; it has {', '.join(paths)}"
                )
            blocks = [body] if site == "embedding" else self.blocks
            modules += [block.get_submodule(paths[site]) for block in blocks]
        return modules


def make_config(options: dict[str, Any]) -> PreTrainedConfig:
    """A Hugging Face configuration from a dictionary with its model_type.

    Raises:
        ConfigError: the family is not supported, or a number is out of range.
    """
    options = dict(options)
    family = family_of(options.pop("model_type", None))
    try:
        config = AutoConfig.for_model(family.model_type, **options)
    except Exception as error:  # values that transformers cannot use fail in many ways
        raise ConfigError(
            f"the {family.model_type} backbone cannot be configured so: {reason_of(error)}"
        ) from None
    check_config(config)
    return config


def deeper_config(config: PreTrainedConfig, extra_layers: int) -> PreTrainedConfig:
    """A copy of a configuration with more layers."""
    config = copy.deepcopy(config)
    config.num_hidden_layers += extra_layers
    if getattr(config, "layer_types", None) is not None:
        config.layer_types = ["full_attention"] * config.num_hidden_layers
    return config


def canonical(config: PreTrainedConfig) -> dict[str, Any]:
    """What a configuration sets apart from its class's defaults, as `make_config` reads it."""
    plain: dict[str, Any] = json.loads(json.dumps(config.to_diff_dict()))
    plain["model_type"] = config.model_type
    return {key: value for key, value in sorted(plain.items()) if key not in _VOLATILE}


def new_backbone(config: dict[str, Any]) -> PreTrainedModel:
    """A causal language model with random weights from a Hugging Face configuration.

    Raises:
        ConfigError: the family is not supported, or the weights do not fit into the memory.
    """
    return random_weights(AutoModelForCausalLM, make_config(config))


def random_weights(kind: Any, config: PreTrainedConfig) -> PreTrainedModel:
    """A model with random weights.

    Args:
        kind: transformers' class for the kind of model, for instance AutoModel.
        config: a configuration whose sizes are known to be fine.

    Raises:
        ConfigError: the configuration makes no model, or the memory cannot hold it.
    """
    check_memory(config)
    try:
        result: PreTrainedModel = kind.from_config(config)
    except Exception as error:  # values that transformers cannot use fail in many ways
        raise ConfigError(
            f"the {config.model_type} backbone cannot be made of its configuration: "
            f"{type(error).__name__}: {reason_of(error)}"
        ) from None
    return result


def new_reasoner(
    method: str,
    backbone: dict[str, Any],
    tokenizer: PreTrainedTokenizerFast,
    num_thoughts: int,
    max_answer_tokens: int = 16,
    **spec: Any,
) -> LatentReasoner:
    """An untrained reasoner whose vocabulary is the tokenizer's.

    Args:
        method: the method, for instance "coconut".
        backbone: Hugging Face configuration, with its model_type.
        tokenizer: one with all tokens that the specification names.
        num_thoughts: T, thoughts before the answer.
        max_answer_tokens: tokens decoded after the last thought.
        spec: further fields of its specification.

    Raises:
        ConfigError: something is not known or does not fit together.
    """
    config = {**backbone, "vocab_size": len(tokenizer)}
    config |= {"bos_token_id": tokenizer.eos_token_id, "eos_token_id": tokenizer.eos_token_id}
    config["pad_token_id"] = tokenizer.pad_token_id
    serialized = tokenizer.backend_tokenizer.to_str()
    return LatentReasoner(
        ReasonerSpec(method, config, serialized, num_thoughts, max_answer_tokens, **spec)
    )


def left_pad(rows: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """Token id lists -> ids (B, L) and attention mask (B, L), padded on the left."""
    tensors = [torch.tensor(row, dtype=torch.int64) for row in rows]
    pad = partial(pad_sequence, batch_first=True, padding_side="left")
    return pad(tensors, padding_value=pad_id), pad([torch.ones_like(row) for row in tensors])


def position_ids(attention_mask: Tensor) -> Tensor:
    """Attention mask (B, L) -> position of every token (B, L).

    Real tokens alone are counted, so that padding never changes a result.
    """
    return (attention_mask.cumsum(-1) - 1).clamp(min=0)


def align_left(ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
    """Prompts (B, L) padded on any side -> the same padded on the left, as all here reads them."""
    if bool(attention_mask[:, -1].all()):
        return ids, attention_mask
    order = attention_mask.argsort(dim=1, stable=True)
    return ids.gather(1, order), attention_mask.gather(1, order)


def fingerprint(model: nn.Module) -> str:
    """A hash of specification and weights: models that share it give the same trajectories."""
    spec: Any = model.spec
    digest = hashlib.sha256(json.dumps(spec.identity(), sort_keys=True).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
