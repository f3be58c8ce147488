from pathlib import Path

import pytest

from lightning_ltts.analysis.summary import summarize
from lightning_ltts.report.colors import color_of
from lightning_ltts.report.picture import scaling_figure, write_svg
from tests.analysis.test_summary import ROWS


def test_lines_by_hand() -> None:
    """Coverage, majority and the scored selections over N = 1, 2, 4, and greedy as a level of 1/3."""
    (axes,) = scaling_figure(summarize(ROWS), intervals=True).axes
    lines = {line.get_label(): line for line in axes.lines}
    assert list(lines["majority vote"].get_xdata()) == [1, 2, 4]
    assert lines["majority vote"].get_color() == color_of("majority")  # as on the page
    assert lines["coverage (oracle)"].get_ydata()[-1] == 2 / 3
    assert set(lines["greedy 33.3%"].get_ydata()) == {1 / 3}
    shaded = [name for name in lines if name not in ("greedy 33.3%", "coverage (oracle)")]
    assert len(axes.collections) == len(shaded)


@pytest.mark.slow
def test_the_same_predictions_give_the_same_file(tmp_path: Path) -> None:
    write_svg(summarize(ROWS), tmp_path / "new/a.svg")
    write_svg(summarize(ROWS), tmp_path / "b.svg")
    picture = (tmp_path / "new/a.svg").read_bytes()
    assert picture == (tmp_path / "b.svg").read_bytes()
    assert len(picture) < 60_000
    assert b"majority" in picture
