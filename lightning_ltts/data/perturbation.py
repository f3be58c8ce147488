"""More problems from annotated ones: the same words with other numbers.

The numbers of a question that its `<<...>>` steps start from are drawn anew; every step is then
worked out again with exact rationals. What cannot be told apart, and what becomes implausible, is
left as it is.
"""

import random
import re
from collections import Counter
from fractions import Fraction

from lightning_ltts.data.answers import parse_number
from lightning_ltts.data.number_words import in_digits, in_words
from lightning_ltts.data.problems import Problem, ProblemSource
from lightning_ltts.data.ranges import Bound, require_whole
from lightning_ltts.data.truths import plain_number
from lightning_ltts.errors import DataError

MAX_COPIES = Bound(10_000)  # of one problem, and draws for one copy
SMALL = 12  # up to which a number of the steps may be an unwritten count

_STEP = re.compile(r"<<(.+)=(.+)>>")
# whole numbers only; "3/4", "1.5", "1,000" and "2nd" stay
_NUMBER = re.compile(r"(?<![\w.,/])\d+(?![\w/]|[.,]\d)", re.ASCII)
_TOKENS = re.compile(r"\d+(?:\.\d+)?|\.\d+|[-+*/()]", re.ASCII)
_PLAIN = re.compile(r"[\d.+\-*/() ]+", re.ASCII)
_TOO_LONG = re.compile(r"\d{100}", re.ASCII)  # to be a number that a problem is about


class PerturbedProblems(ProblemSource):
    """The problems of a source, and copies of them with other numbers.

    Args:
        source: annotated problems, with steps as `<<48/2=24>>`.
        copies: how many of each; fewer where no plausible numbers are found, none where the steps
            cannot be followed.
        seed: seed of the numbers.
        exclude: problems that must not come in, in whatever numbers: those for validation and test.
        keep: whether the problems themselves are in, too.
        attempts: draws for one copy before it is given up.
    """

    def __init__(
        self,
        source: ProblemSource,
        copies: int = 4,
        seed: int = 0,
        exclude: list[ProblemSource] | None = None,
        keep: bool = True,
        attempts: int = 20,
    ):
        require_whole("PerturbedProblems", "copies", copies, 1, MAX_COPIES)
        require_whole("PerturbedProblems", "attempts", attempts, 1, MAX_COPIES)
        require_whole("PerturbedProblems", "seed", seed)
        self.source = source
        self.copies = copies
        self.seed = seed
        self.exclude = exclude or []
        self.keep = keep
        self.attempts = attempts

    def load(self) -> list[Problem]:  # noqa: D102
        barred = {wording(problem.question) for source in self.exclude for problem in source.load()}
        originals = [
            problem for problem in self.source.load() if wording(problem.question) not in barred
        ]
        problems = list(originals) if self.keep else []
        seen = {problem.question for problem in originals}
        for problem in originals:
            for copy in range(self.copies):
                generator = random.Random(f"{self.seed}/{problem.id}/{copy}")
                draws = (perturb(problem, generator) for _ in range(self.attempts))
                made = next((p for p in draws if p is not None and p.question not in seen), None)
                if made is not None:
                    seen.add(made.question)
                    problems.append(
                        Problem(
                            f"{problem.id}-p{copy}",
                            made.question,
                            made.steps,
                            made.answer,
                            f"{problem.source} perturbed",
                        )
                    )
        if not problems:
            raise DataError(
                "PerturbedProblems made nothing: no problem has steps of the form <<48/2=24>> that it "
                "can follow"
            )
        return problems


def wording(question: str) -> str:
    """A question without its numbers: the same for a problem and all its perturbations."""
    return re.sub(r"\d[\d.,]*", "#", " ".join(question.lower().split()))


def perturb(problem: Problem, generator: random.Random) -> Problem | None:
    """The problem with other numbers, or `None` where there is none, or these draws are implausible.

    A number is drawn anew if it stands once in the question, some step starts from it, and nothing
    else can be meant there. A problem with a step whose numbers come from nowhere is left as it is:
    they were worked out in the head. Whole numbers stay whole, no result may be negative, zero or
    over ten times the original's, and what was whole has to stay whole.
    """
    parts = _parts(problem)
    if not parts:
        return None
    fixed, stated = in_words(problem.question), in_digits(problem.question)
    drawn = _draw(
        parts, [Fraction(number) for number in _NUMBER.findall(problem.question)], fixed, generator
    )
    if not _are_known(parts, stated | fixed, drawn):
        return None
    if not drawn or all(value == new for value, new in drawn.items()):
        return None
    steps = _work_out(parts, drawn, stated)
    if steps is None or parse_number(problem.answer) != evaluate(parts[-1][0]):
        return None
    question = _NUMBER.sub(
        lambda match: str(drawn.get(Fraction(match[0]), match[0])), problem.question
    )
    texts = tuple(f"<<{expression}={result}>>" for expression, result in steps)
    return Problem(problem.id, question, texts, steps[-1][1], problem.source)


