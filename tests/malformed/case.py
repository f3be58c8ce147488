"""What every table of malformed inputs is made of."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Place:
    """Where a case is tried, and sound checkpoints of tiny models.

    Args:
        folder: the working directory, empty.
        reasoner: a reasoner's checkpoint.
        latent_rm: a LatentRM's.
        exported: the reasoner as a folder.
    """

    folder: Path
    reasoner: Path
    latent_rm: Path
    exported: Path


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
