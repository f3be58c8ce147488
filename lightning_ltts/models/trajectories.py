"""Trajectories: what a reasoner thought and answered, in the one form that all rooms share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True)
class Answers:
    """Decoded answers of R rows, and how sure the reasoner was of them."""

    ids: Tensor  # (R, A): padded with the pad id, end of sequence excluded
    log_probs: Tensor  # (R,): of all its tokens together, end of sequence included
    # (R,): mean over its tokens of the divergence from a uniform choice among all tokens to the
    # reasoner's distribution, in nats (Kang et al. 2025, arXiv 2502.18581, equation 9)
    self_certainty: Tensor


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
    # (Q, N): see `Answers`; kept where trajectories come from the engine, not in stores
    log_probs: Tensor | None = None
    self_certainty: Tensor | None = None

    @classmethod
    def of(cls, thoughts: Tensor) -> "Trajectories":
        """Thoughts (Q, N, T, d) of which nothing else is known; A is 0."""
        questions, samples, steps = thoughts.shape[:3]
        counts = torch.full((questions, samples), steps, device=thoughts.device)
        return cls(thoughts, counts, counts.new_zeros(questions, samples, 0))

    @classmethod
    def join(cls, parts: "Sequence[Trajectories]") -> "Trajectories":
        """The questions of all parts, one after the other."""

        def joined(name: str) -> Tensor | None:
            tensors = [getattr(part, name) for part in parts]
            return None if any(tensor is None for tensor in tensors) else torch.cat(tensors)

        return cls(**{part.name: joined(part.name) for part in fields(cls)})  # type: ignore[arg-type]

    @property
    def thought_mask(self) -> Tensor:
        """(Q, N, T) float: 1 on the thoughts that a trajectory has, 0 beyond."""
        steps = torch.arange(self.thoughts.shape[2], device=self.thought_counts.device)
        return (steps < self.thought_counts[..., None]).float()

    def map(self, function: Callable[[Tensor], Tensor]) -> "Trajectories":
        """The same function applied to every tensor, all of which begin with (Q, N)."""
        tensors = {part.name: getattr(self, part.name) for part in fields(Trajectories)}
        changed = {name: None if x is None else function(x) for name, x in tensors.items()}
        return Trajectories(**changed)  # type: ignore[arg-type]  # None only where it may be

    def questions(self, index: Tensor | slice) -> "Trajectories":
        """Some of the questions, by number (Q',), mask (Q,) or slice."""
        return self.map(lambda tensor: tensor[index])

    def flatten(self) -> "Trajectories":
        """Every trajectory as a question of its own, question-major: Q * N questions with N = 1."""
        return self.map(lambda tensor: tensor.flatten(0, 1)[:, None])

    def on_cpu(self) -> "Trajectories":
        """The same in the memory of the CPU, thoughts in single precision, as it is stored."""
        return self.map(lambda x: (x.float() if x.is_floating_point() else x).cpu())
