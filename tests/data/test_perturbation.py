import random
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_ltts.data.perturbation import PerturbedProblems, evaluate, perturb, wording
from lightning_ltts.data.problems import Problem, ProblemSource
from lightning_ltts.errors import ConfigError, DataError

CLIPS = Problem(
    "clips",
    "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May. How many in all?",
    ("<<48/2=24>>", "<<48+24=72>>"),
    "72",
)
PAY = Problem(
    "pay",
    "Weng earns $12 an hour. She worked 50 minutes. How much?",
    ("<<12/60=0.2>>", "<<0.2*50=10>>"),
    "10",
)


class Given(ProblemSource):
    def __init__(self, *problems: Problem):
        self.problems = list(problems)

    def load(self) -> list[Problem]:
        return self.problems


def test_the_steps_are_worked_out_again() -> None:
    """48 is drawn anew, the 2 of "half" is not; only even numbers give whole halves."""
    made = [p for seed in range(60) if (p := perturb(CLIPS, random.Random(seed))) is not None]
    numbers = set()
    for problem in made:
        n = int(problem.question.split("to ")[1].split()[0])
        assert n % 2 == 0
        assert problem.steps == (f"<<{n}/2={n // 2}>>", f"<<{n}+{n // 2}={n + n // 2}>>")
        assert problem.answer == str(n + n // 2)
        assert wording(problem.question) == wording(CLIPS.question)
        numbers.add(n)
    assert len(numbers) > 5
    assert all(24 <= n <= 98 for n in numbers)


def test_what_words_stand_for_is_not_drawn() -> None:
    """Alster's 2 is drawn nowhere, because the 2 of "twice" cannot be told from it; Bret's 30 is."""
    problem = Problem(
        "fish",
        "Quinn catches twice as many fish as Alster, who caught 2. Bret has 30 more. How many has Bret?",
        ("<<2*2=4>>", "<<4+30=34>>"),
        "34",
    )
    made = [p for seed in range(40) if (p := perturb(problem, random.Random(seed))) is not None]
    assert len({p.answer for p in made}) > 5
    assert all("who caught 2." in p.question and p.steps[0] == "<<2*2=4>>" for p in made)
    for p in made:
        assert p.answer == str(4 + int(p.question.split("Bret has ")[1].split()[0]))


def test_decimals_in_between_are_kept_exact() -> None:
    made = [p for seed in range(200) if (p := perturb(PAY, random.Random(seed))) is not None]
    assert made
    for problem in made:
        assert evaluate(problem.steps[1][2:].split("=")[0]) == Fraction(problem.answer)
        assert Fraction(problem.answer).denominator == 1


@pytest.mark.parametrize(
    "problem",
    [
        Problem("none", "How many are 3 and 4?", (), "7"),
        Problem("words", "How many are 3 and 4?", ("three and four are seven",), "7"),
        Problem("wrong", "How many are 3 and 4?", ("<<3+4=8>>",), "8"),
        Problem("twice", "Ann has 3 pens and 3 books. How many?", ("<<3+3=6>>",), "6"),
        Problem("other answer", "How many are 3 and 4?", ("<<3+4=7>>",), "9"),
        Problem(
            "in the head",
            "Coral reads 30 pages, then twice as many less 2, and 33 more. How many?",
            ("<<30+58+91=179>>",),
            "179",
        ),
        Problem(
            "hundred percent",
            "Steve puts $100 on his bank, at 10% of interest. How much is there?",
            ("<<100*110/100=110>>",),
            "110",
        ),
        Problem(
            "ambiguous", "Take 3 and 4 and then 7. How many?", ("<<3+4=7>>", "<<7+7=14>>"), "14"
        ),
    ],
    ids=lambda problem: problem.id,
)
def test_what_cannot_be_followed_is_left_alone(problem: Problem) -> None:
    assert all(perturb(problem, random.Random(seed)) is None for seed in range(30))


def test_same_seed_same_problems_and_nothing_twice() -> None:
    one, two, other = (PerturbedProblems(Given(CLIPS, PAY), 5, seed).load() for seed in (0, 0, 1))
    assert one == two
    assert one != other
    assert len({p.question for p in one}) == len({p.id for p in one}) == len(one) > 8
    assert one[:2] == [CLIPS, PAY]
    assert not {CLIPS.question, PAY.question} & {
        p.question for p in PerturbedProblems(Given(CLIPS, PAY), 5, keep=False).load()
    }


def test_validation_problems_never_come_in_whatever_their_numbers() -> None:
    """A training problem that is a validation problem with other numbers would teach its wording and steps."""
    held_out = Problem("v", CLIPS.question.replace("48", "1,050"), (), "1575")
    made = PerturbedProblems(Given(CLIPS, PAY), 5, exclude=[Given(held_out)]).load()
    assert {wording(p.question) for p in made} == {wording(PAY.question)}


def test_what_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"copies=0 of PerturbedProblems must be a whole number from 1 to 10000"
    ):
        PerturbedProblems(Given(CLIPS), 0)
    with pytest.raises(ConfigError, match="copies=1000000000000000 "):
        PerturbedProblems(Given(CLIPS), 10**15)
    with pytest.raises(ConfigError, match="attempts=0"):
        PerturbedProblems(Given(CLIPS), attempts=0)
    with pytest.raises(DataError, match="made nothing"):
        PerturbedProblems(Given(Problem("x", "3?", (), "3")), keep=False).load()


@given(st.recursive(st.integers(0, 99).map(str), lambda inner: st.tuples(inner, st.sampled_from("+-*"), inner).map(
    lambda parts: f"({parts[0]}{parts[1]}{parts[2]})"), max_leaves=8))  # fmt: skip
def test_evaluate_as_python_does(expression: str) -> None:
    assert evaluate(expression) == eval(expression)


@pytest.mark.parametrize("text", ["", "1+", "(1", "1)", "2**3", "1/0", "a", "1 2", "--"])
def test_what_has_no_value(text: str) -> None:
    assert evaluate(text) is None


@pytest.mark.parametrize("depth", [10_000, 100_000])
def test_expressions_of_any_depth_have_no_value(depth: int) -> None:
    assert evaluate("(" * depth + "1" + ")" * depth) is None
    assert evaluate("-" * depth + "1") is None


def test_numbers_of_thousands_of_digits_are_left_alone() -> None:
    huge = "9" * 5000
    for problem in (
        Problem("question", f"How many are {huge} and 4?", ("<<3+4=7>>",), "7"),
        Problem("step", "How many are 3 and 4?", (f"<<{huge}+4=7>>",), "7"),
        Problem("result", "How many are 3 and 4?", (f"<<3+4={huge}>>",), "7"),
        Problem("digits of another script", "How many are 3 and \u0664?", ("<<3+\u0664=7>>",), "7"),
    ):
        assert perturb(problem, random.Random(0)) is None
