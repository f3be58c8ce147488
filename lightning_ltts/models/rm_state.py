"""How far a LatentRM has read."""

from dataclasses import dataclass

from torch import Tensor

from lightning_ltts.models.shared_prefix import SharedPrefixCache


@dataclass(frozen=True)
class RMState:
    """What the LatentRM has read so far: rows of thoughts over shared prompts.

    `take` copies, forks and drops rows.
    """

    cache: SharedPrefixCache
    positions: Tensor  # (R,), position id of the next thought

    def take(self, rows: Tensor) -> "RMState":
        """The state of these rows, in this order; a row can be repeated."""
        return RMState(self.cache.take(rows), self.positions[rows.to(self.positions.device)])
