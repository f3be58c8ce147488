"""Parallel test-time scaling of latent reasoning models, with PyTorch Lightning."""

from lightning_ltts.engine.rollout import RolloutEngine
from lightning_ltts.models.checkpoints import load_latent_rm, load_reasoner
from lightning_ltts.training.curriculum import Curriculum  # here too, so that any checkpoint can be read

__all__ = ["Curriculum", "RolloutEngine", "load_latent_rm", "load_reasoner"]
