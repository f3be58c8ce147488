import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_ltts.data.tokenization import WordTokenizer, encode_text
from lightning_ltts.data.word_problems import WordProblems
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


def test_splits_share_no_problem_whatever_the_seed() -> None:
    sets = [
        {p.question for p in WordProblems(split, 300, seed, num_steps=1, max_number=9).load()}
        for split, seed in (("train", 0), ("valid", 0), ("test", 1))
    ]
    assert all(len(questions) == 300 for questions in sets)
    assert len(set.union(*sets)) == 900


def test_difficulty_that_has_too_few_problems() -> None:
    with pytest.raises(ConfigError, match="different test problems"):
        WordProblems("test", 400, num_steps=1, max_number=4).load()
    with pytest.raises(ConfigError, match="num_steps=0"):
        WordProblems("test", 5, num_steps=0)
