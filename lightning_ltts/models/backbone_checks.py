"""What a backbone may be, found out from its configuration before anything is made."""

import math
import os

from transformers import PreTrainedConfig

from lightning_ltts.data.ranges import Bound, require_whole
from lightning_ltts.errors import ConfigError
from lightning_ltts.models.families import family_of

MAX_LAYERS = Bound(2_000)
MAX_WIDTH = Bound(1_000_000)  # hidden units
MAX_ROWS = Bound(100_000_000)  # of a table of embeddings


def check_config(config: PreTrainedConfig) -> None:
    """Refuses a configuration of a backbone that is not supported here, or that makes none.

    Raises:
        ConfigError: saying why.
    """
    family_of(config.model_type)
    check_sizes(config)
    if getattr(config, "quantization_config", None) is not None:
        raise ConfigError(
            "a backbone with a quantization_config is not supported; give its weights as they are "
            "without quantization, and leave the entry out"
        )
    if any(kind != "full_attention" for kind in getattr(config, "layer_types", None) or []):
        raise ConfigError(
            "a backbone with sliding-window attention is not supported; set use_sliding_window to false"
        )


def check_sizes(config: PreTrainedConfig) -> None:
    """Refuses a configuration whose numbers make no model.

    Raises:
        ConfigError: naming the first that does not.
    """
    for name, value in config.to_dict().items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{name}={value} of the backbone must be a finite number")
    names = dict(config.attribute_map)  # as the family calls them, for instance n_embd
    limits = {
        "num_hidden_layers": MAX_LAYERS,
        "hidden_size": MAX_WIDTH,
        "num_attention_heads": MAX_WIDTH,
        "max_position_embeddings": MAX_ROWS,
        "vocab_size": MAX_ROWS,
        "num_key_value_heads": MAX_WIDTH,
        "intermediate_size": MAX_WIDTH,
        "head_dim": MAX_WIDTH,
        "n_inner": MAX_WIDTH,
    }
    for name, most in limits.items():
        value = getattr(config, name, None)
        if value is not None:
            require_whole("the backbone", names.get(name, name), value, 1, most)
    width, heads = config.hidden_size, config.num_attention_heads
    groups = getattr(config, "num_key_value_heads", None) or heads
    own_width = getattr(config, "head_dim", None)
    if (not own_width and width % heads) or heads % groups:
        whole, part = (
            ("hidden_size", "num_attention_heads")
            if width % heads
            else ("num_attention_heads", "num_key_value_heads")
        )
        raise ConfigError(
            f"{names.get(whole, whole)}={getattr(config, whole)} of the backbone must be a multiple "
            f"of {names.get(part, part)}={getattr(config, part)}"
        )


def check_memory(config: PreTrainedConfig) -> None:
    """Refuses to make random weights that the memory of this machine cannot hold.

    Raises:
        ConfigError: saying how much they would take.
    """
    width = config.hidden_size
    inner = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None)
    positions = config.max_position_embeddings if family_of(config.model_type).position_table else 0
    weights = config.num_hidden_layers * (2 * width**2 + 2 * width * (inner or 4 * width))
    needed = 4 * (weights + (config.vocab_size + positions) * width)
    if needed > _memory():
        raise ConfigError(
            f"the weights of the backbone would take at least {needed / 1e9:,.0f} GB, but this "
            f"machine has {_memory() / 1e9:,.0f} GB of memory; lower its sizes"
        )


def _memory() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not on this system
        return 2**63
