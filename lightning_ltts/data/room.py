"""Whether problems fit a reasoner, found out before anything runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from transformers import PreTrainedTokenizerFast

from lightning_ltts.data.problems import Problem, say_once
from lightning_ltts.data.tokenization import ANSWER_MARKER, encode_template, encode_text
from lightning_ltts.errors import DataError


class QuestionReader(Protocol):
    """What is asked of a reasoner here."""

    @property
    def max_positions(self) -> int:
        """Longest sequence that the reasoner can read."""

    def encode_prompt(self, question: str, source: str = "") -> list[int]:
        """Token ids of a question's prompt."""


def encode_prompts(
    reasoner: QuestionReader, problems: Sequence[Problem], room: int
) -> list[list[int]]:
    """Token ids of the prompts of all problems, each of which leaves room for what follows it.

    See `prompt_lengths`, which holds none of them.
    """
    prompts = [reasoner.encode_prompt(problem.question, problem.source) for problem in problems]
    _refuse_too_long(reasoner, problems, [len(prompt) for prompt in prompts], room)
    return prompts


def prompt_lengths(
    reasoner: QuestionReader, problems: Sequence[Problem], room: int
) -> "np.ndarray[Any, Any]":
    """Tokens of the prompt of each problem (Q,), each of which leaves room for what follows it.

    Args:
        reasoner: the model that is to read them.
        problems: all problems of a run, of which there may be millions.
        room: positions needed after a prompt, for thoughts and answer.

    Raises:
        DataError: a prompt is too long, or a word of it is not in the vocabulary; the message names
            the row, and how many prompts are too long.
    """
    encoded = (reasoner.encode_prompt(p.question, p.source) for p in problems)
    lengths = np.fromiter(map(len, encoded), dtype=np.int32, count=len(problems))
    _refuse_too_long(reasoner, problems, lengths, room)
    return lengths


def _refuse_too_long(
    reasoner: QuestionReader, problems: Sequence[Problem], lengths: Sequence[int] | Any, room: int
) -> None:
    too_long = np.flatnonzero(np.asarray(lengths) + room > reasoner.max_positions)
    if len(too_long):
        first = int(too_long[0])
        raise DataError(
            f"{problems[first].source}: the prompt takes {lengths[first]} positions and thoughts "
            f"and answer {room} more, but the backbone has {reasoner.max_positions} ({len(too_long)} "
            f"of {len(problems)} problems are too long); leave such rows out (in 'ltts predict' by "
            "model.init_args.leave_out_long=true), or lower num_thoughts or max_answer_tokens"
        )


def find_too_long(
    reasoner: QuestionReader, problems: Sequence[Problem], room: int
) -> list[Problem]:
    """The problems whose prompts do not leave so much room, which `prompt_lengths` refuses."""
    lengths = (len(reasoner.encode_prompt(p.question, p.source)) for p in problems)
    most = reasoner.max_positions - room
    return [problem for problem, length in zip(problems, lengths, strict=True) if length > most]


@dataclass(frozen=True)
class LongAnswers:
    """Right answers that a reasoner cannot write out within its limit.

    Attributes:
        first: the first problem with such an answer.
        tokens: tokens that it needs.
        count: number of such problems.
        of: number of problems in all.
        limit: tokens that an answer may have.
    """

    first: Problem
    tokens: int
    count: int
    of: int
    limit: int

    def __str__(self) -> str:
        return (
            f"{self.first.source}: the right answer takes {self.tokens} tokens, but "
            f"max_answer_tokens={self.limit} ({self.count} of {self.of} problems can never be "
            "answered right); raise max_answer_tokens"
        )


def find_long_answers(
    tokenizer: PreTrainedTokenizerFast,
    problems: Sequence[Problem],
    limit: int,
    marker: str = ANSWER_MARKER,
) -> LongAnswers | None:
    """Problems whose right answers need more tokens than a reasoner may write; None where none do.

    Args:
        tokenizer: the reasoner's tokenizer.
        problems: all problems of a run.
        limit: tokens that an answer may have, its marker included (`max_answer_tokens`).
        marker: the text that answers follow (`answer_marker`).

    Raises:
        DataError: a word of an answer is not in the vocabulary.
    """
    before = len(encode_template(tokenizer, marker))
    lengths = [
        before + len(encode_text(tokenizer, f" {problem.answer}", problem.source))
        for problem in problems
    ]
    too_long = [index for index, length in enumerate(lengths) if length > limit]
    if not too_long:
        return None
    first = too_long[0]
    return LongAnswers(problems[first], lengths[first], len(too_long), len(problems), limit)


def say_long_answers(
    tokenizer: PreTrainedTokenizerFast,
    problems: Sequence[Problem],
    limit: int,
    marker: str = ANSWER_MARKER,
) -> None:
    """Says before a run how many of its problems can never be answered right; see above."""
    found = find_long_answers(tokenizer, problems, limit, marker)
    if found is not None:
        say_once(str(found))
