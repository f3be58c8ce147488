"""A latent reasoner: a Hugging Face causal language model that can be fed its own thoughts."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast
from transformers.cache_utils import Cache

from lightning_ltts.data.tokenization import ANSWER_MARKER, END, START, encode_text, wrap_tokenizer
from lightning_ltts.errors import ConfigError
from lightning_ltts.models.shared_prefix import IMPLEMENTATION
from lightning_ltts.models.thought_heads import THOUGHT_HEADS

Site = Literal["attention_output", "mlp_output", "embedding"]

# Where a sampler can act, per backbone family: a path inside each block, or inside the body for "embedding".
SITES: dict[str, dict[Site, str]] = {
    "gpt2": {"attention_output": "attn.c_proj", "mlp_output": "mlp.c_proj", "embedding": "drop"},
    "llama": {"attention_output": "self_attn.o_proj", "mlp_output": "mlp.down_proj"},
}
BLOCKS = {"gpt2": "h", "llama": "layers"}


@dataclass(frozen=True)
class ReasonerSpec:
    """All that fixes a latent reasoner except its weights; plain values, stored in every checkpoint."""

    method: str  # key of THOUGHT_HEADS
    backbone: dict[str, Any]  # Hugging Face configuration, with its model_type
    tokenizer: str  # JSON text of the tokenizer
    num_thoughts: int  # T, thoughts before the answer
    max_answer_tokens: int = 16
    prompt_template: str = "{question}\n"
    answer_marker: str = ANSWER_MARKER


class LatentReasoner(nn.Module):
    """Backbone, thought head and tokenizer behind one interface, whatever the method and backbone family.

    A sequence is: prompt template, start token, T thoughts, end token, answer text, end of sequence.

    Args:
        spec: what the reasoner is.
        backbone: its causal language model; by default one with random weights, made from the specification.
    """

    def __init__(self, spec: ReasonerSpec, backbone: PreTrainedModel | None = None):
        super().__init__()
        family = spec.backbone.get("model_type")
        if family not in SITES:
            raise ConfigError(f"backbone model_type '{family}' is not supported; use one of {', '.join(SITES)}")
        if spec.method not in THOUGHT_HEADS:
            raise ConfigError(f"method '{spec.method}' is not known; use one of {', '.join(THOUGHT_HEADS)}")
        if spec.num_thoughts < 0 or spec.max_answer_tokens < 1:
            raise ConfigError(
                f"num_thoughts={spec.num_thoughts} must be at least 0 and max_answer_tokens={spec.max_answer_tokens} at least 1"
            )
        self.spec = spec
        self.family: str = family
        self.tokenizer = wrap_tokenizer(spec.tokenizer)
        self.backbone = backbone if backbone is not None else new_backbone(spec.backbone)
        self.backbone.set_attn_implementation(IMPLEMENTATION)
        self.thought_head = THOUGHT_HEADS[spec.method]()
        vocabulary = self.tokenizer.get_vocab()
        self.start_id, self.end_id = vocabulary[START], vocabulary[END]
        self.pad_id, self.eos_id = self.tokenizer.pad_token_id, self.tokenizer.eos_token_id

    # -- text

    def encode_prompt(self, question: str, source: str = "") -> list[int]:
        """Token ids of a question's prompt, start token included.

        Raises:
            DataError: a word is not in the vocabulary.
        """
        text = self.spec.prompt_template.format(question=question)
        return [*encode_text(self.tokenizer, text, source), self.start_id]

    def decode(self, ids: Tensor | list[int]) -> str:
        """The text of answer tokens, without special tokens."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))

    # -- passes

    @property
    def hidden_size(self) -> int:
        """d, the width of a thought."""
        return self.backbone.config.hidden_size

    @property
    def max_positions(self) -> int:
        """Longest sequence the backbone can read."""
        return self.backbone.config.max_position_embeddings

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.backbone.device

    def embed(self, ids: Tensor) -> Tensor:
        """Token ids (...) -> input embeddings (..., d)."""
        return self.backbone.get_input_embeddings()(ids)

    def read(self, inputs: Tensor, positions: Tensor, cache: Cache, attention_mask: Tensor | None = None) -> Tensor:
        """One pass over inputs (R, L, d) at position ids (R, L), appended to `cache`.

        Returns the hidden states (R, L, d) after the final norm; other layers' states are not kept.
        """
        return self.backbone.base_model(
            inputs_embeds=inputs,
            position_ids=positions,
            past_key_values=cache,
            attention_mask=attention_mask,
            use_cache=True,
        ).last_hidden_state

    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden states (..., d) -> vocabulary logits (..., V)."""
        return self.backbone.get_output_embeddings()(hidden)

    def modules_at(self, sites: Iterable[Site]) -> list[nn.Module]:
        """The modules whose outputs are these sites, block by block."""
        body, table, modules = self.backbone.base_model, SITES[self.family], []
        for site in sites:
            if site not in table:
                raise ConfigError(f"the {self.family} family has no site '{site}'; it has {', '.join(table)}")
            blocks = [body] if site == "embedding" else body.get_submodule(BLOCKS[self.family]).children()
            modules += [block.get_submodule(table[site]) for block in blocks]
        return modules


def new_backbone(config: dict[str, Any]) -> PreTrainedModel:
    """A causal language model with random weights from a Hugging Face configuration given as a dictionary."""
    options = dict(config)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(options.pop("model_type"), **options))


def new_reasoner(
    method: str,
    backbone: dict[str, Any],
    tokenizer: PreTrainedTokenizerFast,
    num_thoughts: int,
    max_answer_tokens: int = 16,
) -> LatentReasoner:
    """An untrained reasoner whose vocabulary is the tokenizer's."""
    config = {**backbone, "vocab_size": len(tokenizer)}
    config |= {"bos_token_id": tokenizer.eos_token_id, "eos_token_id": tokenizer.eos_token_id}
    config["pad_token_id"] = tokenizer.pad_token_id
    serialized = tokenizer.backend_tokenizer.to_str()
    return LatentReasoner(ReasonerSpec(method, config, serialized, num_thoughts, max_answer_tokens))


def left_pad(rows: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """Token id lists -> ids (B, L) and attention mask (B, L), padded on the left."""
    width = max(map(len, rows))
    ids = torch.tensor([[pad_id] * (width - len(row)) + list(row) for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    return ids, mask


def position_ids(attention_mask: Tensor) -> Tensor:
    """Position of every token (B, L): counted over real tokens only, so that padding never changes a result."""
    return (attention_mask.cumsum(-1) - 1).clamp(min=0)


def fingerprint(model: LatentReasoner | nn.Module) -> str:
    """A hash of specification and weights: two models with the same one give the same trajectories."""
    digest = hashlib.sha256(repr(sorted(asdict(model.spec).items())).encode())  # type: ignore[arg-type]
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
