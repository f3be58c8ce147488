"""What a tree search is: one class, whose settings come from the object itself."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from lightning_ltts.engine.rollout import RolloutEngine
from lightning_ltts.engine.walk import Branches
from lightning_ltts.files import settings_of
from lightning_ltts.models.latent_rm import LatentRM
from lightning_ltts.models.rm_state import RMState
from lightning_ltts.models.scores import Scores
from lightning_ltts.models.trajectories import Trajectories


@dataclass(frozen=True)
class Pruning:
    """What one step of a search chose from, and what it kept."""

    answer_ids: Tensor  # (Q, candidates, A), padded: where each candidate leads without more noise
    kept: Tensor  # (Q, B), indices of candidates


@dataclass(frozen=True)
class SearchResult:
    """The B trajectories of every question that a search ended with, best first."""

    answer_ids: Tensor  # (Q, B, A), padded
    scores: Scores  # of the surviving trajectories
    trace: tuple[Pruning, ...] = ()  # one per step, where it was asked for


class Search(ABC):
    """A search that walks the tree of prefixes, steered by a LatentRM.

    Every option of the constructor is kept as an attribute of the same name.
    """

    name: str  # of its part of the predictions, costs, timings, and of its line in every table

    @property
    @abstractmethod
    def budget(self) -> int:
        """Trajectories of one question that are held at once."""

    def settings(self) -> dict[str, Any]:
        """Class name and every option that can change a prediction, as plain values.

        A run goes on only with predictions that were made with the same ones.
        """
        return settings_of(self)

    @abstractmethod
    def search(
        self,
        engine: RolloutEngine,
        latent_rm: LatentRM,
        input_ids: Tensor,
        attention_mask: Tensor,
        keys: Tensor,
        reference: Trajectories | None = None,
        branches: Branches | None = None,
        prompt_state: RMState | None = None,
    ) -> SearchResult:
        """Searches for a batch of questions.

        Args:
            engine: reasoner and sampler.
            latent_rm: what scores the candidates.
            input_ids: (Q, L) prompts, left padded, start token included.
            attention_mask: (Q, L).
            keys: (Q,) int64 names of the questions; the randomness depends on them, and on nothing
                else of the batch.
            reference: the greedy trajectories (N = 1), for a LatentRM that compares with them.
            branches: what `engine.start` has made of these prompts, where they have been read
                already; they are used up.
            prompt_state: likewise what `latent_rm.start` has made of them and their reference; it
                can be used again.
        """
