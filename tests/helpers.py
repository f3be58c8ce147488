"""Small helpers that several tests share."""

from pathlib import Path

import torch

from lightning_ltts.models.checkpoints import ENTRY, describe
from lightning_ltts.models.latent_lm import LatentReasoner
from lightning_ltts.models.latent_rm import LatentRM


def save_reasoner(reasoner: LatentReasoner, path: Path) -> Path:
    """A checkpoint with what loading needs, as training writes it."""
    state = {f"reasoner.{k}": v for k, v in reasoner.state_dict().items()}
    torch.save({ENTRY: describe("reasoner", reasoner), "state_dict": state}, path)
    return path


def save_latent_rm(latent_rm: LatentRM, path: Path) -> Path:
    """Likewise for a LatentRM."""
    state = {f"latent_rm.{k}": v for k, v in latent_rm.state_dict().items()}
    torch.save({ENTRY: describe("latent_rm", latent_rm), "state_dict": state}, path)
    return path
