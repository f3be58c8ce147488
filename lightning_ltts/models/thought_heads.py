"""From the last hidden state to the thought that is fed back.

A new method of latent reasoning is one more subclass of `ThoughtHead`: how checkpoints, folders and
published models call it and its options stands on the class.
"""

import inspect
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from lightning_ltts.data.ranges import require_number, require_whole
from lightning_ltts.errors import ConfigError
from lightning_ltts.models.backbone_checks import MAX_WIDTH
from lightning_ltts.models.families import FAMILIES

THOUGHT_HEADS: dict[str, type["ThoughtHead"]] = {}  # by method; subclasses enter themselves


class ThoughtHead(nn.Module):
    """What makes a thought (..., d) of a hidden state (..., d) after the final norm.

    The first argument of a subclass is `width`, the d of the backbone. All others are options,
    plain values that a checkpoint holds as `thought_head` of its `ReasonerSpec`.

    Attributes:
        method: the method's name in `ReasonerSpec.method`; a class that sets it is known by it.
        prefix: the beginning of the names of its weights in exported folders.
    """

    method: ClassVar[str]
    prefix: ClassVar[str] = "thought_head"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "method" in vars(cls):
            THOUGHT_HEADS[cls.method] = cls

    def spread(self, hidden: Tensor) -> Tensor | None:
        """The standard deviation that was learned around the thought, for samplers to draw with.

        Args:
            hidden: (..., d) hidden states.

        Returns (..., d), or `None` for a head that has not learned any.
        """
        return None

    def config_entries(self) -> dict[str, Any]:
        """What the configuration of an exported folder says about the head, for other programs."""
        return {}

    @classmethod
    def published_options(
        cls, state: Mapping[str, Tensor], config: PreTrainedConfig
    ) -> dict[str, Any]:
        """The options of a published head, as far as its weights and configuration say them.

        Args:
            state: its weights, named as in this class; empty where a new head is to be made.
            config: the configuration of the published model.
        """
        return {}


class CoconutHead(ThoughtHead):
    """COCONUT: the hidden state after the final norm is the thought (arXiv 2412.06769, section 3).

    Args:
        width: d, hidden units of the backbone.
    """

    method = "coconut"

    def __init__(self, width: int):
        super().__init__()

    def forward(self, hidden: Tensor) -> Tensor:
        """(..., d) -> (..., d), unchanged."""
        return hidden


class CodiHead(ThoughtHead, nn.Sequential):
    """CODI: a projector of two layers and a layer norm (arXiv 2502.21074, section 3).

    Args:
        width: d, hidden units of the backbone and size of a thought.
        hidden_size: units between the two layers; d where it is not given.
        dropout: probability of dropping an element of its input in training.
    """

    method = "codi"
    prefix = "projector"

    def __init__(self, width: int, hidden_size: int | None = None, dropout: float = 0.0):
        inner = width if hidden_size is None else hidden_size
        require_whole("the thought head", "hidden_size", inner, 1, MAX_WIDTH)
        require_number("the thought head", "dropout", dropout, 0, 1)
        super().__init__(
            nn.Dropout(dropout),
            nn.Linear(width, inner),
            nn.GELU(),
            nn.Linear(inner, width),
            nn.LayerNorm(width),
        )
        self.hidden_size = inner
        self.dropout = dropout

    def config_entries(self) -> dict[str, Any]:  # noqa: D102
        return {
            "projector": True,
            "projector_hidden_size": self.hidden_size,
            "projector_dropout": self.dropout,
        }

    @classmethod
    def published_options(  # noqa: D102
        cls, state: Mapping[str, Tensor], config: PreTrainedConfig
    ) -> dict[str, Any]:
        options: dict[str, Any] = {"dropout": float(getattr(config, "projector_dropout", 0.0))}
        if "1.weight" in state:
            options["hidden_size"] = state["1.weight"].shape[0]
        return options


class ColarHead(ThoughtHead):
    """CoLaR: a latent head that predicts a compressed embedding (arXiv 2505.16552, section 3).

    It works in units of the embeddings' standard deviation. The published models feed its mean
    back; one trained with a learned spread can be sampled from, see `LearnedSpread`.

    Args:
        width: d, hidden units of the backbone and size of a thought.
        embedding_std: standard deviation of the backbone's token embeddings.
        intermediate_size: units inside; d where it is not given.
        spread: whether it has a learned spread.
    """

    method = "colar"
    prefix = "lt_head"

    def __init__(
        self,
        width: int,
        embedding_std: float,
        intermediate_size: int | None = None,
        spread: bool = False,
    ):
        super().__init__()
        inner = width if intermediate_size is None else intermediate_size
        require_whole("the thought head", "intermediate_size", inner, 1, MAX_WIDTH)
        require_number("the thought head", "embedding_std", embedding_std, open_ends=True)
        self.embedding_std = embedding_std
        self.intermediate_size = inner
        self.fc = nn.Sequential(
            nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, inner), nn.LayerNorm(inner)
        )
        self.mean = nn.Linear(inner, width)
        self.log_std = nn.Linear(inner, width) if spread else None

    def forward(self, hidden: Tensor) -> Tensor:
        """(..., d) -> (..., d), the mean."""
        result: Tensor = self.mean(self.fc(hidden)) * self.embedding_std
        return result

    def spread(self, hidden: Tensor) -> Tensor | None:
        """(..., d) -> (..., d), the standard deviation around the mean; `None` if not learned."""
        if self.log_std is None:
            return None
        return torch.exp(self.log_std(self.fc(hidden))) * self.embedding_std

    def config_entries(self) -> dict[str, Any]:  # noqa: D102
        return {
            "latent_intermediate_size": self.intermediate_size,
            "latent_embedding_std": self.embedding_std,
        }

    @classmethod
    def published_options(  # noqa: D102
        cls, state: Mapping[str, Tensor], config: PreTrainedConfig
    ) -> dict[str, Any]:
        options: dict[str, Any] = {"spread": "log_std.weight" in state}
        if "fc.0.weight" in state:
            options["intermediate_size"] = state["fc.0.weight"].shape[0]
        std = getattr(config, "latent_embedding_std", None)
        if not std and config.model_type in FAMILIES:
            std = FAMILIES[config.model_type].embedding_std.get(config.hidden_size)
        if std:
            options["embedding_std"] = std
        return options


def thought_head_of(method: str) -> type[ThoughtHead]:
    """The thought head of a method.

    Raises:
        ConfigError: no class has this method.
    """
    if method not in THOUGHT_HEADS:
        raise ConfigError(
            f"method '{method}' is not known; use one of {', '.join(THOUGHT_HEADS)}; a method of "
            "your own is known once its module is imported: put its head into "
            "lightning_ltts/models/thought_heads.py"
        )
    return THOUGHT_HEADS[method]


def required_options(head: type[ThoughtHead]) -> list[str]:
    """The names of the options without which a thought head cannot be made."""
    _, *options = inspect.signature(head).parameters.values()
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [o.name for o in options if o.default is o.empty and o.kind not in variable]
