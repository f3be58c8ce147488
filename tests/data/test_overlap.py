import doctest

import pytest

from lightning_ltts.data import overlap as module
from lightning_ltts.data.overlap import Overlap, SeenProblems, computation, overlap, words
from lightning_ltts.data.problem_data import ProblemData, training_problems
from lightning_ltts.data.problems import Problem
from lightning_ltts.data.word_problems import WordProblems
from lightning_ltts.errors import ConfigError, DataError
from tests.data.test_perturbation import Given

PENS = Problem("1", "Ann has 7 pens and buys 5. How many?", ("<<7+5=12>>",), "12", "a, row 1")
SAME = Problem("2", "ann has 7 PENS, and buys 5: how many", (), "12", "b, row 1")
COINS = Problem("3", "Bob had 7 coins and found 5.", (" 7 + 5 = 12 ",), "12", "b, row 2")
OTHER = Problem("4", "Ann has 7 pens and sells 5. How many?", ("<<7-5=2>>",), "2", "b, row 3")
BARE = Problem("5", "How many are 7 and 5?", (), "12", "b, row 4")


def test_questions_and_computations_are_found() -> None:
    assert overlap([PENS], [SAME, COINS, OTHER, BARE]) == Overlap([SAME], [COINS])
    assert overlap([BARE], [SAME, COINS, OTHER]) == Overlap([], [])  # no steps are no computation
    assert overlap([], [PENS]) == Overlap([], [])


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ((), None),
        (("<<48/2=24>>", "<<48+24=72>>"), ("48/2", "48+24")),
        (("1,000*2=2000",), ("1000*2",)),
        (("<<2+3=5>>", "five in all"), None),
        (("72",), None),
        (("<<=5>>",), None),
        (("x+1=5",), None),
    ],
)
def test_computation(steps: tuple[str, ...], expected: tuple[str, ...] | None) -> None:
    assert computation(Problem("", "", steps, "1")) == expected


def test_words_keep_operators_and_are_never_nothing() -> None:
    assert words("7 + 5 = ?") != words("7 - 5 = ?")
    assert words("1.5 m") != words("15 m")
    assert words("???") == "???"


def test_training_problems_are_refused_or_counted(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(
        DataError,
        match=r"b, row 1: this test question is among the training problems \(1 of 3 are\)",
    ):
        SeenProblems([PENS]).refuse_among([SAME, COINS, OTHER], "test")
    with caplog.at_level("INFO"):
        SeenProblems([PENS]).refuse_among([SAME, COINS, OTHER], "test", allow=True)
    assert "1 of 3 test questions are among the training problems" in caplog.text
    assert (
        "1 of 3 test problems have the numbers and operations of a training problem" in caplog.text
    )


class TestProblemData:
    def test_training_problems_are_known_from_a_checkpoint(self) -> None:
        """After the file's way from keys to signed numbers and back."""
        data = ProblemData(Given(PENS, BARE), Given(OTHER))
        assert data.state_dict() == {}  # nothing is loaded yet
        data.setup("fit")
        seen = training_problems({"ProblemData": data.state_dict()}, "ProblemData")
        assert seen is not None
        assert seen.among([SAME, COINS, OTHER]) == Overlap([SAME], [COINS])
        assert training_problems({}, "ProblemData") is None

    def test_test_problems_among_the_training_problems(self) -> None:
        data = ProblemData(Given(PENS, OTHER), Given(BARE), Given(SAME))
        with pytest.raises(DataError, match="this test question is among the training problems"):
            data.setup("fit")
        ProblemData(Given(PENS, OTHER), Given(BARE), Given(SAME), allow_overlap=True).setup("fit")

    def test_validation_problems_among_the_training_problems(self) -> None:
        data = ProblemData(Given(PENS), Given(SAME), Given(BARE))
        with pytest.raises(
            DataError, match="this validation question is among the training problems"
        ):
            data.setup("fit")

    def test_built_in_splits_have_nothing_in_common(self, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level("INFO"):
            ProblemData(*(WordProblems(split, 300) for split in ("train", "valid", "test"))).setup(
                "fit"
            )
        assert "training problem" not in caplog.text

    @pytest.mark.parametrize("name", ["batch_size", "eval_batch_size", "seed"])
    @pytest.mark.parametrize("value", [-1, 10**15, 1.5, float("nan")])
    def test_options_out_of_range(self, name: str, value: object) -> None:
        with pytest.raises(
            ConfigError, match=f"{name}={value} of ProblemData must be a whole number"
        ):
            ProblemData(Given(PENS), Given(BARE), **{name: value})


def test_examples_of_the_docstrings() -> None:
    assert doctest.testmod(module).failed == 0
