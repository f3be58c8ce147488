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

    @property
    def trajectory(self) -> Tensor:
        """(Q, N): the sum over steps (section 4 of the paper), plus the answer's if it has one."""
        total = self.steps.sum(-1)
        return total if self.answer is None else total + self.answer
