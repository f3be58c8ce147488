"""What a selection can read of a sample beside its answer."""

from enum import StrEnum


class Signal(StrEnum):
    """A number of each sample, higher where it speaks for the sample.

    The values are the names of the numbers in rows of predictions; the score is not stored as one
    number there, but as the scores of all steps.
    """

    SCORE = "score"  # of the trajectory, by the LatentRM
    LOG_PROB = "log_prob"  # of the answer, by the reasoner
    SELF_CERTAINTY = "self_certainty"  # of the answer, by the reasoner
    NEARNESS = "nearness"  # minus the mean distance from the greedy trajectory's thoughts


# how step scores make a trajectory's score: the keys of `scoring.RULES`, for those who need no more
RULE_NAMES = ("sum", "mean", "last", "min", "product", "standardized")
