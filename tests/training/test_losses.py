import math

import pytest
import torch

from lightning_ltts.training.losses import (
    bce_loss,
    contrastive_loss,
    pairwise_loss,
    right_answer_targets,
)

# one question, two trajectories, two steps; p = softmax([ln 3, 0]) = [3/4, 1/4] at both steps
SCORES = torch.tensor([[[math.log(3.0), math.log(3.0)], [0.0, 0.0]]])


def test_contrastive_normalized() -> None:
    """Step 1, labels 1 and 1: -(ln 3/4 + ln 1/4) / 2 = 0.837. Step 2, labels 1/2 and 0: -ln 3/4 = 0.288. Mean 0.562."""
    labels = torch.tensor([[[1.0, 0.5], [1.0, 0.0]]])
    first, second = -(math.log(0.75) + math.log(0.25)) / 2, -math.log(0.75)
    assert float(contrastive_loss(SCORES, labels)) == pytest.approx((first + second) / 2)


def test_contrastive_unnormalized() -> None:
    """The same labels as they are: step 1 gives 2 x 0.837, step 2 half of 0.288."""
    labels = torch.tensor([[[1.0, 0.5], [1.0, 0.0]]])
    first, second = -(math.log(0.75) + math.log(0.25)), -0.5 * math.log(0.75)
    assert float(contrastive_loss(SCORES, labels, normalize=False)) == pytest.approx(
        (first + second) / 2
    )


def test_steps_without_a_right_completion_do_not_count() -> None:
    labels = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
    assert float(contrastive_loss(SCORES, labels)) == pytest.approx(-math.log(0.75))
    assert float(contrastive_loss(SCORES, torch.zeros(1, 2, 2))) == 0


def test_only_differences_between_trajectories_matter() -> None:
    labels = torch.rand(1, 2, 2)
    assert torch.allclose(contrastive_loss(SCORES + 5, labels), contrastive_loss(SCORES, labels))


def test_gradient_raises_the_right_trajectory() -> None:
    scores = torch.zeros(1, 3, 1, requires_grad=True)
    contrastive_loss(scores, torch.tensor([[[1.0], [0.0], [0.0]]])).backward()
    assert scores.grad.flatten().tolist() == pytest.approx([-2 / 3, 1 / 3, 1 / 3])


def test_bce() -> None:
    """sigmoid(ln 3) = 3/4, so label 1/2 costs -(ln 3/4 + ln 1/4) / 2; sigmoid(0) = 1/2 costs ln 2."""
    expected = (-(math.log(0.75) + math.log(0.25)) / 2 + math.log(2)) / 2
    assert float(bce_loss(SCORES, torch.full((1, 2, 2), 0.5))) == pytest.approx(expected)


def test_weights_count_a_trajectory_several_times() -> None:
    """Scores 0, 0, ln 2, the second counting twice: z = 1 + 2 + 2; label on the third: -ln(2/5)."""
    scores = torch.tensor([0.0, 0.0, 2.0]).clamp(min=1).log()[None, :, None]
    labels = torch.tensor([0.0, 0.0, 1.0])[None, :, None]
    weights = torch.tensor([[1.0, 2.0, 1.0]])
    assert torch.isclose(contrastive_loss(scores, labels, weights=weights), torch.tensor(2.5).log())
    # three times ln 2 (score 0) of weight 1 + 2, and once -ln sigmoid(ln 2) = ln 1.5
    expected = (3 * torch.tensor(2.0).log() + torch.tensor(1.5).log()) / 4
    assert torch.isclose(bce_loss(scores, labels, weights=weights), expected)


def test_pairwise_by_hand() -> None:
    """Labels 1, 1/2, 0 and scores 0, 0, ln 2: pairs (1, 2) ln 2, (1, 3) ln 3, (2, 3) ln 3, counting 1/2, 1, 1/2.

    A trajectory that does not have the step takes part in no pair.
    """
    scores = torch.tensor([[0.0, 0.0, 0.0]]).T[None].clone()
    scores[0, 2, 0] = torch.tensor(2.0).log()
    labels = torch.tensor([1.0, 0.5, 0.0])[None, :, None]
    ln2, ln3 = torch.tensor(2.0).log(), torch.tensor(3.0).log()
    assert torch.isclose(pairwise_loss(scores, labels), (ln2 / 2 + ln3 + ln3 / 2) / 2)
    mask = torch.tensor([1.0, 1.0, 0.0])[None, :, None]
    assert torch.isclose(pairwise_loss(scores, labels, mask), ln2)


