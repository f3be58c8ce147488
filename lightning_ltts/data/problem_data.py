"""DataModule that serves problems to train, validate and test a reasoner."""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch.utils.data import DataLoader, DistributedSampler

from lightning_ltts.data.evaluation import evaluation_loader
from lightning_ltts.data.overlap import SeenProblems
from lightning_ltts.data.problems import Problem, ProblemSource
from lightning_ltts.data.ranges import MAX_SEED, Bound, require_whole
from lightning_ltts.errors import ConfigError, DataError

MAX_BATCH = Bound(1_000_000)  # problems


class ProblemBatch:
    """Problems that are read together, as they were loaded.

    It is no sequence by type: Lightning would look for tensors in each field of the problems of a
    list, and fails on them where it converts inputs (`trainer.precision=bf16-true`).

    Args:
        problems: of the batch.
    """

    def __init__(self, problems: Iterable[Problem]):
        self._problems = list(problems)

    def __len__(self) -> int:
        return len(self._problems)

    def __iter__(self) -> Iterator[Problem]:
        return iter(self._problems)


class ProblemData(pl.LightningDataModule):
    """Batches are `ProblemBatch`es.

    The module that trains on them makes the tensors, since these depend on its stage. The training
    order is a function of seed and epoch alone, so that a resumed run sees what an uninterrupted one
    would.

    Args:
        train: problems to train on.
        val: problems to validate on.
        test: problems for `ltts test`.
        batch_size: problems per device and step.
        eval_batch_size: problems per device and step of validation.
        seed: seed of the training order.
        allow_overlap: count questions of `val` and `test` that are among those of `train`, which are
            otherwise refused.
    """

    def __init__(
        self,
        train: ProblemSource,
        val: ProblemSource,
        test: ProblemSource | None = None,
        batch_size: int = 128,
        eval_batch_size: int = 256,
        seed: int = 0,
        allow_overlap: bool = False,
    ):
        super().__init__()
        require_whole("ProblemData", "batch_size", batch_size, 1, MAX_BATCH)
        require_whole("ProblemData", "eval_batch_size", eval_batch_size, 1, MAX_BATCH)
        require_whole("ProblemData", "seed", seed, 0, MAX_SEED)
        self.sources = {"train": train, "val": val, "test": test}
        self.problems: dict[str, Sequence[Problem]] = {}
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.seed = seed
        self.allow_overlap = allow_overlap
        self._seen: SeenProblems | None = None

    def setup(self, stage: str) -> None:
        """Loads the problems that the stage needs.

        Raises:
            DataError: a file cannot be used, questions of validation or test are among the training
                problems, or those of validation are those of the test.
        """
        needed = {"fit": ("train", "val", "test"), "validate": ("val",), "test": ("test",)}
        for name in needed.get(stage, ()):
            source = self.sources[name]
            if source is None:
                if stage == "fit":  # the test problems are only compared with the others
                    continue
                raise ConfigError(f"'ltts {stage}' needs data.init_args.{name}, which is not set")
            if name not in self.problems:
                self.problems[name] = source.load()
        if stage == "fit":
            self._compare_sets()

    def _compare_sets(self) -> None:
        """Refuses sets of which one gives the other away."""
        train, val, test = (self.problems.get(name, []) for name in ("train", "val", "test"))
        if {problem.question for problem in val} == {problem.question for problem in test}:
            raise DataError(
                f"{val[0].source}: validation and test problems are the same, so that the best "
                "checkpoint would be chosen on the test set; give other problems for "
                "data.init_args.val"
            )
        self._seen = SeenProblems(train)
        self._seen.refuse_among(val, "validation", self.allow_overlap)
        self._seen.refuse_among(test, "test", self.allow_overlap)

    def state_dict(self) -> dict[str, Any]:
        """What a reasoner's checkpoint keeps of its training problems, to be known again in mining."""
        return problem_tensors(self._seen)

    def transfer_batch_to_device(
        self, batch: ProblemBatch, device: torch.device, dataloader_idx: int
    ) -> ProblemBatch:
        """Problems are text and stay where they are."""
        return batch

    def train_dataloader(self) -> DataLoader[Problem]:
        """Shuffled by (seed, epoch); each device has its own share."""
        trainer = self.trainer
        assert trainer is not None, "dataloaders are asked for by a Trainer"
        problems = self.problems["train"]
        if len(problems) < self.batch_size * trainer.world_size:
            raise ConfigError(
                f"there are {len(problems)} training problems, fewer than one batch of "
                f"{self.batch_size} x {trainer.world_size} devices; lower data.init_args.batch_size"
            )
        sampler: DistributedSampler[Problem] = DistributedSampler(
            problems,  # type: ignore[arg-type]  # a list is a map-style dataset
            num_replicas=trainer.world_size,
            rank=trainer.global_rank,
            seed=self.seed,
            drop_last=True,
        )
        return DataLoader(
            problems,  # type: ignore[arg-type]
            batch_size=self.batch_size,
            sampler=sampler,
            drop_last=True,
            collate_fn=ProblemBatch,
        )

    def val_dataloader(self) -> DataLoader[Any]:
        """This device's validation problems in their order."""
        return self._eval_loader("val")

    def test_dataloader(self) -> DataLoader[Any]:
        """This device's test problems in their order."""
        return self._eval_loader("test")

    def _eval_loader(self, name: str) -> DataLoader[Any]:
        trainer = self.trainer
        place = (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)
        return evaluation_loader(self.problems[name], self.eval_batch_size, ProblemBatch, *place)


def problem_tensors(seen: SeenProblems | None) -> dict[str, Any]:
    """What a checkpoint keeps of training problems, from which `training_problems` finds them."""
    keys = {} if seen is None else seen.keys()
    # of signed numbers, as weights are read
    return {name: torch.from_numpy(np.array(some).view(np.int64)) for name, some in keys.items()}


def training_problems(checkpoint: dict[str, Any], data: str) -> SeenProblems | None:
    """The training problems that a checkpoint keeps; None where it keeps none.

    Args:
        checkpoint: of a reasoner or a LatentRM.
        data: the name of the class that its training problems came from.
    """
    kept = checkpoint.get(data)
    if not kept:
        return None
    return SeenProblems.from_keys(**{k: array("Q", v.numpy().tobytes()) for k, v in kept.items()})
