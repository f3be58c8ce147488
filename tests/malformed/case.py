"""What every table of malformed inputs is made of."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Place:
    """Where a case is tried: an empty working directory, and sound checkpoints of tiny models."""

    folder: Path
    reasoner: Path
    latent_rm: Path


@dataclass(frozen=True)
class Case:
    """Something malformed, in three parts.

    Args:
        use: what a command does with it; a message is expected.
        words: what the message must hold: where it is wrong, and what.
        make: writes what is malformed into the place, before what is there is noted.
    """

    use: Callable[[Place], object]
    words: tuple[str, ...]
    make: Callable[[Place], object] = lambda place: None
