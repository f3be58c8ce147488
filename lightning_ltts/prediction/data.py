"""The problems that are not predicted yet."""

from typing import Any

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader, DistributedSampler

from lightning_ltts.data.problems import Problem, ProblemSource
from lightning_ltts.errors import ConfigError


class PredictionData(pl.LightningDataModule):
    """Serves the problems that are not predicted yet, one by one; each device has its share, without repeats.

    Args:
        problems: what to predict.
    """

    def __init__(self, problems: ProblemSource):
        super().__init__()
        self.source = problems
        self.problems: list[Problem] = []
        self.done: set[str] = set()
        self.allow_zero_length_dataloader_with_multiple_devices = True

    def setup(self, stage: str) -> None:
        """Loads the problems.

        Raises:
            ConfigError: two problems have one id.
        """
        self.problems = self.source.load()
        if len({problem.id for problem in self.problems}) < len(self.problems):
            raise ConfigError("two problems have the same id; problem files must have different names")

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Problems are text and stay where they are."""
        return batch

    def predict_dataloader(self) -> DataLoader:
        """The problems left for this device, by length, so that problems predicted together need little padding."""
        trainer = self.trainer
        assert trainer is not None, "dataloaders are asked for by a Trainer"
        todo = sorted((p for p in self.problems if p.id not in self.done), key=lambda p: len(p.question.split()))
        share = todo[trainer.global_rank :: trainer.world_size]
        # the share is final: this sampler keeps Lightning from dividing it once more
        sampler: DistributedSampler = DistributedSampler(share, num_replicas=1, rank=0, shuffle=False)  # type: ignore[arg-type]
        return DataLoader(share, batch_size=None, sampler=sampler, collate_fn=_as_it_is)  # type: ignore[arg-type]


def _as_it_is(problem: Problem) -> Problem:
    return problem
