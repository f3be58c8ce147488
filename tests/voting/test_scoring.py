import pytest
import torch

from lightning_ltts.voting.scoring import RULES
from lightning_ltts.voting.signals import RULE_NAMES

# two samples of one question; the second has two of three steps
SCORES = torch.tensor([[[1.0, -2.0, 4.0], [3.0, 2.0, 99.0]]])
MASK = torch.tensor([[[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]]])


@pytest.mark.parametrize(
    ("rule", "expected"),
    [("sum", [3.0, 5.0]), ("mean", [1.0, 2.5]), ("last", [4.0, 2.0]), ("min", [-2.0, 2.0])],
)
def test_by_hand(rule: str, expected: list[float]) -> None:
    assert RULES[rule](SCORES, MASK)[0].tolist() == expected


def test_of_a_single_step() -> None:
    """Its score is that of the step by every rule that does not compare samples."""
    one = torch.tensor([[[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]])
    for rule in ("sum", "mean", "last", "min"):
        assert RULES[rule](SCORES, one).tolist() == [[1.0, 3.0]]


def test_product_is_of_probabilities() -> None:
    expected = [
        torch.sigmoid(SCORES[0, 0]).prod().log(),
        torch.sigmoid(SCORES[0, 1, :2]).prod().log(),
    ]
    assert torch.allclose(RULES["product"](SCORES, MASK)[0], torch.stack(expected))


def test_standardized() -> None:
    """Steps 1 and 2 become -1, 1 for two samples (1 < 3, -2 < 2); step 3, which one has, becomes 0."""
    assert RULES["standardized"](SCORES, MASK)[0].tolist() == pytest.approx([-2.0, 2.0])


@pytest.mark.parametrize("rule", list(RULES))
def test_without_steps(rule: str) -> None:
    assert RULES[rule](SCORES, torch.zeros_like(MASK)).tolist() == [[0.0, 0.0]]


def test_names_of_the_rules() -> None:
    """They stand a second time where nothing that computes is imported."""
    assert tuple(RULES) == RULE_NAMES
