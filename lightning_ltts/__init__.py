"""Parallel test-time scaling of latent reasoning models, with PyTorch Lightning."""

import lightning_ltts.old_names  # noqa: F401  # makes modules that have moved importable under their old names
from lightning_ltts.engine.rollout import RolloutEngine
from lightning_ltts.models.checkpoints import load_latent_rm, load_reasoner

# importing these registers, with PyTorch's restricted unpickler, the classes that checkpoints of a training hold
from lightning_ltts.training.curriculum import Curriculum
from lightning_ltts.training.start import Lora, Start

__all__ = ["Curriculum", "Lora", "RolloutEngine", "Start", "load_latent_rm", "load_reasoner"]
