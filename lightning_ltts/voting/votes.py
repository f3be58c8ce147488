"""Answers as votes."""

from collections.abc import Hashable, Sequence


def vote_numbers(answers: Sequence[Hashable | None]) -> list[int]:
    """Answers -> small integers, equal where the answers are; -1 for none."""
    numbers: dict[Hashable, int] = {}
    return [-1 if answer is None else numbers.setdefault(answer, len(numbers)) for answer in answers]
