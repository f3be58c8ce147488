"""Parallel test-time scaling of latent reasoning models, with PyTorch Lightning.

The public names are imported when they are first asked for, so that the command `ltts` answers
without PyTorch where it needs none.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

import lightning_ltts.old_names  # noqa: F401  # makes modules that have moved importable under their old names

if TYPE_CHECKING:
    from lightning_ltts.engine.rollout import RolloutEngine
    from lightning_ltts.models.checkpoints import load_latent_rm, load_reasoner
    from lightning_ltts.training.curriculum import Curriculum
    from lightning_ltts.training.start import Lora, Start

    __version__: str

__all__ = ["Curriculum", "Lora", "RolloutEngine", "Start", "load_latent_rm", "load_reasoner"]

_WHERE = {  # public name -> the module that it is imported from
    "Curriculum": "lightning_ltts.training.curriculum",
    "Lora": "lightning_ltts.training.start",
    "RolloutEngine": "lightning_ltts.engine.rollout",
    "Start": "lightning_ltts.training.start",
    "load_latent_rm": "lightning_ltts.models.checkpoints",
    "load_reasoner": "lightning_ltts.models.checkpoints",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        found: Any = version("lightning-ltts")
    elif name in _WHERE:
        found = getattr(import_module(_WHERE[name]), name)
    else:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    globals()[name] = found  # not asked for again
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_WHERE, "__version__"})
