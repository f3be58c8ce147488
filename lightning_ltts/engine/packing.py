"""How much is read together: packs of questions by length and memory.

Where memory runs out after all, a pack is halved.
"""

import gc
import logging
import os
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from lightning_ltts.errors import ConfigError
from lightning_ltts.models.latent_lm import LatentReasoner

_log = logging.getLogger(__name__)
_SHARE = (
    0.4  # of the free memory; the rest is for activations, copies while rows fork, and the LatentRM
)
_MOST = {"cpu": 2**17, "cuda": 2**22}  # positions beyond which larger passes were not faster
Result = TypeVar("Result")


def automatic_budget(reasoner: LatentReasoner) -> int:
    """Positions whose keys and values the device's free memory holds, with room to work."""
    config, device = reasoner.backbone.config, reasoner.device
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    size = torch.finfo(reasoner.backbone.dtype).bits // 8
    per_position = size * (2 * config.num_hidden_layers * heads * width + 4 * config.hidden_size)
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else _free_memory()
    return max(1, min(int(_SHARE * free / per_position), _MOST.get(device.type, 2**17)))


def _free_memory() -> int:
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):  # not on this system
        return 2**31


def pack(
    lengths: Sequence[int], rows: int, suffix: int, budget: int, shared: bool = True
) -> list[list[int]]:
    """Questions in packs that hold at most `budget` positions each.

    A pack holds questions of neighbouring lengths, so that little is padded.

    Args:
        lengths: prompt length of each question.
        rows: trajectories of one question.
        suffix: positions after the prompt, of each trajectory.
        budget: positions; a question that needs more makes a pack of its own.
        shared: whether the trajectories of a question share its prompt.

    Returns indices into `lengths`, shortest prompts first.
    """
    packs: list[list[int]] = []
    for question in sorted(range(len(lengths)), key=lengths.__getitem__):
        one = lengths[question] + rows * suffix if shared else rows * (lengths[question] + suffix)
        if not packs or (len(packs[-1]) + 1) * one > budget:
            packs.append([])
        packs[-1].append(question)
    return packs


def halve_if_needed(
    items: list[int], run: Callable[[list[int]], Result], may_halve: bool = True
) -> list[Result]:
    """The results of `run` on all items together or, where memory runs out, on halves, and so on.

    Raises:
        RuntimeError: a single item does not fit.
        ConfigError: the items do not fit together, and may not be halved.
    """
    try:
        return [run(items)]
    except (RuntimeError, MemoryError) as error:
        if len(items) == 1 or not _is_out_of_memory(error):
            raise
        if not may_halve:
            raise ConfigError(
                f"out of memory with {len(items)} questions together, which devices that hold one "
                "model cannot halve; set token_budget (of data.init_args in mining, of "
                "model.init_args in prediction) below what the free memory suggested"
            ) from error
    # outside of the except clause, whose error keeps the tensors of the failed pass alive
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    half = len(items) // 2
    _log.warning(
        "out of memory with %d questions together; going on with %d, which changes no result",
        len(items),
        half,
    )
    return halve_if_needed(items[:half], run) + halve_if_needed(items[half:], run)


def _is_out_of_memory(error: BaseException) -> bool:
    return isinstance(
        error, torch.OutOfMemoryError | MemoryError
    ) or "can't allocate memory" in str(error)
