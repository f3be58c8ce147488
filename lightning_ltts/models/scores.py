"""What a LatentRM says of sampled trajectories."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Scores:
    """Scores of sampled trajectories, raw logits."""

    steps: Tensor  # (Q, N, T): r_t of every thought
    answer: Tensor | None = None  # (Q, N): read after the answer, by a LatentRM that does
    # (Q, N, A, width), by such a one: its hidden states before each token of the answer
    answer_states: Tensor | None = None
    # (Q, N): log-probability of the answer, by one that has learned to predict right answers
    answer_likelihood: Tensor | None = None

    @property
    def whole_answer(self) -> Tensor | None:
        """(Q, N): all that is said of the answer; None where it is not read."""
        if self.answer is None or self.answer_likelihood is None:
            return self.answer
        return self.answer + self.answer_likelihood

    @property
    def trajectory(self) -> Tensor:
        """(Q, N): the sum over steps (section 4 of the paper), plus the answer's if it has one."""
        total = self.steps.sum(-1)
        return total if self.whole_answer is None else total + self.whole_answer
