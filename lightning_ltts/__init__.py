"""Parallel test-time scaling of latent reasoning models, with PyTorch Lightning."""

from lightning_ltts.engine.rollout import RolloutEngine
from lightning_ltts.models.checkpoints import load_latent_rm, load_reasoner
from lightning_ltts.training.curriculum import Curriculum
from lightning_ltts.training.reasoner import Lora, Start  # with Curriculum what checkpoints of a training hold

__all__ = ["Curriculum", "Lora", "RolloutEngine", "Start", "load_latent_rm", "load_reasoner"]
