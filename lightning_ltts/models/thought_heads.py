"""From the last hidden state to the thought that is fed back. A new kind of reasoner is one more small module here."""

from torch import Tensor, nn


class CoconutHead(nn.Module):
    """COCONUT: the hidden state after the final norm is the thought (arXiv 2412.06769, section 3)."""

    def forward(self, hidden: Tensor) -> Tensor:
        """(..., d) -> (..., d), unchanged."""
        return hidden


THOUGHT_HEADS: dict[str, type[nn.Module]] = {"coconut": CoconutHead}
