"""The built-in task: word problems whose every step is known.

"Ann has 7 pens. She buys 5 more. She doubles them. She gives 3 away. How many pens are left?" Small enough for a model
trained from scratch in minutes on two CPU cores, hard enough that one answer is often wrong and many rarely all are.
"""

import hashlib
import random
from typing import Literal

from lightning_ltts.data.problems import Problem, ProblemSource
from lightning_ltts.errors import ConfigError

Split = Literal["train", "valid", "test"]

PEOPLE = {
    "Ann": "She",
    "Bob": "He",
    "Eva": "She",
    "Max": "He",
    "Mia": "She",
    "Sam": "He",
    "Zoe": "She",
    "Tom": "He",
}
THINGS = ["pens", "books", "cards", "coins", "shells", "stamps"]
GAINS = ["buys {} more.", "finds {} more.", "gets {} more."]
LOSSES = ["gives {} away.", "sells {} today.", "loses {} outside."]
MULTIPLES = {2: "doubles them.", 3: "triples them."}
TEMPLATE_WORDS = "has How many are left?"

_BUCKETS: dict[Split, range] = {
    "test": range(0, 10),
    "valid": range(10, 20),
    "train": range(20, 100),
}


def vocabulary(max_number: int) -> list[str]:
    """Every word, number and sign that a problem with numbers up to `max_number` can hold, in a fixed order."""
    sentences = [TEMPLATE_WORDS, *GAINS, *LOSSES, *MULTIPLES.values()]
    words = [word for sentence in sentences for word in sentence.replace("{} ", "").split()]
    words += [*PEOPLE, *PEOPLE.values(), *THINGS, *(f"{thing}." for thing in THINGS)]
    return [*"+-*=", *map(str, range(max_number + 1)), *dict.fromkeys(words)]


def split_of(question: str) -> Split:
    """The split a question belongs to, from its text alone: splits never share a problem, whatever the seed."""
    bucket = int.from_bytes(hashlib.md5(question.encode()).digest()[:4], "little") % 100
    return next(split for split, buckets in _BUCKETS.items() if bucket in buckets)


class WordProblems(ProblemSource):
    """Generated word problems, each different, the same for the same arguments.

    Args:
        split: train, valid or test; decided by a hash of the text, so no problem is in two splits.
        size: how many problems.
        seed: which problems of the split.
        num_steps: reasoning steps per problem; more is harder.
        max_number: all numbers lie in 0..max_number; more is harder.
    """

    def __init__(
        self, split: Split, size: int, seed: int = 0, num_steps: int = 3, max_number: int = 20
    ):
        if size < 1 or num_steps < 1 or max_number < 4:
            raise ConfigError(
                f"WordProblems needs size >= 1, num_steps >= 1 and max_number >= 4, "
                f"not size={size}, num_steps={num_steps}, max_number={max_number}"
            )
        self.split = split
        self.size = size
        self.seed = seed
        self.num_steps = num_steps
        self.max_number = max_number

    def load(self) -> list[Problem]:  # noqa: D102
        rng = random.Random(f"word problems {self.seed}")
        source = f"WordProblems({self.split})"
        problems: dict[str, Problem] = {}
        attempts = 0
        while len(problems) < self.size:
            attempts += 1
            if attempts > 1000 + 100 * self.size:
                raise ConfigError(
                    f"only {len(problems)} different {self.split} problems were found with num_steps={self.num_steps} "
                    f"and max_number={self.max_number}, but size={self.size}; raise the former or lower size"
                )
            question, steps, total = self._draw(rng)
            if question not in problems and split_of(question) == self.split:
                name = f"{self.split}-{self.seed}-{len(problems)}"
                problems[question] = Problem(name, question, tuple(steps), str(total), source)
        return list(problems.values())

    def _draw(self, rng: random.Random) -> tuple[str, list[str], int]:
        name, thing = rng.choice(list(PEOPLE)), rng.choice(THINGS)
        total = rng.randint(1, self.max_number)
        sentences, steps = [f"{name} has {total} {thing}."], []
        for _ in range(self.num_steps):
            sentence, sign, operand = self._draw_step(rng, total)
            before, total = (
                total,
                {"+": total + operand, "-": total - operand, "*": total * operand}[sign],
            )
            sentences.append(f"{PEOPLE[name]} {sentence}")
            steps.append(f"{before}{sign}{operand}={total}")
        return " ".join([*sentences, f"How many {thing} are left?"]), steps, total

    def _draw_step(self, rng: random.Random, total: int) -> tuple[str, str, int]:
        """A sentence, its sign and its number, keeping the running total within 0..max_number."""
        signs = [sign for sign, fits in (("+", total < self.max_number), ("-", total > 0)) if fits]
        factors = [factor for factor in MULTIPLES if 0 < total * factor <= self.max_number]
        sign = rng.choice([*signs, *(["*"] if factors else [])])
        if sign == "*":
            factor = rng.choice(factors)
            return MULTIPLES[factor], sign, factor
        amount = rng.randint(1, self.max_number - total if sign == "+" else total)
        return rng.choice(GAINS if sign == "+" else LOSSES).format(amount), sign, amount
