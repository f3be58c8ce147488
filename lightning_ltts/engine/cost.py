"""What a computation takes, in token positions, and counting it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class Cost:
    """What a computation took, in token positions.

    `token_forwards` counts all that went through the model, padding included; `tree_nodes` those
    that are a distinct prefix of a trajectory. Their ratio is 1.00 when nothing is recomputed or
    padded.
    """

    token_forwards: int = 0
    tree_nodes: int = 0

    @property
    def ratio(self) -> float:
        """Token forwards over prefix-tree nodes."""
        return self.token_forwards / max(self.tree_nodes, 1)


class CostMeter:
    """Adds what is read to every count that is open."""

    def __init__(self) -> None:
        self._open: list[Cost] = []

    def add(self, token_forwards: int, tree_nodes: int) -> None:
        """Counts one pass."""
        for cost in self._open:
            cost.token_forwards += token_forwards
            cost.tree_nodes += tree_nodes

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
