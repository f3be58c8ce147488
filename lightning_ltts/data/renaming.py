"""Graph problems of others, told in the names of the built-in graph task."""

import random
import re
from dataclasses import replace

from lightning_ltts.data.graph_problems import CONCEPTS, PERSONS
from lightning_ltts.data.problems import Problem, ProblemSource
from lightning_ltts.data.ranges import require_whole
from lightning_ltts.errors import DataError

_SENTENCE = re.compile(r"(Every )?(\w+) is an? (\w+)")
_QUESTION = re.compile(r"Is (\w+) an? (\w+) or (?:an? )?(\w+)\?")


class RenamedProblems(ProblemSource):
    """Problems in ProsQA's form, with other names: each person and concept gets one of ours, by lot.

    Names are drawn anew for every problem, from its id, the same in question, steps and answer. So
    a reasoner that was trained on `GraphProblems`, whose tokenizer knows no other names, can read
    them. The graph, the order of the sentences and that of the candidates stay as they are.
    Predictions hold the new names, under the old ids.

    Args:
        source: the problems, with answers that are texts.
        seed: which names.
    """

    def __init__(self, source: ProblemSource, seed: int = 0):
        require_whole("RenamedProblems", "seed", seed)
        self.source = source
        self.seed = seed

    def load(self) -> list[Problem]:  # noqa: D102
        return [renamed(problem, self.seed) for problem in self.source.load()]


def renamed(problem: Problem, seed: int = 0) -> Problem:
    """A problem in ProsQA's form with names of the built-in graph task.

    Raises:
        DataError: a sentence has another form, or there are more names than ours.
    """
    *sentences, question = re.split(r"(?<=\.) ", problem.question)
    asked = _QUESTION.fullmatch(question)
    told = [_SENTENCE.fullmatch(text.removesuffix(".")) for text in sentences]
    if asked is None or not all(told):
        wrong = question if asked is None else sentences[told.index(None)]
        raise DataError(
            f"{problem.source}: the sentence '{wrong}' is none of 'Every A is a B.', 'Tom is a B.' "
            "and 'Is Tom a B or C?'; rename problems in ProsQA's form alone"
        )
    persons, concepts = {asked[1]: None}, {asked[2]: None, asked[3]: None}
    for match in filter(None, told):
        (concepts if match[1] else persons)[match[2]] = None
        concepts[match[3]] = None
    rng = random.Random(f"renamed {seed} {problem.id}")
    names: dict[str, str] = {}
    for kind, old, new in (("persons", persons, PERSONS), ("concepts", concepts, CONCEPTS)):
        if len(old) > len(new):
            raise DataError(
                f"{problem.source} has {len(old)} {kind}, and there are {len(new)} names for such; "
                "leave it out"
            )
        names |= dict(zip(old, rng.sample(new, len(old)), strict=True))

    def told_anew(text: str) -> str:
        """In our names, with the one article that our tokenizer knows."""
        text = re.sub(r"\ban\b", "a", text)
        return re.sub(r"\w+", lambda match: names.get(match[0], match[0]), text)

    return replace(
        problem,
        question=told_anew(problem.question),
        steps=tuple(told_anew(step) for step in problem.steps),
        answer=told_anew(problem.answer),
    )
