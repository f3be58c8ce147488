"""Parallel test-time scaling of latent reasoning models, with PyTorch Lightning."""

from importlib.metadata import version

import torch

import lightning_ltts.old_names  # noqa: F401  # makes modules that have moved importable under their old names
from lightning_ltts.data.tokenization import BPETokenizer, GraphTokenizer, WordTokenizer
from lightning_ltts.engine.rollout import RolloutEngine
from lightning_ltts.models.checkpoints import load_latent_rm, load_reasoner
from lightning_ltts.training.curriculum import Curriculum
from lightning_ltts.training.start import Lora, Start

# A checkpoint holds its training's options as objects of these classes. PyTorch's restricted
# unpickler makes no object of a class that it was not told of, so that no file can run anything.
_IN_CHECKPOINTS = (BPETokenizer, Curriculum, GraphTokenizer, Lora, Start, WordTokenizer)
torch.serialization.add_safe_globals(list(_IN_CHECKPOINTS))
# older checkpoints name two of them where they stood then
torch.serialization.add_safe_globals([(Lora, "lightning_ltts.training.reasoner.Lora")])
torch.serialization.add_safe_globals([(Start, "lightning_ltts.training.reasoner.Start")])

__version__ = version("lightning-ltts")
__all__ = ["Curriculum", "Lora", "RolloutEngine", "Start", "load_latent_rm", "load_reasoner"]
