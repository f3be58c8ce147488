"""Crash tests take minutes: they run where `-m crash` asks for them."""

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "crash" in (config.option.markexpr or "") and "not crash" not in config.option.markexpr:
        return
    skip = pytest.mark.skip(reason="crash tests take minutes; give -m crash")
    for item in items:
        if item.get_closest_marker("crash"):
            item.add_marker(skip)
