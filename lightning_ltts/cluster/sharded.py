"""Strategies that shard weights over devices, and what cannot be done under them."""

import lightning.pytorch as pl
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy

from lightning_ltts.errors import ConfigError

SHARDED = (ModelParallelStrategy, FSDPStrategy)  # whose devices gather weights together


def refuse_sharded(trainer: pl.Trainer, what: str) -> None:
    """Refuses what makes passes that are not in step on all devices.

    Args:
        trainer: whose strategy may shard weights.
        what: is done, in the message.

    Raises:
        ConfigError: the strategy shards weights.
    """
    if isinstance(trainer.strategy, SHARDED):
        raise ConfigError(
            f"{type(trainer.strategy).__name__} shards weights, which {what} cannot use: devices "
            "read different questions in passes of their own number, and each would wait for the "
            "others' weights; leave trainer=fsdp out, every device then holds the whole model"
        )
