"""`ltts report --png`: every figure as an image."""

import errno
import os
import re
from collections.abc import Sequence
from pathlib import Path

import plotly.graph_objects as go

from lightning_ltts.errors import ConfigError
from lightning_ltts.report.figures import figures_by_tab
from lightning_ltts.report.runs import Run


def write_png(runs: Sequence[Run], folder: Path) -> list[Path]:
    """Every figure as an image.

    Raises:
        ConfigError: kaleido, which draws them, or the browser that it needs is not there.
        OSError: the folder cannot be written.
    """
    made = [titled for figures in figures_by_tab(runs).values() for titled in figures]
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    images = [_image(figure) for _, _, figure in made]  # nothing is written where this fails
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for (title, *_), image in zip(made, images, strict=True):
        name = re.sub(r"\W+", "_", title.lower()).strip("_")
        paths.append(folder / f"{name}.png")
        paths[-1].write_bytes(image)
    return paths


def _image(figure: go.Figure) -> bytes:
    """A figure as PNG, with the curves that the page draws at first."""
    drawn = [trace for trace in figure.data if trace.visible != "legendonly"]
    figure = go.Figure(drawn, figure.layout)
    try:
        image: bytes = figure.to_image("png", width=900, height=540, scale=2)
        return image
    except (
        ValueError,
        ImportError,
        RuntimeError,
    ) as error:  # by the versions of plotly and kaleido
        said = str(error).lower()
        if "chrome" in said:
            raise ConfigError(
                "--png needs Chrome or Chromium, which kaleido draws with; install it from your system's packages"
            ) from error
        if "kaleido" in said:
            raise ConfigError(
                "--png needs the package kaleido; install it with pip install 'lightning-ltts[png]'"
            ) from error
        raise
