import pytest

from lightning_ltts.data.problems import Problem
from lightning_ltts.data.room import (
    encode_prompts,
    find_long_answers,
    find_too_long,
    prompt_lengths,
)
from lightning_ltts.data.tokenization import WordTokenizer
from lightning_ltts.data.word_problems import WordProblems
from lightning_ltts.errors import DataError
from lightning_ltts.models.latent_lm import LatentReasoner

LONG = Problem("long", "Ann has 7 pens. " * 14, (), "7", "a.json, row 3")


def test_prompts_of_all_problems(gpt2: LatentReasoner) -> None:
    problems = WordProblems("test", 5).load()
    assert prompt_lengths(gpt2, problems, 10).tolist() == [
        len(gpt2.encode_prompt(problem.question)) for problem in problems
    ]
    prompts = encode_prompts(gpt2, problems, room=10)
    assert prompts == [gpt2.encode_prompt(problem.question) for problem in problems]


def test_a_prompt_without_room_is_named_before_anything_runs(gpt2: LatentReasoner) -> None:
    problems = [*WordProblems("test", 5).load(), LONG]
    length = len(gpt2.encode_prompt(LONG.question))
    assert encode_prompts(gpt2, problems, gpt2.max_positions - length)
    expected = rf"a\.json, row 3: the prompt takes {length} positions .* has 64 \(1 of 6 problems are too long\)"
    with pytest.raises(DataError, match=expected):
        encode_prompts(gpt2, problems, gpt2.max_positions - length + 1)
    assert find_too_long(gpt2, problems, gpt2.max_positions - length) == []
    assert find_too_long(gpt2, problems, gpt2.max_positions - length + 1) == [LONG]


def test_a_word_outside_the_vocabulary_is_named(gpt2: LatentReasoner) -> None:
    with pytest.raises(DataError, match=r"b\.json, row 1: the word 'zebras'"):
        encode_prompts(gpt2, [Problem("z", "Ann has 3 zebras", (), "3", "b.json, row 1")], 1)


def test_answers_that_need_more_tokens_than_there_are() -> None:
    tokenizer = WordTokenizer(20).build()
    problems = [
        Problem(str(i), "q", (), answer, f"a.json, row {i}")
        for i, answer in enumerate(["7", "-7", "1 - 2 - 3"], start=1)
    ]
    assert find_long_answers(tokenizer, problems[:2], limit=3) is None  # ### - 7
    found = find_long_answers(tokenizer, problems, limit=3)
    assert found is not None
    assert (found.first, found.tokens, found.count, found.of) == (problems[2], 6, 1, 3)
    assert str(found) == (
        "a.json, row 3: the right answer takes 6 tokens, but max_answer_tokens=3 (1 of 3 problems can "
        "never be answered right); raise max_answer_tokens"
    )
    longer = find_long_answers(tokenizer, problems, limit=2)
    assert longer is not None
    assert (longer.first, longer.count) == (problems[1], 2)
    # without a marker there is a token more
    assert find_long_answers(tokenizer, problems[:2], limit=2, marker="") is None
