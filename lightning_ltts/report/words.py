"""Methods in words: what they are called on a page and in pictures, and what they do."""

import inspect
from typing import NamedTuple

from lightning_ltts.analysis.method_names import (
    ADAPTIVE,
    COVERAGE,
    GREEDY,
    GREEDY_MAJORITY,
    PASS,
    SEARCH_VOTE,
    TUNED_MAJORITY,
)
from lightning_ltts.voting import selection


class Words(NamedTuple):
    """A method for readers."""

    title: str
    about: str  # one or two sentences


_WORDS = {
    GREEDY: Words(
        "greedy", "Greedy decoding: the one trajectory without noise. What no extra compute gives."
    ),
    PASS: Words("one sample", "A single sample, on average (pass@1): sampling without choosing."),
    COVERAGE: Words(
        "coverage (oracle)",
        "The share of problems with a right answer among N samples (pass@N): what a perfect "
        "selection would reach.",
    ),
    GREEDY_MAJORITY: Words(
        "majority with greedy",
        "The majority vote where the greedy answer counts as several samples.",
    ),
    TUNED_MAJORITY: Words(
        "tuned majority",
        "The majority vote among samples of the strength that was best for it on validation "
        "problems.",
    ),
    "beam": Words(
        "beam search",
        "The LatentRM scores thoughts as they are made, and only the best beams go on; the answer "
        "of the best trajectory at the end.",
    ),
}


def words_of(method: str) -> Words:
    """The words for a method's name; a method that is not known here is a tree search."""
    if method in _WORDS:
        return _WORDS[method]
    for kind in selection.SELECTIONS:
        if kind.name == method:
            first = (inspect.getdoc(kind) or "").split("\n\n")[0]
            own = vars(kind).get("title", "")  # not that of the selection it is made from
            return Words(own or _spaced(method), " ".join(first.split()))
    if method.startswith(ADAPTIVE):
        return Words(
            _spaced(method),
            f"The {words_of(method.removeprefix(ADAPTIVE)).title} that stops drawing samples once "
            "it is settled.",
        )
    if method.endswith(SEARCH_VOTE):
        search = words_of(method.removesuffix(SEARCH_VOTE)).title
        return Words(f"{search}, vote", f"The weighted vote among what the {search} ends with.")
    return Words(_spaced(method), "A tree search: the best trajectory that it ends with.")


def _spaced(name: str) -> str:
    return name.replace("_", " ")
