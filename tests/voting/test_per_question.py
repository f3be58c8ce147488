from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_ltts.voting import adaptive, bootstrap, estimates
from lightning_ltts.voting.adaptive import Adaptive, WindowStopping
from lightning_ltts.voting.bootstrap import bootstrap_interval, crossed_interval, interval_of
from lightning_ltts.voting.estimates import accuracy_of_blocks
from lightning_ltts.voting.per_question import PassAtK, SelectedAccuracy
from lightning_ltts.voting.selection import BestOfN, Majority


@pytest.mark.slow
@given(st.lists(st.booleans(), min_size=1, max_size=8), st.data())
def test_pass_at_k_is_the_mean_over_all_subsets(correct: list[bool], data) -> None:
    k = data.draw(st.integers(1, len(correct)))
    metric = PassAtK(k)
    metric.update(torch.tensor([correct]).float())
    subsets = list(combinations(correct, k))
    assert float(metric.compute()) == pytest.approx(sum(map(any, subsets)) / len(subsets))


def test_pass_at_k_over_batches() -> None:
    """c = 1, 0, 4 of n = 4 and k = 2: 1 - C(3,2)/C(4,2) = 0.5, then 0, then 1."""
    metric = PassAtK(2)
    metric.update(torch.tensor([[1.0, 0, 0, 0]]))
    metric.update(torch.tensor([[0.0, 0, 0, 0], [1, 1, 1, 1]]))
    assert metric.per_question().tolist() == [0.5, 0.0, 1.0]
    assert float(metric.compute()) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="pass@5"):
        PassAtK(5).update(torch.zeros(1, 4))


def test_selected_accuracy_over_blocks() -> None:
    """N = 2 of a pool of 4: blocks (0, 1) and (2, 3), each decided by itself."""
    votes = torch.tensor([[0, 1, 1, 1], [-1, -1, 0, -1]])
    correct = torch.tensor([[1.0, 0, 0, 0], [0, 0, 1, 0]])
    metric = SelectedAccuracy(Majority(), 2)
    metric.update(votes, correct, torch.zeros(2, 4))
    assert metric.per_question().tolist() == [0.5, 0.5]
    best = SelectedAccuracy(BestOfN())
    best.update(votes, correct, torch.tensor([[3.0, 2, 1, 0], [9, 9, 1, 9]]))
    assert best.per_question().tolist() == [1.0, 1.0]
    with pytest.raises(ValueError, match="N = 8"):
        SelectedAccuracy(Majority(), 8).update(votes, correct, torch.zeros(2, 4))


def test_columns_that_are_part_of_every_block() -> None:
    """N = 1 of two samples, each beside the fixed third, whose score is between theirs."""
    votes, correct = torch.tensor([[0, 1, 2]]), torch.tensor([[0.0, 1, 0]])
    metric = SelectedAccuracy(BestOfN(), 1, fixed=1)
    metric.update(votes, correct, torch.tensor([[1.0, 3, 2]]))
    assert metric.per_question().tolist() == [0.5]  # the fixed one is wrong, the second right
    with pytest.raises(ValueError, match="N = 3 needs at least 3 samples per question, got 2"):
        SelectedAccuracy(BestOfN(), 3, fixed=1).update(votes, correct, torch.zeros(1, 3))


def test_before_any_question() -> None:
    assert PassAtK(1).per_question().tolist() == []


def test_intervals_of_another_level() -> None:
    """Half of a normal distribution lies within 0.674 deviations."""
    values = torch.cat([torch.ones(700), torch.zeros(300)]).double()
    deviation = (0.7 * 0.3 / 1000) ** 0.5
    for low, high in (bootstrap_interval(values, 0.5), crossed_interval(values[None], 0.5)):
        assert high - low == pytest.approx(2 * 0.674 * deviation, rel=0.15)
        assert (high + low) / 2 == pytest.approx(0.7, abs=0.003)


