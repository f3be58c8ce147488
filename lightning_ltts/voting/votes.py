"""Answers as votes, and which questions a selection can win."""

from collections.abc import Hashable, Sequence

from torch import Tensor


def vote_numbers(answers: Sequence[Hashable | None]) -> list[int]:
    """Numbers answers from 0 on, equal ones alike; -1 stands for none."""
    numbers: dict[Hashable, int] = {}
    return [
        -1 if answer is None else numbers.setdefault(answer, len(numbers)) for answer in answers
    ]


def mixed_questions(correct: Tensor) -> Tensor:
    """Finds the questions with right and wrong samples, the only ones where a choice matters.

    Args:
        correct: (Q, N), 1 where a sample is right.

    Returns (Q,) bool.
    """
    return (correct.amax(1) > 0) & (correct.amin(1) < 1)


def answer_diversity(votes: Tensor) -> Tensor:
    """The chance (Q,) that two samples of a question answer differently, for votes (Q, N).

    It is Simpson's index without replacement; 0 where there is a single sample. No answer, -1, is
    an answer of its own here.
    """
    samples = votes.shape[1]
    same = (votes[:, :, None] == votes[:, None, :]).sum((1, 2)) - samples
    return 1 - same / max(samples * (samples - 1), 1) if samples > 1 else same.float()