def _parts(problem: Problem) -> list[tuple[str, str]]:
    """Expression and result of each step; nothing where a step is none of numbers and operations."""
    steps = [step.replace(" ", "") for step in problem.steps]
    parsed = [_STEP.fullmatch(step) for step in steps]
    if any(map(_TOO_LONG.search, (problem.question, *steps))):
        return []
    if any(match is None or not _PLAIN.fullmatch(match[1]) for match in parsed):
        return []
    return [(match[1], match[2]) for match in parsed if match is not None]


def _numbers(expression: str) -> list[Fraction]:
    """The numbers of an expression, in its order."""
    return [Fraction(token) for token in _TOKENS.findall(expression) if token not in "+-*/()"]


def _draw(
    parts: list[tuple[str, str]],
    in_question: list[Fraction],
    fixed: frozenset[Fraction],
    generator: random.Random,
) -> dict[Fraction, Fraction]:
    """Numbers that the question states once and steps start from -> the numbers in their place.

    Those stay that words of the question can stand for, too (the 2 of "twice"), and small ones that
    steps have several times: one of these may be a count that nobody has written.
    """
    leaves = Counter(number for expression, _ in parts for number in _numbers(expression))
    return {
        value: Fraction(generator.randint(max(2, int(value) // 2), 2 * int(value) + 2))
        for value, times in sorted(leaves.items())
        if in_question.count(value) == 1
        and value > 1
        and value not in fixed
        and (times == 1 or value > SMALL)
    }


def _are_known(
    parts: list[tuple[str, str]], stated: frozenset[Fraction], drawn: dict[Fraction, Fraction]
) -> bool:
    """Whether every number of the steps is the question's, a word's, or an earlier result.

    Another one was worked out in the head, and would have to change with what it was made of. A
    share that stands for a percentage which stays is known.
    """
    results: set[Fraction] = set()
    for expression, result in parts:
        for value in set(_numbers(expression)) - results - stated - {Fraction(1)}:
            percents = {100 * value, 100 * (1 - value), 100 * (value - 1)}
            if not percents & (stated - set(drawn)):
                return False
        value_of = parse_number(result)
        results |= {value_of} if isinstance(value_of, Fraction) else set()
    return True


def _work_out(
    parts: list[tuple[str, str]], drawn: dict[Fraction, Fraction], written: frozenset[Fraction]
) -> list[tuple[str, str]] | None:
    """The steps with the numbers that were drawn; None where they cannot be followed.

    `written` are the numbers of the question.
    """
    results: dict[Fraction, Fraction] = {}  # of earlier steps: before -> now
    steps = []
    for expression, stated in parts:
        pieces = []
        for token in _TOKENS.findall(expression):
            if token in "+-*/()":
                pieces.append(token)
                continue
            value = Fraction(token)
            if value in results and value in written:
                return None  # it may mean the question's number or the earlier result
            pieces.append(_write(results.get(value, drawn.get(value, value))))
        before, now = evaluate(expression), evaluate("".join(pieces))
        if before is None or now is None or parse_number(stated) != before:
            return None
        if results.get(before, now) != now or not _is_plausible(before, now):
            return None
        results[before] = now
        steps.append(("".join(pieces), _write(now)))
    return steps


def _is_plausible(before: Fraction, now: Fraction) -> bool:
    """Whether a result of such a size and kind can stand in place of the original one."""
    stays_whole = now.denominator == 1 or before.denominator != 1
    return 0 < now <= 10 * before and stays_whole and _write(now) != ""


def evaluate(expression: str) -> Fraction | None:
    """The exact value of a sum, product or the like of decimals; `None` where it has none.

    >>> evaluate("(3+4)*.5"), evaluate("1/0"), evaluate("2**3")
    (Fraction(7, 2), None, None)
    """
    tokens = _TOKENS.findall(expression)
    if "".join(tokens) != expression.replace(" ", ""):
        return None
    position = 0

    def term() -> Fraction:
        nonlocal position
        value = factor()
        while position < len(tokens) and tokens[position] in "*/":
            position += 1
            value = value * factor() if tokens[position - 1] == "*" else value / factor()
        return value

    def total() -> Fraction:
        nonlocal position
        value = term()
        while position < len(tokens) and tokens[position] in "+-":
            position += 1
            value = value + term() if tokens[position - 1] == "+" else value - term()
        return value

    def factor() -> Fraction:
        nonlocal position
        token = tokens[position]
        position += 1
        if token == "-":
            return -factor()
        if token != "(":
            return Fraction(token)
        value = total()
        if tokens[position] != ")":
            raise ValueError
        position += 1
        return value

    try:
        value = total()
    except (IndexError, RecursionError, ValueError, ZeroDivisionError):
        return None
    return value if position == len(tokens) else None


def _write(value: Fraction) -> str:
    """A rational as a decimal of at most four places, or nothing where it is none."""
    return "" if (value * 10_000).denominator != 1 else plain_number(value)
