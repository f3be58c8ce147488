import pytest

from lightning_ltts.data.problems import Problem
from lightning_ltts.data.share import ProblemShare, place_of
from lightning_ltts.errors import ConfigError, DataError
from tests.data.test_perturbation import Given

PROBLEMS = [Problem(str(i), f"How many are {i} and 1?", (), str(i + 1)) for i in range(500)]


def test_shares_are_apart_and_are_all_of_it() -> None:
    low, high = (ProblemShare(Given(*PROBLEMS), *share).load() for share in ((0, 0.7), (0.7, 1)))
    assert {p.id for p in low} | {p.id for p in high} == {p.id for p in PROBLEMS}
    assert len(low) + len(high) == 500
    assert 320 < len(low) < 380


def test_a_problem_stays_on_its_side() -> None:
    """Whatever else is there, in whatever order, and however the question is written."""
    share = [p.id for p in ProblemShare(Given(*PROBLEMS), 0.5).load()]
    again = ProblemShare(Given(*PROBLEMS[::-1][:300]), 0.5).load()
    assert {p.id for p in again} == {name for name in share if int(name) >= 200}
    assert place_of("How many are 3 and 1?") == place_of("how  many are 3 and 1")


@pytest.mark.parametrize("share", [(0.5, 0.5), (0.6, 0.5), (-0.1, 1), (0, 1.1), (float("nan"), 1)])
def test_shares_that_are_none(share: tuple[float, float]) -> None:
    with pytest.raises(ConfigError, match="of ProblemShare must be numbers from 0 to 1"):
        ProblemShare(Given(*PROBLEMS), *share)


def test_an_empty_share() -> None:
    with pytest.raises(DataError, match="no question falls into the share"):
        ProblemShare(Given(PROBLEMS[0]), 0, 1e-12).load()
