"""The problems that are not predicted yet."""

from collections.abc import Iterable
from typing import Any

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader, DistributedSampler

from lightning_ltts.data.problems import Problem, ProblemSource
from lightning_ltts.errors import ConfigError


class PredictionData(pl.LightningDataModule):
    """Serves the problems that are not predicted yet, one by one.

    Each device has its share, without repeats.

    Args:
        problems: what to predict.
    """

    def __init__(self, problems: ProblemSource):
        super().__init__()
        self.source = problems
        self.problems: list[Problem] = []
        self._finished: frozenset[str] = frozenset()
        self.allow_zero_length_dataloader_with_multiple_devices = True

    def setup(self, stage: str) -> None:
        """Loads the problems, all of which are to be predicted until `leave_out` says otherwise.

        Raises:
            ConfigError: two problems have one id.
        """
        self.problems, self._finished = self.source.load(), frozenset()
        if len({problem.id for problem in self.problems}) < len(self.problems):
            raise ConfigError(
                "two problems have the same id; problem files must have different names"
            )

    def leave_out(self, finished: Iterable[str]) -> None:
        """Serves all problems but those with these ids, which have been predicted before."""
        self._finished = frozenset(finished)

    def transfer_batch_to_device(
        self, batch: Any, device: torch.device, dataloader_idx: int
    ) -> Any:
        """Problems are text and stay where they are."""
        return batch

    def predict_dataloader(self) -> DataLoader[Any]:
        """The problems left for this device, by length.

        So problems that are predicted together need little padding.
        """
        trainer = self.trainer
        assert trainer is not None, "dataloaders are asked for by a Trainer"
        remaining = [problem for problem in self.problems if problem.id not in self._finished]
        remaining.sort(key=lambda problem: len(problem.question.split()))
        share: Any = remaining[trainer.global_rank :: trainer.world_size]
        # the share is final: this sampler keeps Lightning from dividing it once more
        whole: DistributedSampler[Any] = DistributedSampler(share, 1, 0, shuffle=False)
        return DataLoader(share, None, sampler=whole, collate_fn=_as_it_is)  # type: ignore[arg-type]


def _as_it_is(problem: Problem) -> Problem:
    return problem
