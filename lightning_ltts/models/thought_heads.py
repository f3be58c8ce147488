"""From the last hidden state to the thought that is fed back. A new kind of reasoner is one more class here."""

import torch
from torch import Tensor, nn


class ThoughtHead(nn.Module):
    """From the last hidden state to the thought that is fed back: (..., d) -> (..., d)."""

    def spread(self, hidden: Tensor) -> Tensor | None:
        """Hidden states (..., d) -> the standard deviation (..., d) that was learned around the thought; `None` for none."""
        return None


class CoconutHead(ThoughtHead):
    """COCONUT: the hidden state after the final norm is the thought (arXiv 2412.06769, section 3).

    Args:
        width: d, hidden units of the backbone.
    """

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
        dropout: in training, on its input.
    """

    def __init__(self, width: int, hidden_size: int | None = None, dropout: float = 0.0):
        inner = width if hidden_size is None else hidden_size
        super().__init__(nn.Dropout(dropout), nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width), nn.LayerNorm(width))


class ColarHead(ThoughtHead):
    """CoLaR: a latent head that predicts a compressed embedding, in units of the embeddings' standard deviation.

    The published models feed its mean back; one trained with a learned spread can be sampled from, see `LearnedSpread`
    (arXiv 2505.16552, section 3).

    Args:
        width: d, hidden units of the backbone and size of a thought.
        embedding_std: standard deviation of the backbone's token embeddings.
        intermediate_size: units inside; d where it is not given.
        spread: whether it has a learned spread.
    """

    def __init__(self, width: int, embedding_std: float, intermediate_size: int | None = None, spread: bool = False):
        super().__init__()
        inner = width if intermediate_size is None else intermediate_size
        self.embedding_std = embedding_std
        self.fc = nn.Sequential(nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, inner), nn.LayerNorm(inner))
        self.mean = nn.Linear(inner, width)
        self.log_std = nn.Linear(inner, width) if spread else None

    def forward(self, hidden: Tensor) -> Tensor:
        """(..., d) -> (..., d), the mean."""
        return self.mean(self.fc(hidden)) * self.embedding_std

    def spread(self, hidden: Tensor) -> Tensor | None:
        """(..., d) -> (..., d), the standard deviation around the mean; `None` where it was not learned."""
        return None if self.log_std is None else torch.exp(self.log_std(self.fc(hidden))) * self.embedding_std


THOUGHT_HEADS: dict[str, type[ThoughtHead]] = {"coconut": CoconutHead, "codi": CodiHead, "colar": ColarHead}
