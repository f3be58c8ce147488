import re
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_ltts.data.overlap import computation
from lightning_ltts.data.tokenization import WordTokenizer, encode_text
from lightning_ltts.data.word_problems import WordProblems, number_of_problems, split_of
from lightning_ltts.errors import ConfigError


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 99), st.integers(1, 5), st.integers(6, 50))
def test_steps_lead_to_the_answer(seed: int, num_steps: int, max_number: int) -> None:
    vocabulary = WordTokenizer(max_number).build()
    for problem in WordProblems("train", 20, seed, num_steps, max_number).load():
        assert len(problem.steps) == num_steps
        previous = None
        for step in problem.steps:
            left, _, result = step.partition("=")
            assert eval(left) == int(result)
            assert 0 <= int(result) <= max_number
            assert previous in (None, left.split("+")[0].split("-")[0].split("*")[0])
            previous = result
        assert problem.answer == previous
        encode_text(
            vocabulary, "\n".join([problem.question, *problem.steps])
        )  # raises on an unknown word


def test_same_arguments_same_problems() -> None:
    assert WordProblems("valid", 50, seed=3).load() == WordProblems("valid", 50, seed=3).load()
    assert WordProblems("valid", 50, seed=3).load() != WordProblems("valid", 50, seed=4).load()


@pytest.mark.parametrize(("num_steps", "max_number"), [(1, 20), (3, 20)])
def test_splits_share_no_computation_whatever_the_seed(num_steps: int, max_number: int) -> None:
    """A problem told with other people and things would be as good as seen."""
    questions, computations = [], []
    for split, seed in (("train", 0), ("valid", 0), ("test", 1), ("mine", 0), ("mine", 1)):
        problems = WordProblems(split, 80, seed, num_steps, max_number).load()
        assert len(problems) == 80
        questions.append({problem.question for problem in problems})
        computations.append({computation(problem) for problem in problems})
    assert None not in set.union(*computations)
    for one, other in combinations(range(4), 2):
        assert not questions[one] & questions[other]
        assert not computations[one] & computations[other]


def test_the_split_is_that_of_the_computation() -> None:
    """Of its first number, signs and operands."""
    for split in ("train", "mine"):
        for problem in WordProblems(split, 30).load():
            steps = [re.fullmatch(r"(\d+)([-+*])(\d+)=\d+", step) for step in problem.steps]
            start = int(steps[0][1])
            assert split_of(start, [(step[2], int(step[3])) for step in steps]) == split


def test_ids_come_from_the_question() -> None:
    one, other = (WordProblems("test", 200, seed, 1, 9).load() for seed in (0, 1))
    ids = {problem.question: problem.id for problem in one}
    both = [problem for problem in other if problem.question in ids]
    assert len(set(ids.values())) == 200
    assert both
    assert all(ids[problem.question] == problem.id for problem in both)


@pytest.mark.slow
def test_number_of_problems_bounds_what_there_is() -> None:
    with pytest.raises(ConfigError, match=r"only [0-9]+ different test problems"):
        WordProblems("test", 500, num_steps=1, max_number=4).load()
    assert number_of_problems(1, 4) == 48 * 4 * 14


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"size": 5000, "num_steps": 1, "max_number": 4}, "at most 2688 different test problems"),
        (
            {"size": 10**15},
            "size=1000000000000000 of WordProblems .* to 1000000; raise max_size for more",
        ),
        ({"size": 10**15, "max_size": 10**15}, "at most 228794880 different"),
        ({"size": 1e15}, "size=1000000000000000.0"),
        ({"size": 0}, "size=0"),
        ({"num_steps": 0}, "num_steps=0"),
        ({"num_steps": 10**15}, "num_steps=1000000000000000 .* from 1 to 1000"),
        ({"max_number": 3}, "max_number=3"),
        ({"max_number": 10**15}, "max_number=1000000000000000 .* from 4 to 1000000"),
        ({"seed": -1}, "seed=-1"),
        ({"seed": float("nan")}, "seed=nan"),
        ({"max_size": 0}, "max_size=0"),
        ({"split": "tests"}, "split='tests' of WordProblems is not known; use one of train, valid"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], expected: str) -> None:
    """Found out when the source is made, before anything is drawn."""
    with pytest.raises(ConfigError, match=expected):
        WordProblems(**{"split": "test", "size": 5, **options})
