"""The thoughts of rows, written down while they are made."""

import torch
from torch import Tensor

from lightning_ltts.models.trajectories import Answers, Trajectories


class ThoughtRecord:
    """Thoughts of R rows, T at most of each, from which their trajectories are made in the end.

    Rows are named by CPU tensors, so that none of this waits for the device.

    Args:
        rows: R.
        steps: T.
        like: a tensor (..., d) whose dtype and device the thoughts have.
    """

    def __init__(self, rows: int, steps: int, like: Tensor):
        self.thoughts = like.new_zeros(rows, steps, like.shape[-1])  # (R, T, d)
        self.clean_thoughts = torch.zeros_like(self.thoughts)  # (R, T, d): before noise
        self.counts = torch.full((rows,), steps)  # (R,), on the CPU

    def add(self, rows: Tensor, step: int, thoughts: Tensor, clean: Tensor | None) -> None:
        """Thoughts of some rows (R',), as fed back and before noise (R', d).

        `step` is their number in the trajectory, from 0.
        """
        assert clean is not None, "rows that have made a thought know it as it was before noise"
        index = rows.to(self.thoughts.device, non_blocking=True)
        self.thoughts[index, step] = thoughts.to(self.thoughts.dtype)
        self.clean_thoughts[index, step] = clean.to(self.thoughts.dtype)

    def end(self, rows: Tensor, count: int) -> None:
        """Some rows (R',) ended their thinking by themselves, after `count` thoughts."""
        self.counts[rows] = count

    def trajectories(self, answers: Answers, shape: tuple[int, int]) -> Trajectories:
        """The R rows with their answers, question-major, as trajectories of shape (Q, N)."""
        counts = self.counts.to(self.thoughts.device)
        own = (self.thoughts, counts, answers.ids, self.clean_thoughts)
        made = (*own, answers.log_probs, answers.self_certainty)
        return Trajectories(*(tensor.unflatten(0, shape) for tensor in made))
