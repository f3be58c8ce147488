"""Sharded training by FSDP2, with Lightning's ModelParallelStrategy."""

from collections.abc import Iterator
from contextlib import contextmanager

import lightning.pytorch as pl
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method


def shard(module: pl.LightningModule, blocks: list[nn.Module], mesh: DeviceMesh) -> None:
    """Divides a module's weights over the data-parallel devices of a mesh.

    Each block is gathered when it is used. What is outside of them, the embeddings above all, is
    gathered for a whole step.

    Args:
        module: the module in training.
        blocks: its transformer blocks.
        mesh: the devices, with a dimension "data_parallel".
    """
    for block in blocks:
        fully_shard(block, mesh=mesh["data_parallel"])
    fully_shard(module, mesh=mesh["data_parallel"])
    for method in ("training_step", "validation_step", "test_step"):
        register_fsdp_forward_method(module, method)


@contextmanager
def gathered(module: nn.Module, in_step: bool = False) -> Iterator[None]:
    """Gathers all shards on every device while the block runs.

    Generation needs it: devices whose answers have different lengths make different numbers of
    passes, and a device that gathered a block alone would wait for the others forever.

    Args:
        module: what `shard` has divided; any other is left as it is.
        in_step: a training step goes on after it, so that what is outside of blocks stays gathered.
    """
    shards = [part for part in module.modules() if isinstance(part, FSDPModule)]
    for part in shards:
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()
    try:
        yield
    finally:
        for part in shards:
            part.set_reshard_after_forward(part is not module, recurse=False)
            if not (in_step and part is module):
                part.reshard()
