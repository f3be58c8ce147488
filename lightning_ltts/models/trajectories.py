"""Trajectories: what a reasoner thought and answered, in the one form that all rooms share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Trajectories:
    """Trajectories of a batch of Q questions, N of each.

    The greedy trajectory, which is made without noise, is one with N = 1. T is the reasoner's
    number of thoughts, d their size and A the longest answer.
    """

    thoughts: Tensor  # (Q, N, T, d): what was fed back; zeros beyond a trajectory's own
    thought_counts: Tensor  # (Q, N): thoughts of each, T where the reasoner's number is fixed
    answer_ids: Tensor  # (Q, N, A): padded with the pad id, end of sequence excluded
    clean_thoughts: Tensor | None = None  # (Q, N, T, d): before noise was added, where it is kept

    @classmethod
    def of(cls, thoughts: Tensor) -> "Trajectories":
        """Thoughts (Q, N, T, d) of which nothing else is known; A is 0."""
        questions, samples, steps = thoughts.shape[:3]
        counts = torch.full((questions, samples), steps, device=thoughts.device)
        return cls(thoughts, counts, counts.new_zeros(questions, samples, 0))

    @classmethod
    def join(cls, parts: "Sequence[Trajectories]") -> "Trajectories":
        """The questions of all parts, one after the other."""
        clean = [part.clean_thoughts for part in parts if part.clean_thoughts is not None]
        return cls(
            torch.cat([part.thoughts for part in parts]),
            torch.cat([part.thought_counts for part in parts]),
            torch.cat([part.answer_ids for part in parts]),
            torch.cat(clean) if len(clean) == len(parts) else None,
        )

    @property
    def thought_mask(self) -> Tensor:
        """(Q, N, T) float: 1 on the thoughts that a trajectory has, 0 beyond."""
        steps = torch.arange(self.thoughts.shape[2], device=self.thought_counts.device)
        return (steps < self.thought_counts[..., None]).float()

    def map(self, function: Callable[[Tensor], Tensor]) -> "Trajectories":
        """The same function applied to every tensor, all of which begin with (Q, N)."""
        clean = self.clean_thoughts
        return Trajectories(
            function(self.thoughts),
            function(self.thought_counts),
            function(self.answer_ids),
            None if clean is None else function(clean),
        )

    def questions(self, index: Tensor | slice) -> "Trajectories":
        """Some of the questions, by number (Q',), mask (Q,) or slice."""
        return self.map(lambda tensor: tensor[index])

    def flatten(self) -> "Trajectories":
        """Every trajectory as a question of its own, question-major: Q * N questions with N = 1."""
        return self.map(lambda tensor: tensor.flatten(0, 1)[:, None])

    def on_cpu(self) -> "Trajectories":
        """The same in the memory of the CPU, thoughts in single precision, as it is stored."""
        return self.map(lambda x: (x.float() if x.is_floating_point() else x).cpu())
