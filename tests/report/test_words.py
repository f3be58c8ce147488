from lightning_ltts.report.words import words_of
from lightning_ltts.voting.selection import SELECTIONS, BestOfN


def test_every_selection_has_words() -> None:
    titles = [words_of(kind.name).title for kind in SELECTIONS]
    assert len(set(titles)) == len(titles)
    assert all(words_of(kind.name).about.endswith(".") for kind in SELECTIONS)
    assert words_of("agreeing_best_of_n").about.startswith("Best-of-N where the vote has a say")


def test_words_that_follow_from_others(monkeypatch) -> None:
    """Of tree searches, of a vote that stops early, and of a selection without a title."""
    assert words_of("beam_vote").title == "beam search, vote"
    assert words_of("halving").title == "halving"
    assert "what the halving ends with" in words_of("halving_vote").about
    assert "majority vote that stops drawing" in words_of("adaptive_majority").about

    class WorstOfN(BestOfN):
        """The worst one."""

        name = "worst_of_n"

    kinds = (*SELECTIONS, WorstOfN)
    monkeypatch.setattr("lightning_ltts.voting.selection.SELECTIONS", kinds)
    assert words_of("worst_of_n") == ("worst of n", "The worst one.")