def test_no_answer_is_wrong() -> None:
    metric = SelectedAccuracy(Majority())
    metric.update(torch.full((1, 3), -1), torch.ones(1, 3), torch.zeros(1, 3))
    assert float(metric.compute()) == 0


def test_interval_is_seeded_and_has_the_binomial_width() -> None:
    values = torch.cat([torch.ones(700), torch.zeros(300)]).double()
    low, high = bootstrap_interval(values)
    assert (low, high) == bootstrap_interval(values)
    assert low < 0.7 < high
    assert high - low == pytest.approx(2 * 1.96 * (0.7 * 0.3 / 1000) ** 0.5, rel=0.1)


def test_interval_does_not_change_with_how_much_is_drawn_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    columns = torch.rand(90, 2, generator=torch.Generator().manual_seed(0))
    whole = interval_of(columns, lambda means: means[:, 0] / means[:, 1])
    monkeypatch.setattr(bootstrap, "_AT_ONCE", 700)  # three resamples and some more
    assert interval_of(columns, lambda means: means[:, 0] / means[:, 1]) == whole


def test_choices_do_not_change_with_how_many_are_made_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    generator = torch.Generator().manual_seed(0)
    votes = torch.randint(3, (11, 8), generator=generator)
    correct, scores = (votes == 0).float(), torch.rand(11, 8, generator=generator)
    stopping = Adaptive(Majority(), WindowStopping(3))
    used = stopping.samples_used(votes)
    for selection in (Majority(), BestOfN(), stopping):
        for read in (scores, lambda samples: scores[:, samples]):
            whole = accuracy_of_blocks(selection, votes, correct, read, 4)
            assert 0 < whole.mean() < 1
            monkeypatch.setattr(estimates, "_AT_ONCE", 3)
            monkeypatch.setattr(adaptive, "_AT_ONCE", 3)
            assert accuracy_of_blocks(selection, votes, correct, read, 4).equal(whole)
            assert stopping.samples_used(votes).equal(used)
            monkeypatch.undo()


@pytest.mark.slow
def test_shuffles_estimate_the_same() -> None:
    """Best of 2 of 4 samples with scores 1..4, the second best right: it is chosen of 2 of the 6 pairs."""
    votes, correct = torch.tensor([[0, 1, 2, 3]]), torch.tensor([[0.0, 0, 1, 0]])
    metric = SelectedAccuracy(BestOfN(), 2, shuffles=3000)
    metric.update(votes, correct, torch.tensor([[1.0, 2, 3, 4]]))
    assert float(metric.compute()) == pytest.approx(1 / 3, abs=0.02)


@pytest.mark.slow
def test_interval_over_trainings_and_questions() -> None:
    """Trainings that agree add nothing to the interval over questions; such as differ widen it."""
    values = (torch.arange(200) % 4 == 0).double()
    alike = crossed_interval(values.expand(3, -1))
    assert alike == pytest.approx(bootstrap_interval(values), abs=0.02)
    low, high = crossed_interval(torch.stack([values - 0.2, values, values + 0.2]))
    assert high - low > 2 * (alike[1] - alike[0])
    assert low < 0.25 < high
    # of no noise at all between questions, what is left is that between trainings
    assert crossed_interval(torch.tensor([[0.0], [1.0]]).expand(2, 9)) == (0.0, 1.0)


def test_resampling_by_counts_has_the_same_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many questions with few different values; also of several columns together."""
    values = (torch.arange(400) % 7 == 0).double() - (torch.arange(400) % 5 == 0).double()
    columns = torch.stack([values, values.abs()], 1)

    def intervals() -> list[tuple[float, float]]:
        ratio = interval_of(columns, lambda means: means[:, 0] / means[:, 1])
        return [bootstrap_interval(values), ratio]

    by_question = intervals()
    monkeypatch.setattr(bootstrap, "MANY", 100)
    by_counts = intervals()
    assert by_counts != by_question
    assert by_counts == intervals()
    for one, other in zip(by_counts, by_question, strict=True):
        assert one == pytest.approx(other, abs=0.03)
