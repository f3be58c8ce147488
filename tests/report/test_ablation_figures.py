from pathlib import Path

import pytest

from lightning_ltts.report.ablation_figures import ablation_figures
from lightning_ltts.report.page import write_html
from lightning_ltts.report.runs import Run, load_runs
from lightning_ltts.voting.adaptive import BetaStopping
from tests.report.helpers import write


def runs_of(*folders: Path) -> list[Run]:
    paths = [str(folder) for folder in folders]
    return load_runs(paths, None, "sum", "majority", BetaStopping(), None)


@pytest.mark.slow
def test_bars_by_hand(tmp_path: Path) -> None:
    """None is right with all thoughts replaced, and each with the first."""
    with_them, without = write(tmp_path / "a", replaced=True), write(tmp_path / "b")
    assert ablation_figures(runs_of(without)) == []
    ((title, about, figure),) = ablation_figures(runs_of(with_them, without))
    assert title == "a: Do the thoughts matter?"
    assert "dashed line" in about
    (bar,) = figure.data
    assert (list(bar.x), list(bar.y), bar.name) == (["all", "thought 1"], [0.0, 1.0], "zero")


@pytest.mark.slow
def test_it_stands_in_the_page(tmp_path: Path) -> None:
    write_html(runs_of(write(tmp_path / "a", replaced=True)), tmp_path / "page.html")
    assert "Do the thoughts matter?" in (tmp_path / "page.html").read_text()
