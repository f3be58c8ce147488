"""The built-in task: word problems whose every step is known.

"Ann has 7 pens. She buys 5 more. She doubles them. She gives 3 away. How many pens are left?" Small enough for a model
trained from scratch in minutes on two CPU cores, hard enough that one answer is often wrong and many rarely all are.
"""

import random

from lightning_ltts.data.problems import Problem, ProblemSource, question_id
from lightning_ltts.data.ranges import Bound, require_whole
from lightning_ltts.data.splits import Split, require_split, split_of_text
from lightning_ltts.errors import ConfigError

Step = tuple[str, int]  # sign and operand

MAX_NUMBER = Bound(1_000_000)  # of numbers that are tokens
MAX_STEPS = Bound(1_000)

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


def vocabulary(max_number: int) -> list[str]:
    """Every word, number and sign that a problem with numbers up to `max_number` can hold, in a fixed order."""
    sentences = [TEMPLATE_WORDS, *GAINS, *LOSSES, *MULTIPLES.values()]
    words = [word for sentence in sentences for word in sentence.replace("{} ", "").split()]
    words += [*PEOPLE, *PEOPLE.values(), *THINGS, *(f"{thing}." for thing in THINGS)]
    return [*"+-*=", *map(str, range(max_number + 1)), *dict.fromkeys(words)]


def split_of(start: int, steps: list[Step]) -> Split:
    """The split that a computation belongs to, from its first number, signs and operands alone.

    Problems that tell the same computation in other words are in the same split, whatever the seed.
    """
    text = f"{start}{''.join(f'{sign}{operand}' for sign, operand in steps)}"
    return split_of_text(text)


def number_of_problems(num_steps: int, max_number: int) -> int:
    """Upper bound on the number of different problems of all splits together.

    From any total, gains and losses together have as many amounts as there are numbers.
    """
    per_step = max_number * len(GAINS) + len(MULTIPLES)
    return len(PEOPLE) * len(THINGS) * max_number * int(per_step**num_steps)


class WordProblems(ProblemSource):
    """Generated word problems, each different, the same for the same arguments.

    Args:
        split: `train`, `valid`, `test`, or `mine` for trajectories that a LatentRM is trained on. It
            is decided by a hash of the numbers and operations, so that no two splits share any.
        size: how many problems.
        seed: which problems of the split.
        num_steps: reasoning steps per problem; more is harder.
        max_number: all numbers lie in 0..max_number; more is harder.
        max_size: the largest size that is generated, about a kilobyte of memory each.
    """

    def __init__(
        self,
        split: Split,
        size: int,
        seed: int = 0,
        num_steps: int = 3,
        max_number: int = 20,
        max_size: int = 1_000_000,
    ):
        require_split("WordProblems", split)
        require_whole("WordProblems", "num_steps", num_steps, 1, MAX_STEPS)
        require_whole("WordProblems", "max_number", max_number, 4, MAX_NUMBER)
        require_whole("WordProblems", "seed", seed)
        require_whole("WordProblems", "max_size", max_size, 1)
        require_whole("WordProblems", "size", size, 1, max_size, "raise max_size for more")
        self.split = split
        self.size = size
        self.seed = seed
        self.num_steps = num_steps
        self.max_number = max_number
        if size > number_of_problems(num_steps, max_number):
            raise self._too_few(f"at most {number_of_problems(num_steps, max_number)}")

    def load(self) -> list[Problem]:  # noqa: D102
        rng = random.Random(f"word problems {self.seed}")
        source = f"WordProblems({self.split})"
        problems: dict[str, Problem] = {}
        attempts = 0
        while len(problems) < self.size:
            attempts += 1
            if attempts > 1000 + 100 * self.size:
                raise self._too_few(f"only {len(problems)}")
            question, steps, total, split = self._draw(rng)
            if question not in problems and split == self.split:
                name = question_id(question)
                problems[question] = Problem(name, question, tuple(steps), str(total), source)
        return list(problems.values())

    def _too_few(self, found: str) -> ConfigError:
        return ConfigError(
            f"{found} different {self.split} problems were found with num_steps={self.num_steps} and "
            f"max_number={self.max_number}, but size={self.size}; raise the former or lower size"
        )

    def _draw(self, rng: random.Random) -> tuple[str, list[str], int, Split]:
        """Question, steps and answer of a problem, and the split that it belongs to."""
        name, thing = rng.choice(list(PEOPLE)), rng.choice(THINGS)
        start = total = rng.randint(1, self.max_number)
        sentences, computation, steps = [f"{name} has {total} {thing}."], [], []
        for _ in range(self.num_steps):
            sentence, sign, operand = self._draw_step(rng, total)
            before = total
            total = {"+": total + operand, "-": total - operand, "*": total * operand}[sign]
            sentences.append(f"{PEOPLE[name]} {sentence}")
            computation.append((sign, operand))
            steps.append(f"{before}{sign}{operand}={total}")
        question = " ".join([*sentences, f"How many {thing} are left?"])
        return question, steps, total, split_of(start, computation)

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
