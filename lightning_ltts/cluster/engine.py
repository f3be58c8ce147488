"""What an engine is: it has the shards of a run done by workers, each of which holds the model."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from torch import nn

from lightning_ltts.cluster.replicas import Replica
from lightning_ltts.models.cpu_layout import lay_out_for_reading

Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True)
class Place:
    """A device and a precision: where a process computes, and how."""

    device: torch.device
    precision: Any  # Lightning's plugin
    replica: Replica = field(default_factory=Replica)

    @classmethod
    def of(cls, trainer: pl.Trainer) -> "Place":
        """That of a process of a Trainer."""
        return cls(trainer.strategy.root_device, trainer.precision_plugin, Replica.of(trainer))

    @classmethod
    def alone(cls, accelerator: str, precision: str) -> "Place":
        """That of a process that no Trainer knows of: its first device.

        Args:
            accelerator: `cpu` or `gpu`.
            precision: as the option of a Trainer.
        """
        options: Any = {"accelerator": accelerator, "precision": precision}
        quiet: Any = dict.fromkeys(
            ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
        )
        environment = LightningEnvironment()  # not that of the batch system it runs in
        return cls.of(pl.Trainer(devices=1, plugins=[environment], **options, **quiet))

    def take(self, module: Module) -> Module:
        """The module as this place computes with it, and on its device; it is not trained there."""
        converted: Module = self.precision.convert_module(module)
        moved = converted.to(self.device)
        lay_out_for_reading(moved)
        return moved

    def computing(self) -> AbstractContextManager[None]:
        """Inside of it, tensors are made and multiplied in the place's precision."""
        context: AbstractContextManager[None] = self.precision.predict_step_context()
        return context


class Work(ABC):
    """What is done with every shard.

    It is sent to the workers by pickle, so it holds the model on the CPU and as it was loaded.
    """

    @abstractmethod
    def settle(self, place: Place) -> None:
        """Makes ready to work at a place, once in each process."""

    @abstractmethod
    def do(self, shard: Any) -> Any:
        """What comes of a shard: the same, whichever process does it."""


@dataclass(frozen=True)
class Done:
    """A shard that was done."""

    number: int
    result: Any
    worker: str  # host and process
    seconds: float


@dataclass
class Speeds:
    """What each worker has done so far."""

    questions: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def add(self, done: Done, questions: int) -> None:
        """Counts a shard with so many questions."""
        self.questions[done.worker] = self.questions.get(done.worker, 0) + questions
        self.seconds[done.worker] = self.seconds.get(done.worker, 0.0) + done.seconds

    def of(self, worker: str) -> float:
        """Questions per second of a worker, while it worked."""
        return self.questions[worker] / max(self.seconds[worker], 1e-9)

    def shown(self) -> str:
        """The speed of each worker, for a progress bar."""
        return " ".join(f"{self.of(worker):.1f}" for worker in sorted(self.questions))

    def lines(self) -> list[str]:
        """A line for each worker."""
        return [
            f"worker {worker}: {count} questions, {self.of(worker):.1f} questions/s"
            for worker, count in sorted(self.questions.items())
        ]


class Engine(ABC):
    """Has shards done by workers, which may be lost and may join while it runs.

    Shards do not depend on each other and randomness is keyed, so that it does not matter who does
    a shard, or how often. The process that calls writes all files; workers need none of them.
    """

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keeps for all runs within what the first one has to start."""
        yield

    @abstractmethod
    def run(self, work: Work, shards: Iterable[tuple[int, Any]], precision: str) -> Iterator[Done]:
        """Has every shard done, and yields what came of it as soon as it is.

        Args:
            work: what to do.
            shards: numbers and shards. One is taken when a worker is about to be free, so that they
                need not all be held.
            precision: as the option of a Trainer.

        Raises:
            WorkerError: there are no workers, or a shard's workers were lost again and again.
        """
