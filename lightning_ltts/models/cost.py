"""What a computation takes, in token positions and FLOPs, and counting it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import nn


@dataclass
class Cost:
    """What a computation took.

    `token_forwards` counts all positions that went through a model, padding included; `tree_nodes`
    those that are a distinct prefix of a trajectory. Their ratio is 1.00 when nothing is recomputed
    or padded. `flops` weighs the positions by the size of the model that read them.
    """

    token_forwards: int = 0
    tree_nodes: int = 0
    flops: int = 0

    @property
    def ratio(self) -> float:
        """Token forwards over prefix-tree nodes."""
        return self.token_forwards / max(self.tree_nodes, 1)

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.token_forwards + other.token_forwards,
            self.tree_nodes + other.tree_nodes,
            self.flops + other.flops,
        )


class CostMeter:
    """Adds what is read to every count that is open."""

    def __init__(self) -> None:
        self._open: list[Cost] = []

    @property
    def is_counting(self) -> bool:
        """Whether any count is open; where none is, what is read need not be worked out."""
        return bool(self._open)

    def add(self, token_forwards: int = 0, tree_nodes: int = 0, flops: int = 0) -> None:
        """Counts one pass."""
        for cost in self._open:
            cost.token_forwards += token_forwards
            cost.tree_nodes += tree_nodes
            cost.flops += flops

    @contextmanager
    def counting(self) -> Iterator[Cost]:
        """Counts what the block costs; what a block inside costs belongs to both."""
        cost = Cost()
        self._open.append(cost)
        try:
            yield cost
        finally:
            # by identity: two counts can be equal
            self._open = [other for other in self._open if other is not cost]


def flops_per_position(model: nn.Module) -> int:
    """FLOPs of one position of a forward pass: two for each weight it is multiplied with.

    Embeddings are looked up and cost nothing. Attention's products of positions with each other are
    left out: they are small while sequences are shorter than the model is wide (Kaplan et al. 2020,
    arXiv 2001.08361, section 2.1).
    """
    return 2 * sum(
        parameter.numel()
        for module in model.modules()
        if not isinstance(module, nn.Embedding)
        for parameter in module.parameters(recurse=False)
    )
