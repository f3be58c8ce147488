"""Problems that two sets have in common, by their questions and by their computations."""

import re
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from lightning_ltts.data.problems import Problem, key_of, say_once
from lightning_ltts.errors import DataError

_PUNCTUATION = ".,;:!?\"'()[]\u2018\u2019\u201c\u201d"


@dataclass(frozen=True)
class Overlap:
    """Problems of a set that another set has, too.

    Attributes:
        same_question: those whose question the other set asks.
        same_computation: those of the rest whose numbers and operations are those of a problem of
            the other set, told in other words.
    """

    same_question: list[Problem]
    same_computation: list[Problem]


class SeenProblems:
    """The questions and computations of problems, to find them among others.

    Questions are compared by their words alone, computations where steps are known.

    Args:
        problems: what has been seen, for instance in training.
    """

    def __init__(self, problems: Iterable[Problem]):
        # by 64 bits each: there may be millions
        questions, computations = array("Q"), array("Q")
        for problem in problems:
            questions.append(key_of(words(problem.question)))
            computed = _computation_key(problem)
            if computed is not None:
                computations.append(computed)
        self._keys = {
            "questions": _in_order(questions),
            "computations": _in_order(computations),
        }

    def keys(self) -> "dict[str, array[int]]":
        """The 64 bits of every question and of every computation, from which `from_keys` makes it again.

        They are sorted, so that the same problems have the same.
        """
        return self._keys

    @classmethod
    def from_keys(cls, questions: "array[int]", computations: "array[int]") -> "SeenProblems":
        """The problems that had these `keys`."""
        seen = cls(())
        seen._keys = {"questions": questions, "computations": computations}
        return seen

    def among(self, others: Iterable[Problem]) -> Overlap:
        """Those of `others` that have been seen."""
        same_question, same_computation = [], []
        for problem in others:
            if self._has("questions", key_of(words(problem.question))):
                same_question.append(problem)
            elif self._has("computations", _computation_key(problem)):
                same_computation.append(problem)
        return Overlap(same_question, same_computation)

    def _has(self, kind: str, key: int | None) -> bool:
        if key is None:
            return False
        keys = self._keys[kind]
        place = bisect_left(keys, key)
        return place < len(keys) and keys[place] == key

    def refuse_among(self, others: Sequence[Problem], kind: str, allow: bool = False) -> None:
        """Refuses training problems, of which these here are, among those that measure the training.

        Args:
            others: the problems for something else.
            kind: what they are for, as in "validation".
            allow: count them instead, and say how many there are.

        Raises:
            DataError: a question of `others` has been seen.
        """
        common = self.among(others)
        count = len(common.same_question)
        if count and not allow:
            raise DataError(
                f"{common.same_question[0].source}: this {kind} question is among the training "
                f"problems ({count} of {len(others)} are); leave them out, or set "
                "data.init_args.allow_overlap=true to have them counted"
            )
        if count:
            say_once(f"{count} of {len(others)} {kind} questions are among the training problems")
        if common.same_computation:
            say_once(
                f"{len(common.same_computation)} of {len(others)} {kind} problems have the numbers "
                "and operations of a training problem, in other words"
            )


def _in_order(keys: "array[int]") -> "array[int]":
    """Every key once, sorted."""
    return array("Q", (key for key, _ in groupby(sorted(keys))))


def overlap(problems: Iterable[Problem], others: Iterable[Problem]) -> Overlap:
    """Those of `others` that are among `problems`, too."""
    return SeenProblems(problems).among(others)


def _computation_key(problem: Problem) -> int | None:
    expressions = computation(problem)
    return None if expressions is None else key_of("\n".join(expressions))


def words(question: str) -> str:
    """A question without capitals and the punctuation around its words.

    >>> words("How many pens, in all?") == words("how many  PENS in all")
    True
    >>> words("7 + 5?"), words("7 - 5?")
    ('7 + 5', '7 - 5')
    """
    stripped = [word.strip(_PUNCTUATION) for word in question.casefold().split()]
    return " ".join(filter(None, stripped)) or question


def computation(problem: Problem) -> tuple[str, ...] | None:
    """The expressions of a problem's steps; None where a step is none of numbers and operations.

    >>> computation(Problem("", "", ("<<48/2=24>>", "48 + 24 = 72"), "72"))
    ('48/2', '48+24')
    """
    expressions = []
    for step in problem.steps:
        text = step.strip().removeprefix("<<").removesuffix(">>")
        expression = re.sub(r"[\s,]", "", text.rpartition("=")[0])
        if not expression or not re.fullmatch(r"[\d.+\-*/()]+", expression, re.ASCII):
            return None
        expressions.append(expression)
    return tuple(expressions) or None
