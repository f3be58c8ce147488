"""The pictures of the docs are taken of the page and of TensorBoard as they are."""

from pathlib import Path

import matplotlib.image
import pictures
import pytest

from lightning_ltts.monitoring.run_logger import RunLogger
from tests.report.helpers import write

pytestmark = [pytest.mark.processes, pytest.mark.browser]


def test_the_page_on_two_screens(tmp_path: Path) -> None:
    pictures.report(write(tmp_path / "run", questions=12), tmp_path)
    for width, height in pictures.WIDTHS.items():
        image = matplotlib.image.imread(tmp_path / f"report_{width}.png")
        assert image.shape[:2] == (height, width)
        assert image.std() > 0.05  # there is something on it


def test_a_board(tmp_path: Path) -> None:
    logger = RunLogger(str(tmp_path / "logs"))
    for step in range(5):
        logger.log_metrics({"train/loss": 1 / (step + 1)}, step)
    logger.finalize("success")
    pictures.tensorboard(tmp_path / "logs", tmp_path)
    image = matplotlib.image.imread(tmp_path / "tensorboard.png")
    assert image.shape[:2] == (900, 1400)
    assert image.std() > 0.05
