"""Backbone families: what is to be known of each kind of Hugging Face model, in one entry."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from lightning_ltts.errors import ConfigError

Site = Literal["attention_output", "mlp_output", "embedding"]
MatrixName = Literal["q", "k", "v", "o", "mlp_up", "mlp_down"]
Division = Literal["out", "in"]  # of a matrix over devices: by what it makes, or by what it reads


@dataclass(frozen=True)
class Matrix:
    """Where a matrix of a block is.

    Args:
        path: of its module inside the block.
        part: number of its columns among as many parts as the module's outputs are divided into.
        parts: how many parts that is.
    """

    path: str
    part: int = 0
    parts: int = 1


@dataclass(frozen=True)
class Family:
    """One kind of Hugging Face causal language model, by the names of its parts.

    Args:
        model_type: the family's name in Hugging Face configurations.
        body: the part of the causal language model beside the vocabulary head (`lm_head`). Keys of
            published weights begin with it.
        blocks: path of the transformer blocks inside the body.
        embedding: path of the token embeddings inside the body.
        sites: where a sampler can act: path of the module whose output each site is, inside a
            block, or inside the body for "embedding".
        lora_targets: the matrices of a block, which adapters are put on by default.
        matrices: where those of a block are that `SingularValueNoise` can perturb.
        transposed: whether matrices are kept as (in, out), which is transformers' `Conv1D`.
        position_table: whether positions have embeddings of their own.
        buffers: patterns of keys that old versions of transformers saved, and that hold no weights.
        divisions: how the matrices of a block are divided over devices, by path; none where the
            family cannot be (`models/divided_heads.py`).
        embedding_std: standard deviation of the token embeddings of published bases, by hidden
            size, as the training code of CoLaR has them.
    """

    model_type: str
    body: str
    blocks: str
    embedding: str
    sites: Mapping[Site, str]
    lora_targets: tuple[str, ...]
    matrices: Mapping[MatrixName, Matrix] = field(default_factory=dict)
    transposed: bool = False
    position_table: bool = False
    buffers: tuple[str, ...] = ()
    divisions: Mapping[str, Division] = field(default_factory=dict)
    embedding_std: Mapping[int, float] = field(default_factory=dict)

    def matrix(self, name: MatrixName) -> Matrix:
        """Where the matrix with this name is.

        Raises:
            ConfigError: the family's entry does not say it.
        """
        if name not in self.matrices:
            known = ", ".join(self.matrices) or "none"
            raise ConfigError(
                f"the {self.model_type} family has no matrix '{name}'; its entry names {known}"
            )
        return self.matrices[name]


def _llama_like(model_type: str, embedding_std: Mapping[int, float]) -> Family:
    """A family that names its parts as Llama does."""
    return Family(
        model_type,
        body="model",
        blocks="layers",
        embedding="embed_tokens",
        sites={"attention_output": "self_attn.o_proj", "mlp_output": "mlp.down_proj"},
        lora_targets=(
            "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
        ),
        matrices={
            "q": Matrix("self_attn.q_proj"),
            "k": Matrix("self_attn.k_proj"),
            "v": Matrix("self_attn.v_proj"),
            "o": Matrix("self_attn.o_proj"),
            "mlp_up": Matrix("mlp.up_proj"),
            "mlp_down": Matrix("mlp.down_proj"),
        },
        buffers=(r".*rotary_emb\.inv_freq",),
        divisions={
            "self_attn.q_proj": "out",
            "self_attn.k_proj": "out",
            "self_attn.v_proj": "out",
            "self_attn.o_proj": "in",
            "mlp.gate_proj": "out",
            "mlp.up_proj": "out",
            "mlp.down_proj": "in",
        },
        embedding_std=embedding_std,
    )  # fmt: skip


_FAMILIES = (
    Family(
        "gpt2",
        body="transformer",
        blocks="h",
        embedding="wte",
        sites={"attention_output": "attn.c_proj", "mlp_output": "mlp.c_proj", "embedding": "drop"},
        lora_targets=("c_attn", "c_proj", "c_fc"),
        matrices={
            "q": Matrix("attn.c_attn", 0, 3),
            "k": Matrix("attn.c_attn", 1, 3),
            "v": Matrix("attn.c_attn", 2, 3),
            "o": Matrix("attn.c_proj"),
            "mlp_up": Matrix("mlp.c_fc"),
            "mlp_down": Matrix("mlp.c_proj"),
        },
        transposed=True,
        position_table=True,
        buffers=(r".*\.attn\.(masked_)?bias",),
        embedding_std={768: 0.12},
    ),
    _llama_like("llama", {2048: 0.018, 3072: 0.018, 4096: 0.008}),
    _llama_like("qwen2", {1536: 0.03}),
    _llama_like("qwen3", {}),
)
FAMILIES: dict[str, Family] = {family.model_type: family for family in _FAMILIES}


def family_of(model_type: str | None) -> Family:
    """The family with this name.

    Raises:
        ConfigError: there is none.
    """
    if model_type not in FAMILIES:
        raise ConfigError(
            f"backbone model_type '{model_type}' is not supported; use one of {', '.join(FAMILIES)}"
        )
    return FAMILIES[model_type]
