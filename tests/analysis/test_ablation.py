import pytest

from lightning_ltts.analysis.ablation import ablation_lines
from lightning_ltts.analysis.predictions import sample_pool
from lightning_ltts.analysis.replaced_lines import ablation_table
from lightning_ltts.analysis.row_checks import fault_of


def row(number: int, greedy: str, replaced: dict[tuple[str, int | None], str | None]) -> dict:
    entries = [{"by": by, "step": step, "answer": a} for (by, step), a in replaced.items()]
    samples = [{"answer": "1"}]
    own = {"greedy": {"answer": greedy}, "samples": samples, "ablation": entries}
    return {"id": f"q{number}", "answer": "1", **own}


ROWS = [
    row(0, "1", {("zero", None): "2", ("zero", 0): "1"}),
    row(1, "1", {("zero", None): "1", ("zero", 0): "1"}),
    row(2, "3", {("zero", None): "3", ("zero", 0): "1"}),
    row(3, "1", {("zero", None): None, ("zero", 0): "1"}),
    {key: value for key, value in row(4, "1", {}).items() if key != "ablation"},  # was too long
]


def test_lines_by_hand() -> None:
    everything, first = ablation_lines(ROWS)
    assert (everything.by, everything.step, everything.place) == ("zero", None, "all")
    assert (everything.accuracy, everything.gain.gain, everything.same) == (0.25, -0.5, 0.5)
    assert (first.accuracy, first.gain.gain, first.same) == (1.0, 0.25, 0.75)
    assert first.place == "thought 1"
    assert ablation_lines(ROWS[4:]) == []


def test_table() -> None:
    table = ablation_table(ablation_lines(ROWS))
    assert len(table) == 4
    assert "25.0%" in table[2]
    assert max(map(len, table)) <= 100
    assert ablation_table([]) == []


@pytest.mark.slow
def test_rows_whose_answers_are_latex() -> None:
    """What is right is the library's word, here as in the tables."""
    pytest.importorskip("math_verify", reason="the extra 'math' is not installed")
    latex = row(0, r"\frac{\sqrt{2}}{2}", {("zero", None): "0.70710678", ("zero", 0): "1"})
    latex |= {"answer": r"\frac{1}{\sqrt{2}}", "answer_is": "latex"}
    assert fault_of(latex) is None
    assert "answer_is" in str(fault_of(latex | {"answer_is": "LaTeX"}))
    everything, first = ablation_lines([latex])
    assert (everything.accuracy, everything.gain.gain, everything.same) == (1.0, 0.0, 0.0)
    assert (first.accuracy, first.gain.gain) == (0.0, -1.0)
    pool = sample_pool([latex | {"samples": [{"answer": "0.70710678"}, {"answer": None}]}])
    assert (pool.correct.tolist(), pool.greedy_correct.tolist()) == ([[1.0, 0.0]], [1.0])


def test_rows_that_cannot_be() -> None:
    assert fault_of(ROWS[0]) is None
    for wrong in (3, [3], [{"by": "zero", "step": -1, "answer": "1"}], [{"by": 1, "step": None}]):
        assert "ablation" in str(fault_of(ROWS[0] | {"ablation": wrong}))
