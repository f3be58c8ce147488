"""Gradient checkpointing that keeps the KV cache, so that latent thoughts can be trained with it."""

import inspect
from collections.abc import Callable
from typing import Any, cast

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lightning_ltts.errors import ConfigError
from lightning_ltts.models.latent_lm import LatentReasoner


class GradientCheckpointing(Callback):
    """Keeps of each transformer block only what it read, and computes the rest again when gradients are taken.

    The `gradient_checkpointing_enable` of transformers switches the KV cache off, without which every thought would read the
    whole prompt again. Losses and gradients are the same as without; memory falls, a step takes longer.

    It does not go with a sampler that perturbs passes: what is computed again comes after the sampler has left the model.
    """

    def __init__(self) -> None:
        self._wrapped: list[nn.Module] = []

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Wraps the blocks of the module's reasoner.

        Raises:
            ConfigError: the module trains none, or trains it under a sampler that perturbs passes.
        """
        reasoner = getattr(pl_module, "reasoner", None)
        if not isinstance(reasoner, LatentReasoner):
            raise ConfigError(
                f"GradientCheckpointing is for training a reasoner, not {type(pl_module).__name__}; leave the callback out"
            )
        sampler = getattr(pl_module, "sampler", None)
        if sampler is not None and sampler.perturbs_forward:
            raise ConfigError(
                f"GradientCheckpointing does not go with {sampler!r}, which perturbs passes; "
                "leave the callback out, or train under noise on thoughts"
            )
        for index, block in enumerate(reasoner.blocks):
            self._wrapped.append(block)
            block.forward = checkpointed(block, index)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leaves the blocks as they were."""
        while self._wrapped:
            del self._wrapped.pop().forward


def checkpointed(block: nn.Module, index: int) -> Callable[..., Tensor]:
    """The forward of block number `index` of a backbone, checkpointed wherever gradients are recorded."""
    forward: Callable[..., Tensor] = block.forward
    signature = inspect.signature(forward)

    def run(*args: Any, **kwargs: Any) -> Tensor:
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        cache = signature.bind(*args, **kwargs).arguments.get("past_key_values")
        if cache is None:
            return cast(Tensor, checkpoint(forward, *args, use_reentrant=False, **kwargs))
        layer = cache.layers[index]
        before, recomputing = dict(layer.__dict__), False

        def from_before(*args: Any, **kwargs: Any) -> Tensor:
            nonlocal recomputing
            if not recomputing:  # the first time the cache is to grow
                recomputing = True
                return forward(*args, **kwargs)
            after, layer.__dict__ = layer.__dict__, dict(before)
            try:
                return forward(*args, **kwargs)
            finally:
                layer.__dict__ = after

        return cast(Tensor, checkpoint(from_before, *args, use_reentrant=False, **kwargs))

    return run
