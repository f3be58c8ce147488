"""DataModule that serves problems to train, validate and test a reasoner."""

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader, DistributedSampler

from lightning_ltts.data.problems import Problem, ProblemSource
from lightning_ltts.errors import ConfigError, DataError


class ProblemData(pl.LightningDataModule):
    """Batches are lists of problems; the module that trains on them makes the tensors, since these depend on its stage.

    The training order is a function of seed and epoch alone, so that a resumed run sees what an uninterrupted one would.

    Args:
        train: problems to train on.
        val: problems to validate on; must share none with `train`.
        test: problems for `ltts test`.
        batch_size: problems per device and step.
        eval_batch_size: problems per device and step of validation.
        seed: of the training order.
    """

    def __init__(
        self,
        train: ProblemSource,
        val: ProblemSource,
        test: ProblemSource | None = None,
        batch_size: int = 128,
        eval_batch_size: int = 256,
        seed: int = 0,
    ):
        super().__init__()
        if min(batch_size, eval_batch_size) < 1:
            raise ConfigError(
                f"batch_size={batch_size} and eval_batch_size={eval_batch_size} must be at least 1"
            )
        self.sources = {"train": train, "val": val, "test": test}
        self.problems: dict[str, list[Problem]] = {}
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.seed = seed

    def setup(self, stage: str) -> None:
        """Loads what the stage needs.

        Raises:
            DataError: a file cannot be used, or validation questions are among the training ones, or are those of the test.
        """
        for name in {"fit": ("train", "val", "test"), "validate": ("val",), "test": ("test",)}.get(
            stage, ()
        ):
            source = self.sources[name]
            if source is None:
                if stage == "fit":  # the test problems are only looked at
                    continue
                raise ConfigError(f"'ltts {stage}' needs data.init_args.{name}, which is not set")
            if name not in self.problems:
                self.problems[name] = source.load()
        if stage == "fit":
            held_out = {problem.question for problem in self.problems["val"]}
            if held_out == {problem.question for problem in self.problems.get("test", [])}:
                raise DataError(
                    f"{self.problems['val'][0].source}: validation and test problems are the same, so that the best checkpoint "
                    "would be chosen on the test set; give other problems for data.init_args.val"
                )
            seen = {problem.question for problem in self.problems["train"]}
            for problem in self.problems["val"]:
                if problem.question in seen:
                    raise DataError(
                        f"{problem.source}: this validation question is among the training problems"
                    )

    def transfer_batch_to_device(
        self, batch: list[Problem], device: torch.device, dataloader_idx: int
    ) -> list[Problem]:
        """Problems are text and stay where they are (Lightning would look for tensors in every field)."""
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
            collate_fn=list,
        )

    def val_dataloader(self) -> DataLoader[Problem]:
        """Validation problems in their order."""
        return self._eval_loader("val")

    def test_dataloader(self) -> DataLoader[Problem]:
        """Test problems in their order."""
        return self._eval_loader("test")

    def _eval_loader(self, name: str) -> DataLoader[Problem]:
        return DataLoader(self.problems[name], batch_size=self.eval_batch_size, collate_fn=list)  # type: ignore[arg-type]
