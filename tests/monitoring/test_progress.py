"""The running accuracy of the bar."""

from types import SimpleNamespace
from typing import Any

import pytest

from lightning_ltts.analysis.predictions import is_right
from lightning_ltts.monitoring.progress import QuestionBar


def row(greedy: str | None, majority: str, **truth: str) -> dict[str, Any]:
    return {
        "greedy": {"answer": greedy},
        "samples": [{"answer": majority}],
        "choices": {"majority": 0},
        **truth,
    }


def shown(bar: QuestionBar, rows: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> dict:
    """What stands behind the bar after a batch of these rows."""
    seen: dict[str, str] = {}
    tqdm = SimpleNamespace(set_postfix=lambda shares, **_: seen.update(shares), update=lambda: None)
    monkeypatch.setattr(QuestionBar, "predict_progress_bar", tqdm)
    bar.on_predict_batch_end(None, None, rows, None, 0)  # type: ignore[arg-type]
    return seen


def test_shares_of_right_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [row("12", "7", answer="12"), row(None, "3", answer="3")]
    found = shown(QuestionBar(is_right), rows, monkeypatch)
    assert found == {"greedy": "0.500", "majority": "0.500"}


def test_latex_is_compared_by_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("math_verify", reason="the extra 'math' is not installed")
    rows = [row("1/2", "2", answer=r"\frac{1}{2}", answer_is="latex")]
    assert shown(QuestionBar(is_right), rows, monkeypatch)["greedy"] == "1.000"
