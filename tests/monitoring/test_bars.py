"""Bars move by themselves in a terminal, and say lines in a file."""

import io
import time
from collections.abc import Callable

import pytest

from lightning_ltts.monitoring import bars
from lightning_ltts.monitoring.bars import Bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def soon(happens: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 20
    while not happens() and time.monotonic() < deadline:
        time.sleep(0.01)
    return happens()


def test_it_is_drawn_again_within_a_long_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is counted, and the clock goes on; a closed bar is left alone."""
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr(bars, "SECONDS", 0.02)
    bar = Bar(desc="mining", total=3, unit=" questions")
    first = terminal.getvalue().count("\r")
    assert soon(lambda: terminal.getvalue().count("\r") >= first + 3)
    bar.update(2)
    bar.close()
    drawn = terminal.getvalue()
    assert "mining:  67%" in drawn
    time.sleep(0.1)
    assert terminal.getvalue() == drawn
    assert bars.SECONDS <= 1


def test_lines_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """One now and then, whatever the step time, and one at the end; no carriage returns."""
    file = io.StringIO()
    monkeypatch.setattr("sys.stderr", file)
    monkeypatch.setattr(bars, "SECONDS", 0.02)
    bar = Bar(desc="Epoch 1", total=40, unit=" questions", bar_format="{bar}", position=1)
    bar.set_description("Epoch 1")
    bar.update(3)
    assert file.getvalue() == ""
    monkeypatch.setattr(bars, "FILE_SECONDS", 0.05)
    assert soon(lambda: file.getvalue().count("\n") >= 2)
    monkeypatch.setattr(bars, "FILE_SECONDS", 1000)
    bar.set_postfix({"accuracy": "0.5"}, refresh=False)
    bar.update(37)
    bar.close()
    bar.close()
    lines = file.getvalue().split("\n")
    assert lines.pop() == ""
    assert lines[0].startswith("Epoch 1: 3 of 40 questions [")
    assert lines[-1].startswith("Epoch 1: 40 of 40 questions [")
    assert lines[-1].endswith("questions/s, accuracy=0.5]")
    assert "\r" not in file.getvalue()


def test_what_is_not_to_be_left_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Validation within a training, and the bars of other processes."""
    file = io.StringIO()
    monkeypatch.setattr("sys.stderr", file)
    for options in ({"leave": False}, {"disable": True}):
        Bar(desc="Validation", total=1, **options).close()
    assert file.getvalue() == ""


def test_a_closed_file_ends_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr(bars, "SECONDS", 0.01)
    bar = Bar(desc="x", total=1)
    terminal.close()
    time.sleep(0.05)
    bar.close()
