"""The optimiser and schedule that all trainings share."""

import math
from typing import Any, Literal, Protocol

import lightning.pytorch as pl
import torch
from transformers import get_constant_schedule_with_warmup, get_cosine_schedule_with_warmup

from lightning_ltts.data.ranges import require_number
from lightning_ltts.errors import ConfigError


class Optimized(Protocol):
    """What a module says of its optimisation."""

    lr: float
    weight_decay: float
    warmup: float


def check_rates(owner: str, lr: float, weight_decay: float, warmup: float) -> None:
    """Refuses rates that cannot train.

    Raises:
        ConfigError: naming the option of the class `owner`.
    """
    require_number(owner, "lr", lr, open_ends=True)
    require_number(owner, "weight_decay", weight_decay)
    require_number(owner, "warmup", warmup, 0, 1)


def adamw(module: Any, schedule: Literal["cosine", "constant"] = "cosine") -> dict[str, Any]:
    """AdamW with a linear warm-up over a share of all steps and a schedule after it.

    Args:
        module: a LightningModule that is `Optimized`; its weights that require gradients are
            trained.
        schedule: course of the learning rate after the warm-up.

    Returns what `configure_optimizers` returns.

    Raises:
        ConfigError: the run has no end that the schedule could be worked out from.
    """
    trainer: pl.Trainer = module.trainer
    if math.isinf(trainer.estimated_stepping_batches):
        raise ConfigError(
            "the learning rate falls towards the end of a run, and this one has none; set "
            "trainer.max_epochs or trainer.max_steps"
        )
    # Lightning cannot clip gradients of a fused optimiser under mixed precision
    fused = "mixed" not in str(trainer.precision)
    # in true half precision a small gradient's square is 0, and a step divided by 1e-8 alone
    eps = 1e-4 if trainer.precision == "16-true" else 1e-8
    optimizer = torch.optim.AdamW(
        [p for p in module.parameters() if p.requires_grad],
        lr=module.lr,
        weight_decay=module.weight_decay,
        eps=eps,
        fused=fused,
    )
    steps = int(trainer.estimated_stepping_batches)
    warmup = int(module.warmup * steps)
    if schedule == "cosine":
        rates = get_cosine_schedule_with_warmup(optimizer, warmup, steps)
    else:
        rates = get_constant_schedule_with_warmup(optimizer, warmup)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": rates, "interval": "step"}}


def keep_given_rates(module: Optimized, checkpoint: dict[str, Any]) -> None:
    """Makes this run's learning rate and weight decay win over those of a checkpoint it resumes."""
    for state in checkpoint.get("optimizer_states", []):
        for group in state["param_groups"]:
            group["lr"] *= module.lr / group.get("initial_lr", group["lr"] or module.lr)
            group["initial_lr"], group["weight_decay"] = module.lr, module.weight_decay
    for state in checkpoint.get("lr_schedulers", []):
        state["base_lrs"] = [module.lr for _ in state["base_lrs"]]
