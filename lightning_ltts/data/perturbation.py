"""More problems from annotated ones: the same words with other numbers, and the steps worked out again.

The numbers of a question that its `<<...>>` steps start from are drawn anew; every step is then executed with exact rationals.
What cannot be told apart, and what becomes implausible, is left as it is.
"""

import random
import re
from fractions import Fraction

from lightning_ltts.data.answers import format_answer, parse_number
from lightning_ltts.data.problems import Problem, ProblemSource
from lightning_ltts.errors import ConfigError, DataError

_STEP = re.compile(r"<<(.+)=(.+)>>")
_NUMBER = re.compile(
    r"(?<![\w.,/])\d+(?![\w/]|[.,]\d)"
)  # whole numbers only; "3/4", "1.5", "1,000" and "2nd" stay
_TOKENS = re.compile(r"\d+(?:\.\d+)?|\.\d+|[-+*/()]")
_PLAIN = re.compile(r"[\d.+\-*/() ]+")


class PerturbedProblems(ProblemSource):
    """The problems of a source, and copies of them with other numbers.

    Args:
        source: annotated problems, with steps as `<<48/2=24>>`.
        copies: how many of each; fewer where no plausible numbers are found, none where the steps cannot be followed.
        seed: of the numbers.
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
        if copies < 1 or attempts < 1:
            raise ConfigError(
                f"PerturbedProblems needs copies >= 1 and attempts >= 1, not {copies} and {attempts}"
            )
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
                "PerturbedProblems made nothing: no problem has steps of the form <<48/2=24>> that it can follow"
            )
        return problems


def wording(question: str) -> str:
    """A question without its numbers: the same for a problem and all its perturbations."""
    return re.sub(r"\d[\d.,]*", "#", " ".join(question.lower().split()))


def perturb(problem: Problem, generator: random.Random) -> Problem | None:
    """The problem with other numbers, or `None` where that cannot be done, or these draws are implausible.

    A number is drawn anew if it stands once in the question and some step starts from it. Whole numbers stay whole, no result
    may be negative, zero or over ten times the original's, and what was whole has to stay whole.
    """
    parsed = [_STEP.fullmatch(step.replace(" ", "")) for step in problem.steps]
    if not parsed or any(match is None or not _PLAIN.fullmatch(match[1]) for match in parsed):
        return None
    parts = [(match[1], match[2]) for match in parsed if match is not None]
    results: dict[Fraction, Fraction] = {}  # of earlier steps: before -> now
    in_question = [Fraction(number) for number in _NUMBER.findall(problem.question)]
    leaves = {
        Fraction(n)
        for expression, _ in parts
        for n in _TOKENS.findall(expression)
        if n[0].isdigit() or n[0] == "."
    }
    drawn = {
        value: Fraction(generator.randint(max(2, int(value) // 2), 2 * int(value) + 2))
        for value in sorted(leaves)
        if in_question.count(value) == 1 and value > 1
    }
    steps: list[str] = []
    answer = stated_answer = Fraction(0)
    for expression, stated in parts:
        pieces = []
        for token in _TOKENS.findall(expression):
            if token in "+-*/()":
                pieces.append(token)
                continue
            value = Fraction(token)
            if value in results and value in drawn:
                return None  # it may mean the question's number or the earlier result
            pieces.append(_write(results.get(value, drawn.get(value, value))))
        before, now = evaluate(expression), evaluate("".join(pieces))
        if (
            before is None
            or now is None
            or parse_number(stated) != before
            or results.get(before, now) != now
        ):
            return None
        if (
            now <= 0
            or now > 10 * before
            or (before.denominator == 1 and now.denominator != 1)
            or _write(now) == ""
        ):
            return None
        results[before] = answer = now
        stated_answer = before
        steps.append(f"<<{''.join(pieces)}={_write(now)}>>")
    if (
        not drawn
        or all(value == new for value, new in drawn.items())
        or parse_number(problem.answer) != stated_answer
    ):
        return None
    question = _NUMBER.sub(
        lambda match: str(drawn.get(Fraction(match[0]), match[0])), problem.question
    )
    return Problem(problem.id, question, tuple(steps), _write(answer), problem.source)


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
    except (IndexError, ValueError, ZeroDivisionError):
        return None
    return value if position == len(tokens) else None


def _write(value: Fraction) -> str:
    """A rational as a decimal of at most four places, or nothing where it is none."""
    scaled = value * 10_000
    if scaled.denominator != 1:
        return ""
    if value.denominator == 1:
        return str(format_answer(value))
    return f"{float(value):.4f}".rstrip("0")