def test_thoughts_that_a_trajectory_lacks_do_not_count() -> None:
    """Of three trajectories the third lacks the step, though its score is high and its label 1.

    Contrastive, labels 1 and 1/2: weights 2/3 and 1/3 on p = 3/4 and 1/4. BCE: sigmoid(ln 3) = 3/4
    costs -ln 3/4, and sigmoid(0) = 1/2 costs ln 2 with any label.
    """
    scores = torch.tensor([math.log(3.0), 0.0, 50.0])[None, :, None]
    labels = torch.tensor([1.0, 0.5, 1.0])[None, :, None]
    mask = torch.tensor([1.0, 1.0, 0.0])[None, :, None]
    first, second = -math.log(0.75), -math.log(0.25)
    assert float(contrastive_loss(scores, labels, mask=mask)) == pytest.approx(
        (2 * first + second) / 3
    )
    assert float(contrastive_loss(scores, labels, False, mask)) == pytest.approx(first + second / 2)
    assert float(bce_loss(scores, labels, mask)) == pytest.approx((first + math.log(2)) / 2)


def test_a_score_that_is_no_number_where_there_is_no_thought_does_no_harm() -> None:
    scores = torch.tensor([math.log(3.0), 0.0, torch.inf])[None, :, None]
    labels = torch.tensor([1.0, 0.0, 0.0])[None, :, None]
    mask = torch.tensor([1.0, 1.0, 0.0])[None, :, None]
    assert float(contrastive_loss(scores, labels, mask=mask)) == pytest.approx(-math.log(0.75))


@pytest.mark.parametrize("loss", [bce_loss, pairwise_loss])
def test_weights_say_how_often_and_not_how_much(loss) -> None:
    """With all weights a hundredth, a mean is what it was, though their sum is far below 1."""
    labels = torch.tensor([[[1.0, 0.5], [0.25, 0.0]]])
    assert torch.isclose(
        loss(SCORES, labels, weights=torch.full((1, 2), 0.01)), loss(SCORES, labels)
    )


@pytest.mark.parametrize("normalize", [True, False])
def test_questions_of_a_batch_are_apart(normalize: bool) -> None:
    """Two questions of three trajectories, one of which has no second step: three steps in all."""
    first = torch.tensor([[math.log(3.0), 0.0, 0.0], [0.0, math.log(3.0), 0.0]]).T
    scores = torch.stack([first, first.flip(0)])
    labels = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]] * 2)
    mask = torch.ones(2, 3, 2)
    mask[1, :, 1] = 0
    # p of the right one: 3/5 at both steps of the first question, 1/5 at the other's first step
    expected = (-2 * math.log(3 / 5) - math.log(1 / 5)) / 3
    assert float(contrastive_loss(scores, labels, normalize, mask)) == pytest.approx(expected)


def test_nothing_counts_as_nothing() -> None:
    """Where no trajectory has a thought, a loss is 0 and no division by 0."""
    none = torch.zeros(1, 2, 2)
    for loss in (contrastive_loss, bce_loss, pairwise_loss):
        assert float(loss(SCORES, none + 0.5, mask=none)) == 0
    assert float(contrastive_loss(SCORES, none + 0.5, False, none)) == 0


def test_the_unnormalised_form_is_a_mean_over_all_steps() -> None:
    """Its second step has no right completion and gives 0; only one that no trajectory has is left out."""
    scores = torch.cat([SCORES, SCORES[..., :1]], dim=-1)
    labels = torch.tensor([[[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]]])
    mask = torch.tensor([[[1.0, 1.0, 0.0], [1.0, 1.0, 0.0]]])
    assert float(contrastive_loss(scores, labels, False, mask)) == pytest.approx(
        -math.log(0.75) / 2
    )


def test_the_right_answer_is_asked_for_up_to_the_first_wrong_token() -> None:
    """Question 1: sample 2 is right with "5 6 7"; sample 1, "5 8", is asked for 5 and for 6, not for 7.

    Question 2 has no right sample, so nothing of it counts. Question 3 has the right answer "4": a
    longer wrong one, "4 9", is asked for 4, and not for what comes after the right answer's end.
    """
    answers = torch.tensor(
        [[[5, 8, 0], [5, 6, 7]], [[1, 2, 0], [3, 0, 0]], [[4, 9, 0], [4, 0, 0]]],
        dtype=torch.int32,
    )
    correct = torch.tensor([[0.0, 1.0], [0.0, 0.0], [0.0, 1.0]])
    targets, counted = right_answer_targets(answers, correct, pad_id=0)
    assert targets[0].tolist() == [[5, 6, 7], [5, 6, 7]]
    assert targets[2].tolist() == [[4, 0, 0], [4, 0, 0]]
    assert counted.tolist() == [
        [[True, True, False], [True, True, True]],
        [[False] * 3, [False] * 3],
        [[True, False, False], [True, False, False]],
    ]
