"""Calling the command line."""

import sys

import pytest

from lightning_ltts import cli


def ltts(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Exit code of `ltts ARGUMENTS` in this process."""
    monkeypatch.setattr(sys, "argv", ["ltts", *arguments])
    try:
        cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0
