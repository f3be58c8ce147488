"""Replicas of a model: which questions they do, and who of their processes speaks for them."""

from dataclasses import dataclass
from typing import TypeVar

import lightning.pytorch as pl
from torch import distributed
from torch.distributed.device_mesh import DeviceMesh

from lightning_ltts.cluster.sharded import divides_heads
from lightning_ltts.models.divided_heads import divide_heads
from lightning_ltts.models.latent_lm import LatentReasoner
from lightning_ltts.models.latent_rm import LatentRM

Value = TypeVar("Value")


@dataclass(frozen=True)
class Replica:
    """The processes that hold one model together: one, or several under tensor parallelism.

    All of them do the same passes over the same questions.

    Args:
        number: of the replica among those of the run.
        count: how many there are.
        mesh: the processes, where there are several.
    """

    number: int = 0
    count: int = 1
    mesh: DeviceMesh | None = None

    @classmethod
    def of(cls, trainer: pl.Trainer) -> "Replica":
        """That of a process of a Trainer."""
        if not divides_heads(trainer):
            return cls(trainer.global_rank, trainer.world_size)
        mesh: DeviceMesh = trainer.strategy.device_mesh  # type: ignore[attr-defined]
        data = mesh["data_parallel"]
        return cls(data.get_local_rank(), data.size(), mesh["tensor_parallel"])

    @property
    def speaks(self) -> bool:
        """Whether this process writes what the replica makes."""
        return self.mesh is None or self.mesh.get_local_rank() == 0

    def agree(self, value: Value) -> Value:
        """The value of the process that speaks; others, with another one, would not be in step."""
        if self.mesh is None:
            return value
        said = [value]
        distributed.broadcast_object_list(said, group=self.mesh.get_group(), group_src=0)
        return said[0]

    def least(self, number: int) -> int:
        """The smallest of what its processes have."""
        if self.mesh is None:
            return number
        found = [number] * self.mesh.size()
        distributed.all_gather_object(found, number, group=self.mesh.get_group())
        return min(found)

    def divide(self, model: LatentReasoner | LatentRM) -> None:
        """Leaves this process its part of the model.

        Raises:
            ConfigError: the model cannot be divided over so many devices.
        """
        if self.mesh is not None:
            divide_heads(model.backbone, self.mesh)
