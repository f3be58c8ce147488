"""Loads what tests share, and skips the tests that need what this machine lacks."""

import shutil

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """A process that only shares tests out among others is spared the ten seconds of the libraries.

    Not where coverage is asked for: what runs while modules are imported is counted there alone.
    """
    shares_out = config.getoption("numprocesses", 0) and not hasattr(config, "workerinput")
    if not shares_out or config.getoption("cov_source", None):
        config.pluginmanager.import_plugin("tests.tiny")


def browser_path() -> str | None:
    """Chromium or Chrome, where one is installed."""
    return next(
        filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser"))), None
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips the tests that need what this machine lacks."""
    import torch  # not by a process that only shares tests out

    missing = {}
    if not torch.cuda.is_available():
        missing["gpu"] = "no GPU to be compared with the CPU"
    if not browser_path():
        missing["browser"] = "no Chromium or Chrome is installed"
    for item in items:
        for name, reason in missing.items():
            if item.get_closest_marker(name):
                item.add_marker(pytest.mark.skip(reason=reason))
