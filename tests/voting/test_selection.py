from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_ltts.errors import ConfigError
from lightning_ltts.voting.selection import (
    AgreeingBestOfN,
    BestOfN,
    Majority,
    Selection,
    WeightedVote,
)

# answers of six samples: 7 7 3 none 3 9
VOTES = torch.tensor([[0, 0, 1, -1, 1, 2]])


def choose(selection: Selection, scores: list[float]) -> int:
    return int(selection.choose(VOTES, torch.tensor([scores])))


def test_majority_ties_go_to_the_earliest() -> None:
    assert choose(Majority(), [0, 0, 0, 0, 0, 0]) == 0
    assert int(Majority().choose(torch.tensor([[2, 0, 1, 1]]), torch.zeros(1, 4))) == 2


def test_weighted_vote() -> None:
    """With T = 1, answer 3 weighs e^1 + e^0 = 3.72, answer 7 weighs 2, answer 9 weighs e^1.2 = 3.32."""
    scores = [0.0, 0.0, 1.0, 9.0, 0.0, 1.2]
    assert choose(WeightedVote(1.0), scores) == 2
    assert choose(WeightedVote(0.1), scores) == 5  # towards best-of-N
    assert choose(WeightedVote(100.0), [0, 0, 0.1, 0, 0, 0.5]) == 2  # towards majority


def test_what_a_temperature_is_fitted_from() -> None:
    """From 1/4 to 16, each the root of 2 times the one before."""
    grid = WeightedVote.candidates
    assert (grid[0], grid[4], grid[-1]) == (0.25, 1.0, 16.0)
    assert all(b / a == pytest.approx(2**0.5) for a, b in pairwise(grid))


def test_best_of_n_skips_samples_without_an_answer() -> None:
    assert choose(BestOfN(), [0, 1, 2, 9, 0, 1]) == 2


def test_agreement() -> None:
    """Answers 7 and 3 have two of six votes, 9 one: with weight 1 a score of 9's sample must lead by ln 2."""
    scores = [0.0, 0.0, 0.0, 9.0, 0.0, 0.6]
    assert choose(AgreeingBestOfN(0.0), scores) == choose(BestOfN(), scores) == 5
    assert choose(AgreeingBestOfN(1.0), scores) == 0
    assert choose(AgreeingBestOfN(1.0), [0, 0, 0, 9, 0, 0.7]) == 5
    with pytest.raises(ConfigError, match="weight=-1"):
        AgreeingBestOfN(-1)


@pytest.mark.parametrize(
    "selection", [Majority(), WeightedVote(), BestOfN(), AgreeingBestOfN(1.0)], ids=lambda s: s.name
)
def test_no_answer_never_votes(selection: Selection) -> None:
    """In the published code unparsed answers vote as one block, and can win."""
    votes = torch.tensor([[-1, -1, -1, 0], [-1, -1, -1, -1]])
    assert selection.choose(votes, torch.tensor([[5.0, 5, 5, 0], [1, 2, 3, 4]])).tolist() == [3, -1]


pools = st.integers(1, 12).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(-1, 4), min_size=n, max_size=n),
        st.lists(st.floats(-30, 30), min_size=n, max_size=n),
    )
)


@pytest.mark.slow
@given(pools)
def test_limits_of_the_weighted_vote(pool: tuple[list[int], list[float]]) -> None:
    votes, scores = torch.tensor([pool[0]]), torch.tensor([pool[1]])
    equal = WeightedVote().choose(votes, torch.zeros_like(scores))
    assert equal.tolist() == Majority().choose(votes, scores).tolist()
    chosen = int(WeightedVote().choose(votes, scores))
    assert (chosen == -1) == (max(pool[0]) == -1)
    assert chosen == -1 or pool[0][chosen] >= 0


@pytest.mark.slow
@given(pools, st.floats(-50, 50))
def test_only_differences_of_scores_matter(
    pool: tuple[list[int], list[float]], shift: float
) -> None:
    votes, scores = torch.tensor([pool[0]]), torch.tensor([pool[1]], dtype=torch.float64)
    weights = torch.bincount(votes[votes >= 0], minlength=5)
    if len(weights[weights > 0]) > 1 and len(set(pool[1])) < len(pool[1]):
        return  # exact ties may turn on rounding
    assert BestOfN().choose(votes, scores).shape == (1,)
    vote = [WeightedVote().choose(votes, s) for s in (scores, scores + shift)]
    assert votes[0, vote[0]].tolist() == votes[0, vote[1]].tolist()


def test_a_rule_that_does_not_choose_is_none() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Selection()  # type: ignore[abstract]


def test_temperature_must_be_positive() -> None:
    with pytest.raises(ConfigError, match="temperature=0"):
        WeightedVote(0)
