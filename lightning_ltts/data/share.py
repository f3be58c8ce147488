"""A share of the problems of any source, so that what is trained on and what is mined stay apart."""

import hashlib

from lightning_ltts.data.overlap import words
from lightning_ltts.data.problems import Problem, ProblemSource
from lightning_ltts.errors import ConfigError, DataError, shorten


class ProblemShare(ProblemSource):
    """The problems of a source that fall into a share of all questions, by a hash of their words.

    Shares that do not overlap, such as 0 to 0.8 for a reasoner and 0.8 to 1 for its LatentRM, never
    have a question in common, whatever the files, their order or their repeats.

    Args:
        source: where the problems come from.
        start: where the share begins, from 0 to 1.
        end: where the share ends, from 0 to 1; the end itself is not in it.
    """

    def __init__(self, source: ProblemSource, start: float = 0.0, end: float = 1.0):
        if not 0 <= start < end <= 1:
            raise ConfigError(
                f"start={shorten(start)} and end={shorten(end)} of ProblemShare must be numbers from 0 "
                "to 1, the start below the end"
            )
        self.source = source
        self.start = start
        self.end = end

    def load(self) -> list[Problem]:  # noqa: D102
        problems = [
            problem
            for problem in self.source.load()
            if self.start <= place_of(problem.question) < self.end
        ]
        if not problems:
            raise DataError(
                f"no question falls into the share from {self.start} to {self.end}; raise its end"
            )
        return problems


def place_of(question: str) -> float:
    """The place of a question among all that there can be, from 0 to below 1."""
    digest = hashlib.blake2b(words(question).encode(), digest_size=6).digest()
    return int.from_bytes(digest, "little") / 2**48
