"""Colours of methods: the same on the page, in images and in TensorBoard.

They can be read on white and on black (tests hold their contrast).
"""

from collections.abc import Sequence

from lightning_ltts.analysis.method_names import (
    COVERAGE,
    GREEDY,
    GREEDY_MAJORITY,
    MAJORITY,
    PASS,
    TUNED_MAJORITY,
    WEIGHTED_VOTE,
)
from lightning_ltts.voting import selection

RIGHT, WRONG = "#2e9e4f", "#d64545"
NEUTRAL = "#808080"  # what is no method, and greedy decoding: the line to beat
_COLORS = {
    GREEDY: NEUTRAL,
    COVERAGE: "#a07c3b",
    PASS: "#94727e",
    MAJORITY: "#d97706",
    GREEDY_MAJORITY: "#b8860b",
    TUNED_MAJORITY: "#e2603c",
    f"adaptive_{MAJORITY}": "#b4637a",
    WEIGHTED_VOTE: "#2f7fd6",
    "best_of_n": "#8b5cf6",
    "agreeing_best_of_n": "#c44ad8",
    "beam": "#0f9488",
    "beam_vote": "#6b8e23",
}
# of the others, in their order
SPARE = (
    *("#d6589b", "#5b8def", "#a0703c", "#1a98b8", "#b0683b", "#7a6ee0", "#6f8f3f", "#c2556b"),
    *("#3f8f8f", "#9a6fb0", "#7f7f3f", "#5f83a6"),
)


def color_of(method: str, others: Sequence[str] = ()) -> str:
    """The colour of a method.

    Args:
        method: its name.
        others: names of the methods around it, which decide the colour of a tree search that is
            not known here.
    """
    if method in _COLORS:
        return _COLORS[method]
    names = [*(kind.name for kind in selection.SELECTIONS), *others, method]
    order = list(dict.fromkeys(name for name in names if name not in _COLORS))
    return SPARE[order.index(method) % len(SPARE)]
