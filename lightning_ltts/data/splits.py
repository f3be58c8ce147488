"""The splits of tasks that are made: decided by a hash of what is computed, so that none share it."""

import hashlib
from typing import Literal, get_args

from lightning_ltts.errors import ConfigError, shorten

Split = Literal["train", "valid", "test", "mine"]

# of a hundred; a LatentRM is to learn from problems that its reasoner was not trained on
_BUCKETS: dict[Split, range] = {
    "test": range(0, 10),
    "valid": range(10, 20),
    "mine": range(20, 60),
    "train": range(60, 100),
}


def split_of_text(text: str) -> Split:
    """The split that a computation belongs to, given as a text in a form of its own."""
    bucket = int.from_bytes(hashlib.md5(text.encode()).digest()[:4], "little") % 100
    return next(split for split, buckets in _BUCKETS.items() if bucket in buckets)


def require_split(owner: str, split: object) -> None:
    """Refuses what is no split.

    Raises:
        ConfigError: naming those that are.
    """
    if split not in get_args(Split):
        raise ConfigError(
            f"split={shorten(split)} of {owner} is not known; use one of "
            f"{', '.join(get_args(Split))}"
        )
