"""The problems that are not predicted yet."""

from array import array
from collections.abc import Iterator, Sequence
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch.utils.data import DataLoader, DistributedSampler

from lightning_ltts.cluster.replicas import Replica
from lightning_ltts.data.problems import Problem, ProblemSource, key_of
from lightning_ltts.data.stored_problems import ProblemView
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
        self.problems: Sequence[Problem] = []
        self._finished = np.zeros(0, np.uint64)  # keys of those that have been predicted
        self._keys = np.zeros(0, np.uint64)  # of the problems' ids
        self._order = np.zeros(0, np.int64)  # all problems by length
        self.allow_zero_length_dataloader_with_multiple_devices = True

    def setup(self, stage: str) -> None:
        """Loads the problems, all of which are to be predicted until `leave_out` says otherwise.

        Raises:
            ConfigError: two problems have one id.
        """
        self.problems, self._finished = self.source.load(), np.zeros(0, np.uint64)
        keys, lengths = array("Q"), array("l")
        for problem in self.problems:
            keys.append(key_of(problem.id))
            lengths.append(len(problem.question.split()))
        self._keys = np.array(keys, np.uint64)
        # those that are predicted together need little padding then
        self._order = np.argsort(np.array(lengths), kind="stable")
        if len(np.unique(self._keys)) < len(self.problems):
            raise ConfigError(
                "two problems have the same id; problem files must have different names"
            )

    def leave_out(self, finished: Any) -> None:
        """Serves all problems but those that have been predicted before.

        Args:
            finished: `key_of` their ids, ascending, as an array (n,).
        """
        self._finished = finished

    def is_finished(self, problem: Problem) -> bool:
        """Whether a problem has been predicted before."""
        key = np.uint64(key_of(problem.id))
        place = int(np.searchsorted(self._finished, key))
        return place < len(self._finished) and bool(self._finished[place] == key)

    def passes(self, size: int) -> Iterator[list[Problem]]:
        """Problems that are predicted together, `size` at once, where any of them is left.

        They are the passes of one process that predicts all, whatever was predicted before.
        """
        for start in range(0, len(self._order), size):
            some = self._order[start : start + size]
            if self._is_left(some).any():
                yield [self.problems[i] for i in some.tolist()]

    def _is_left(self, indices: Any) -> Any:
        """Of problems by index (n,): whether they have not been predicted before."""
        return ~np.isin(self._keys[indices], self._finished)

    def transfer_batch_to_device(
        self, batch: Any, device: torch.device, dataloader_idx: int
    ) -> Any:
        """Problems are text and stay where they are."""
        return batch

    def predict_dataloader(self) -> DataLoader[Any]:
        """The problems left for this device, by length."""
        trainer = self.trainer
        assert trainer is not None, "dataloaders are asked for by a Trainer"
        remaining = self._order[self._is_left(self._order)]
        replica = Replica.of(trainer)
        own = remaining[replica.number :: replica.count]
        share: Any = ProblemView(self.problems, own)
        # the share is final: this sampler keeps Lightning from dividing it once more
        whole: DistributedSampler[Any] = DistributedSampler(share, 1, 0, shuffle=False)
        return DataLoader(share, None, sampler=whole, collate_fn=_as_it_is)  # type: ignore[arg-type]


def _as_it_is(problem: Problem) -> Problem:
    return problem
