import doctest
import sys
from fractions import Fraction

import pytest

from lightning_ltts.data import latex_answers
from lightning_ltts.data.answers import extract_answer, format_answer, parse_stored
from lightning_ltts.data.latex_answers import LatexTruth, boxed, read_latex
from lightning_ltts.data.problems import ProblemFiles
from lightning_ltts.errors import ConfigError
from lightning_ltts.voting.votes import vote_numbers

pytest.importorskip("math_verify", reason="the extra 'math' is not installed")

ALIKE = [  # written in several ways, and what is another answer
    ([r"\frac{1}{2}", r"\dfrac12", "0.5", ".5", r"\frac{2}{4}", "1/2"], "2"),
    (["12,345", "12345", r"12{,}345", r"\$12,345", "12345.", "x=12345"], "12346"),
    ([r"50\%", "50", "50%", r"50^\circ", r"50 \text{ degrees}"], "0.5"),
    ([r"\frac{1}{\sqrt{2}}", r"\frac{\sqrt2}{2}", r"\sqrt{\frac{1}{2}}"], r"\sqrt{2}"),
    (["(x+1)^2", "x^2+2x+1", "1 + 2x + x^2", "y = (x+1)(x+1)"], "x^2+1"),
    (["6 - 5i", "-5i+6", "6-5 i"], "6+5i"),
    (["6,-2", "-2, 6", r"\{-2,6\}"], "6,2"),
    ([r"\left( 3, \frac{\pi}{2} \right)", r"(3,\frac{\pi}{2})"], r"(\frac{\pi}{2},3)"),
    ([r"x \ge 3", r"3 \leq x"], "x > 3"),
    ([r"\text{Evelyn}", r"\text{evelyn}", r"\textbf{Evelyn}"], r"\text{Carla}"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("alike", "other"), ALIKE, ids=[alike[0] for alike, _ in ALIKE])
def test_equal_answers_vote_together_and_are_right(alike: list[str], other: str) -> None:
    answers = [extract_answer(rf"so ### \boxed{{{text}}}", "###", "latex") for text in alike]
    different = read_latex(other)
    assert vote_numbers([*answers, different]) == [0] * len(alike) + [1]
    for text in alike:
        truth = LatexTruth(text)
        assert [answer == truth for answer in answers] == [True] * len(alike), text
        assert different != truth
        assert truth != different
    # and so they are from a prediction file
    assert {parse_stored(format_answer(answer)) for answer in answers} == {answers[0]}
    assert read_latex(str(answers[0])) == answers[0]


@pytest.mark.slow
def test_right_is_what_the_library_says() -> None:
    """Decimals that are near enough are right, but are answers of their own in a vote."""
    near = read_latex("0.333333")
    assert near == LatexTruth(r"\frac{1}{3}")
    assert near != read_latex(r"\frac{1}{3}")
    assert Fraction(33, 100) != LatexTruth(r"\frac{1}{3}")
    assert read_latex("0.70710678") == LatexTruth(r"\frac{\sqrt{2}}{2}")
    assert LatexTruth("3") != None  # noqa: E711
    assert LatexTruth("3") != 3.5
    assert LatexTruth(r"\pi") == LatexTruth(r"\pi")


@pytest.mark.parametrize(
    ("text", "marker", "expected"),
    [
        (r"\boxed{3} ### 5", "###", Fraction(5)),  # what is boxed counts behind the marker alone
        (r"### so \boxed{1} or \boxed{\sqrt{8}}.", "###", r"2 \sqrt{2}"),
        (r"### \sqrt{8}", "###", r"2 \sqrt{2}"),
        (r"we get $\boxed{7}$", "###", Fraction(7)),
        ("The answer is: 12", "", Fraction(12)),
        (r"The answer is $\sqrt{8}$.", "", r"2 \sqrt{2}"),
        (r"### \boxed{", "###", None),
        ("### ", "###", None),
        ("", "###", None),
        ("no idea", "", None),
    ],
)
def test_where_the_answer_stands(text: str, marker: str, expected: object) -> None:
    assert extract_answer(text, marker, "latex") == expected


def test_boxes() -> None:
    assert boxed(r"\boxed{\frac{1}{2}} and \fbox{\{1\}}") == r"\{1\}"
    assert boxed(r"\boxed 5") == "5"
    assert boxed("5") is None


@pytest.mark.parametrize(
    "text",
    ["9^{9^{9^9}}", "10^{10000000}", "(2^{9})!", "100000!", r"\sum_{i=1}^{10^{9}} i^i"],
)
def test_what_a_model_can_write_is_not_computed(text: str) -> None:
    """Arithmetic of such numbers would hold the search up, and no signal ends it."""
    answer = read_latex(text)
    assert isinstance(answer, str)
    assert answer == LatexTruth(text)
    assert answer != LatexTruth("7")


def test_too_long_and_too_slow_are_no_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_latex("x" * 401) is None
    monkeypatch.setattr(latex_answers, "SECONDS", 0.05)
    assert read_latex("(" * 300 + "1 + y") is None


def test_answers_can_be_read_in_any_thread() -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(read_latex, r"\sqrt{50}").result() == r"5 \sqrt{2}"


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "math_verify", None)
    monkeypatch.setattr(latex_answers, "_installed", lambda: False)
    with pytest.raises(ConfigError, match=r"pip install 'lightning-ltts\[math\]'"):
        ProblemFiles(["a.json"], answers="latex")
    with pytest.raises(ConfigError, match="math-verify, which is not installed"):
        extract_answer("### 1", "###", "latex")


def test_examples_of_the_docstrings() -> None:
    assert doctest.testmod(latex_answers).failed == 0
