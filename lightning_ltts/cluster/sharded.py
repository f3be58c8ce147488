"""Strategies that shard weights over devices, and what cannot be done under them."""

import lightning.pytorch as pl
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy

from lightning_ltts.errors import ConfigError
from lightning_ltts.sampling.samplers import Sampler

SHARDED = (ModelParallelStrategy, FSDPStrategy)  # whose devices need each other's weights


def divides_heads(trainer: pl.Trainer) -> bool:
    """Whether several devices hold one model together and read the same questions."""
    strategy = trainer.strategy
    # as it was given: the mesh is there only when all processes have met
    return isinstance(strategy, ModelParallelStrategy) and strategy._tensor_parallel_size != 1


def refuse_sharded(trainer: pl.Trainer, what: str) -> None:
    """Refuses what makes passes that are not in step on all devices.

    Args:
        trainer: whose strategy may shard weights.
        what: is done, in the message.

    Raises:
        ConfigError: the strategy shards weights, and not by heads alone.
    """
    alone = trainer.world_size == 1
    if isinstance(trainer.strategy, SHARDED) and not divides_heads(trainer) and not alone:
        raise ConfigError(
            f"{type(trainer.strategy).__name__} shards weights, which {what} cannot use: devices "
            "read different questions in passes of their own number, and each would wait for the "
            "others' weights; leave trainer=fsdp out, every device then holds the whole model, or use "
            "trainer=tensor_parallel"
        )


def refuse_matrices(sampler: Sampler) -> None:
    """Refuses a sampler that perturbs whole matrices, of which each device has a part.

    Raises:
        ConfigError: it is one.
    """
    if sampler.perturbs_matrices:
        raise ConfigError(
            f"{sampler!r} perturbs whole matrices, and each device has a part of them; use another "
            "sampler, or leave trainer=tensor_parallel out"
        )


def refuse_divided(trainer: pl.Trainer, what: str) -> None:
    """Refuses what cannot be trained where heads are divided over devices.

    Args:
        trainer: whose strategy may divide heads.
        what: is trained, in the message.

    Raises:
        ConfigError: several devices hold one model together.
    """
    if divides_heads(trainer):
        raise ConfigError(
            f"{what} is not trained with its heads divided over devices; leave "
            "trainer=tensor_parallel out (trainer=fsdp shards a reasoner's weights in training)"
        )
