"""Colours can be read on both pages, and are one method's alone."""

import pytest

from lightning_ltts.report.colors import _COLORS, NEUTRAL, RIGHT, SPARE, WRONG, color_of
from lightning_ltts.voting.selection import SELECTIONS


def luminance(color: str) -> float:
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
    return sum(w * x for w, x in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("color", sorted({*_COLORS.values(), *SPARE, RIGHT, WRONG, NEUTRAL}))
def test_contrast_with_both_pages(color: str) -> None:
    """WCAG asks for 3 of what is drawn; the pages are those of report.css."""
    assert contrast(color, "#ffffff") >= 3
    assert contrast(color, "#15181d") >= 3


def test_one_colour_for_one_method() -> None:
    names = [*_COLORS, *(kind.name for kind in SELECTIONS if kind.name not in _COLORS)]
    names += ["halving", "halving_vote"]
    assert len({color_of(name, names) for name in names}) == len(names)
    assert color_of("majority") == color_of("majority", ["halving"])
