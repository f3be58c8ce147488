"""The optimiser and schedule that all trainings share."""

from typing import Any, Protocol

import lightning.pytorch as pl
import torch
from transformers import get_cosine_schedule_with_warmup


class Optimized(Protocol):
    """What a module says about its optimisation."""

    lr: float
    weight_decay: float
    warmup: float


def cosine_adamw(module: Any) -> dict[str, Any]:
    """AdamW with a linear warm-up over a share of all steps and a cosine after it, for `configure_optimizers`."""
    trainer: pl.Trainer = module.trainer
    # Lightning cannot clip gradients of a fused optimiser under mixed precision
    fused = "mixed" not in str(trainer.precision)
    optimizer = torch.optim.AdamW(module.parameters(), lr=module.lr, weight_decay=module.weight_decay, fused=fused)
    steps = int(trainer.estimated_stepping_batches)
    schedule = get_cosine_schedule_with_warmup(optimizer, int(module.warmup * steps), steps)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def keep_given_rates(module: Optimized, checkpoint: dict[str, Any]) -> None:
    """Makes this run's learning rate and weight decay win over those a checkpoint stored, when it is resumed."""
    for state in checkpoint.get("optimizer_states", []):
        for group in state["param_groups"]:
            group["lr"] *= module.lr / group.get("initial_lr", group["lr"] or module.lr)
            group["initial_lr"], group["weight_decay"] = module.lr, module.weight_decay
    for state in checkpoint.get("lr_schedulers", []):
        state["base_lrs"] = [module.lr for _ in state["base_lrs"]]
