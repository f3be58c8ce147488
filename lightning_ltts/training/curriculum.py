"""The COCONUT stage schedule as one pure function (arXiv 2412.06769, section 3)."""

from dataclasses import dataclass

import torch

from lightning_ltts.data.ranges import MAX_TOKENS, Bound, require_whole
from lightning_ltts.errors import ConfigError

MAX_EPOCHS = Bound(100_000)


@dataclass(frozen=True)
class Stage:
    """What is trained at one time: thoughts in place of the first steps.

    Args:
        index: number of the stage; 0 is explicit chain of thought.
        num_thoughts: thoughts before the text.
        skipped_steps: steps at the beginning that they replace; `None` for all.
    """

    index: int
    num_thoughts: int
    skipped_steps: int | None

    def __str__(self) -> str:
        skipped = "all" if self.skipped_steps is None else f"the first {self.skipped_steps}"
        return f"stage {self.index}: {self.num_thoughts} thoughts in place of {skipped} steps"


@dataclass(frozen=True)
class Curriculum:
    """Epochs per stage. Stage 0 is explicit chain of thought; stage k turns k steps into thoughts.

    Args:
        cot_epochs: epochs of stage 0.
        stage_epochs: epochs of stages 1, 2, ...; the last number also covers whatever comes after.
            Without any, there is nothing but stage 0.
        thoughts_per_step: c of the paper, thoughts in place of each step.
        drop_all_steps: in the last stage, problems with more steps lose all of them, so that
            nothing explicit is left. That holds for stage 0, too, where it is the only one: answers
            are then trained without steps.
        final_epochs: epochs of one more stage with as many thoughts as the last, in which alone
            that happens (the published recipe).
    """

    cot_epochs: int = 4
    stage_epochs: tuple[int, ...] = (2, 2, 3)
    thoughts_per_step: int = 1
    drop_all_steps: bool = True
    final_epochs: int = 0

    def __post_init__(self) -> None:
        require_whole("Curriculum", "cot_epochs", self.cot_epochs, 0, MAX_EPOCHS)
        require_whole("Curriculum", "final_epochs", self.final_epochs, 0, MAX_EPOCHS)
        require_whole("Curriculum", "thoughts_per_step", self.thoughts_per_step, 1, MAX_TOKENS)
        for epochs in self.stage_epochs:
            require_whole("Curriculum", "stage_epochs", epochs, 1, MAX_EPOCHS)
        if self.total_epochs < 1:
            raise ConfigError(f"the curriculum needs at least one epoch in all, not {self}")

    @property
    def total_epochs(self) -> int:
        """Epochs until the end of the last stage."""
        return self.cot_epochs + sum(self.stage_epochs) + self.final_epochs

    @property
    def last(self) -> Stage:
        """The stage that training ends in."""
        return self.stage_at(self.total_epochs)

    def stage_at(self, epoch: int) -> Stage:
        """The stage of an epoch, counted from 0."""
        lengths = [*self.stage_epochs, *([self.final_epochs] if self.final_epochs else [])]
        index, left = 0, epoch - self.cot_epochs
        while left >= 0 and index < len(lengths):
            left -= lengths[index]
            index += 1
        skipped = None if index == len(lengths) and self.drop_all_steps else index
        return Stage(index, min(index, len(self.stage_epochs)) * self.thoughts_per_step, skipped)


# checkpoints hold training options as objects of this class
torch.serialization.add_safe_globals([Curriculum])
