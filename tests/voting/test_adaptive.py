import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_ltts.errors import ConfigError
from lightning_ltts.voting.adaptive import Adaptive, BetaStopping, WindowStopping, _beta_above_half
from lightning_ltts.voting.selection import Majority


def test_beta_by_hand() -> None:
    """Beta(1, 1) is uniform; Beta(5, 1) has 1 - 1/32 above one half; Beta(3, 2): (1 + 4 + 6) / 16."""
    assert _beta_above_half(1, 1) == 0.5
    assert _beta_above_half(5, 1) == pytest.approx(31 / 32)
    assert _beta_above_half(3, 2) == pytest.approx(11 / 16)


def test_beta_stops_after_four_of_a_kind() -> None:
    """1 - 2^-4 = 0.9375 after three, 1 - 2^-5 = 0.969 after four."""
    votes = torch.tensor([[0] * 12, [0, 1] * 6, [-1] * 4 + [2] * 8])
    assert Adaptive(Majority(), BetaStopping(0.95)).samples_used(votes)[[0, 2]].tolist() == [4, 8]


def test_window() -> None:
    votes = torch.tensor([[0, 1, 1, 1, 0, 0, 0, 0, 0, 0], [-1] * 10])
    assert Adaptive(Majority(), WindowStopping(3)).samples_used(votes).tolist() == [4, 10]


def test_it_ends_where_the_rest_cannot_turn_the_vote() -> None:
    """Of six: four alike, after which two are left; or four against one, after which one is."""
    votes = torch.tensor([[0, 0, 0, 0, 1, 1], [0, 1, 0, 0, 0, 2], [0, 1, 0, 1, 0, 1]])
    never = Adaptive(Majority(), WindowStopping(99))
    assert never.samples_used(votes).tolist() == [4, 5, 6]
    assert never.name == "adaptive_majority"


def test_what_was_not_drawn_does_not_vote() -> None:
    """Two alike settle it: of the first question answer 1, though most of all samples say 0."""
    votes = torch.tensor([[1, 1, 0, 0, 0, 0], [2, 0, 0, 2, 2, 2], [-1, 3, 3, 0, 0, 0]])
    rule = Adaptive(Majority(), WindowStopping(2))
    assert rule.choose(votes, torch.zeros(3, 6)).tolist() == [0, 1, 1]


@pytest.mark.slow
@given(st.lists(st.integers(-1, 3), min_size=1, max_size=12))
def test_what_cannot_be_turned_is_not_drawn(answers: list[int]) -> None:
    """Under a rule that never stops by itself, majority is unchanged."""
    votes, scores = torch.tensor([answers]), torch.zeros(1, len(answers))
    never = Adaptive(Majority(), WindowStopping(99))
    one, two = int(never.choose(votes, scores)), int(Majority().choose(votes, scores))
    assert one == two == -1 or answers[one] == answers[two]
    assert int(never.samples_used(votes)) <= len(answers)


def test_settings_that_make_no_sense() -> None:
    for confidence in (0.4, 0.5, 1, 1.5):
        with pytest.raises(ConfigError, match="confidence"):
            BetaStopping(confidence)
    with pytest.raises(ConfigError, match="window"):
        WindowStopping(1)


def test_all_settled_before_the_last_sample() -> None:
    votes = torch.zeros(2, 64, dtype=torch.long)
    assert Adaptive(Majority(), BetaStopping(0.95)).samples_used(votes).tolist() == [4, 4]
