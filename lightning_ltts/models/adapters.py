"""Low-rank adapters (LoRA, arXiv 2106.09685) in weights that are read: all there, and merged."""

import re

from lightning_ltts.errors import CheckpointError
from lightning_ltts.models.families import Family
from lightning_ltts.models.weights import State

# the published CODI and CoLaR adapters have this alpha; their rank is read from the file
PUBLISHED_ALPHA = 32.0
_DOWN, _UP, _BASE = ".lora_A.default.weight", ".lora_B.default.weight", ".base_layer."


def merge_lora(state: State, family: Family, source: str, alpha: float = PUBLISHED_ALPHA) -> None:
    """Adds adapters to the weights they belong to, in place: W + (alpha / r) B A.

    Args:
        state: weights by name, adapters as PEFT names them; without any, it is left as it is.
        family: the backbone's family, which says whether matrices are kept transposed.
        source: the file, for messages.
        alpha: the adapters' change is scaled by alpha / r, where r is their rank.

    Raises:
        CheckpointError: an adapter without the weights it belongs to, or of another shape.
    """
    for key in [key for key in state if key.endswith(f"{_BASE}weight")]:
        adapter = key.replace(f"{_BASE}weight", _DOWN)
        if adapter not in state:
            raise CheckpointError(f"{source} lacks the adapter '{adapter}' of the weights '{key}'")
    for key in [key for key in state if _BASE in key]:
        state[key.replace(_BASE, ".")] = state.pop(key)
    for key in [key for key in state if key.endswith(_DOWN)]:
        _merge(state, key.removesuffix(_DOWN), family, source, alpha)


def _merge(state: State, module: str, family: Family, source: str, alpha: float) -> None:
    """Merges the adapter of one module."""
    down, up, target = f"{module}{_DOWN}", f"{module}{_UP}", f"{module}.weight"
    if up not in state or target not in state:
        missing = up if up not in state else target
        raise CheckpointError(f"{source} holds the adapter '{down}' without '{missing}'")
    a, b = state.pop(down).float(), state.pop(up).float()  # (r, in), (out, r)
    if a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[1]:
        raise CheckpointError(
            f"{source}: the adapter '{down}' of shape {tuple(a.shape)} does not fit '{up}' of {tuple(b.shape)}"
        )
    change = b @ a * (alpha / a.shape[0])
    change = change.T if family.transposed else change
    weight = state[target]
    if weight.shape != change.shape:
        raise CheckpointError(
            f"{source}: the adapter '{down}' makes a change of shape {tuple(change.shape)}, but "
            f"the weights it belongs to have {tuple(weight.shape)}"
        )
    state[target] = (weight.float() + change).to(weight.dtype)


def require_adapters(state: State, source: str) -> None:
    """Checks that every layer has the adapters that any layer has.

    Raises:
        CheckpointError: one is missing, or there are none at all.
    """
    adapters = [key for key in state if key.endswith(_DOWN)]
    if not adapters:
        raise CheckpointError(f"{source} lacks adapters; expected keys that end in {_DOWN[1:]}")
    kinds = {re.sub(r"\.\d+\.", ".*.", key) for key in adapters}
    for layer in {match.group() for key in adapters if (match := re.search(r"\.\d+\.", key))}:
        for kind in kinds:
            if (key := kind.replace(".*.", layer)) not in state:
                raise CheckpointError(
                    f"{source} lacks the adapter '{key}', which other layers have"
                )
