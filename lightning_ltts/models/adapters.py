"""Low-rank adapters (LoRA, arXiv 2106.09685) in weights that are read: all there, and merged."""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from lightning_ltts.errors import CheckpointError, shorten
from lightning_ltts.files import read_json
from lightning_ltts.models.families import Family
from lightning_ltts.models.weights import State, read_pickle

# rank and alpha of the published CODI and CoLaR adapters, whose files do not say the alpha
PUBLISHED_RANK, PUBLISHED_ALPHA = 128, 32.0
ALPHA = "lora_alpha"
CONFIG = "adapter_config.json"  # PEFT's, beside the weights
_DOWN, _UP, _BASE = ".lora_A.default.weight", ".lora_B.default.weight", ".base_layer."


def merge_lora(state: State, family: Family, source: str, alpha: Any = None) -> None:
    """Adds adapters to the weights they belong to, in place: W + (alpha / r) B A.

    Args:
        state: weights by name, adapters as PEFT names them; without any, it is left as it is.
        family: the backbone's family, which says whether matrices are kept transposed.
        source: the file, for messages.
        alpha: the adapters' change is scaled by alpha / r, where r is their rank; where it is not
            known, only adapters of the published rank are merged, with the published alpha.

    Raises:
        CheckpointError: an adapter without the weights it belongs to, or of another shape, or an
            alpha that is not known or no number.
    """
    for key in [key for key in state if key.endswith(f"{_BASE}weight")]:
        adapter = key.replace(f"{_BASE}weight", _DOWN)
        if adapter not in state:
            raise CheckpointError(f"{source} lacks the adapter '{adapter}' of the weights '{key}'")
    for key in [key for key in state if _BASE in key]:
        state[key.replace(_BASE, ".")] = state.pop(key)
    adapters = [key for key in state if key.endswith(_DOWN)]
    if not adapters:
        return
    scale = _known_alpha(len(state[adapters[0]]), source, alpha)
    for key in adapters:
        _merge(state, key.removesuffix(_DOWN), family, source, scale)


def _known_alpha(rank: int, source: str, alpha: Any) -> float:
    """The alpha of adapters of a rank, as it was found or as published ones have it."""
    if alpha is None and rank == PUBLISHED_RANK:
        return PUBLISHED_ALPHA
    if alpha is None:
        raise CheckpointError(
            f"{source} holds adapters of rank {rank} and does not say the {ALPHA} that they were "
            f"trained with; give it to 'ltts import', for instance --set {ALPHA}=32"
        )
    number = isinstance(alpha, int | float) and not isinstance(alpha, bool)
    if not number or not 0 < alpha < math.inf:
        raise CheckpointError(f"{ALPHA}={shorten(alpha)} of {source} must be a number above 0")
    return float(alpha)


def alpha_of(path: Path, given: Any, in_file: bool) -> Any:
    """The alpha of the adapters in a file or folder; None where nothing says it.

    It stands in PEFT's configuration beside the weights, or in the hyper-parameters of a Lightning
    checkpoint.

    Args:
        path: the file or folder.
        given: the alpha that the user gives, or None.
        in_file: whether the file can have hyper-parameters, which are looked at then.

    Raises:
        CheckpointError: what is given contradicts what stands there, or PEFT scaled otherwise.
        StoreError: PEFT's configuration is damaged.
    """
    config = (path if path.is_dir() else path.parent) / CONFIG
    stored = read_json(config, "fetch it again") if config.is_file() else {}
    if stored.get("use_rslora"):
        raise CheckpointError(f"{config}: adapters with use_rslora are not supported; merge them")
    alphas = [stored[ALPHA]] if ALPHA in stored else []
    if in_file and path.is_file():
        alphas += _values_of(ALPHA, read_pickle(path).get("hyper_parameters"))
    if alphas and given is not None and given != alphas[0]:
        raise CheckpointError(
            f"{path} has {ALPHA}={shorten(alphas[0])}, not {shorten(given)}; leave it out"
        )
    return alphas[0] if alphas else given


def _values_of(name: str, tree: Any) -> Iterator[Any]:
    """The values of all entries with a name in nested containers."""
    if OmegaConf.is_config(tree):
        tree = OmegaConf.to_container(tree)
    if isinstance(tree, dict):
        yield from (value for key, value in tree.items() if key == name)
    if isinstance(tree, dict | list):
        for inner in tree.values() if isinstance(tree, dict) else tree:
            yield from _values_of(name, inner)


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
