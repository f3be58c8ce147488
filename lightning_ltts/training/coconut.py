"""Training a COCONUT reasoner: explicit steps give way to thoughts, stage by stage (arXiv 2412.06769)."""

from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from lightning_ltts.data.problems import Problem
from lightning_ltts.data.ranges import require_number
from lightning_ltts.errors import CheckpointError, ConfigError, shorten
from lightning_ltts.models.checkpoints import ENTRY
from lightning_ltts.models.latent_lm import SpecChanges
from lightning_ltts.sampling.keyed_random import fold, uniform
from lightning_ltts.sampling.streams import Stream
from lightning_ltts.training.curriculum import Curriculum, Stage
from lightning_ltts.training.reasoner import ReasonerModule
from lightning_ltts.training.sequences import Encoded, think
from lightning_ltts.training.start import Start
from lightning_ltts.training.step_supervision import StepDecoder, step_loss


class CoconutModule(ReasonerModule):
    """A COCONUT reasoner, trained through a staged curriculum.

    A curriculum without latent stages trains explicit chain of thought (`drop_all_steps: false`),
    the usual first part of a recipe from a pretrained model, or an answer without any thought
    (`true`), the baseline.

    Args:
        start: a pretrained model, a chain-of-thought checkpoint, or a tokenizer and a backbone for
            random weights.
        curriculum: epochs per stage; they should add up to the trainer's max_epochs.
        max_answer_tokens: tokens decoded after the last thought.
        spec: further fields of the reasoner's specification.
        uniform_prob: share of batches that are trained in a stage drawn evenly from all, against
            forgetting.
        reset_optimizer: forget the moments of AdamW when a stage begins or, with `epoch`, when any
            epoch does, as the published training does.
        step_factor: weight of step supervision, see `StepDecoder`; 0 is COCONUT's own recipe.
        end_steps: whether supervised steps end with the end-of-sequence token, as published; to
            read thoughts out with a tokenizer of words, they must.
        optimization: learning rate and so on, as `ReasonerModule` has them.

    Raises:
        ConfigError: an option that cannot be, or `spec` contradicts the others.
    """

    def __init__(
        self,
        start: Start,
        curriculum: Curriculum = Curriculum(),  # noqa: B008  # frozen
        max_answer_tokens: int = 8,
        spec: SpecChanges | None = None,
        uniform_prob: float = 0.0,
        reset_optimizer: bool | str = False,
        step_factor: float = 0.0,
        end_steps: bool = False,
        **optimization: Any,
    ):
        require_number("CoconutModule", "uniform_prob", uniform_prob, 0, 1)
        require_number("CoconutModule", "step_factor", step_factor)
        fixed = {
            "num_thoughts": curriculum.last.num_thoughts,
            "max_answer_tokens": max_answer_tokens,
        }
        super().__init__(start.build("coconut", fixed, spec), start, **optimization)
        self.curriculum = curriculum
        self.uniform_prob = uniform_prob
        if reset_optimizer not in (True, False, "epoch"):
            raise ConfigError(
                f"reset_optimizer={shorten(reset_optimizer)} of CoconutModule must be true, false or "
                "epoch"
            )
        self.reset_optimizer = reset_optimizer
        self.step_factor = step_factor
        self.step_decoder = None
        if step_factor:
            per_step = curriculum.thoughts_per_step
            self.step_decoder = StepDecoder(self.reasoner, per_step, end_steps)
        self.stage: Stage = curriculum.stage_at(0)

    # -- stages

    @property
    def num_thoughts(self) -> int:
        """Thoughts of the current stage."""
        return self.stage.num_thoughts

    def on_fit_start(self) -> None:
        """Says what will be trained, and refuses problems without steps to turn into thoughts.

        Raises:
            DataError: such a problem.
        """
        super().on_fit_start()
        # later epochs are of the last stage, and a run that steps alone end has as many as it takes
        most, given = self.curriculum.total_epochs + 1, self.trainer.max_epochs
        epochs = most if given is None or given < 0 else min(given, most)
        stages = [self.curriculum.stage_at(epoch) for epoch in range(epochs)]
        if any(stage.skipped_steps is not None for stage in stages):
            self.require_steps(
                "for the curriculum to write out and turn into thoughts",
                "give problems with steps, or train with cot_epochs=0 and a single stage",
            )
        for epoch, stage in enumerate(stages):
            if epoch == 0 or stage != stages[epoch - 1]:
                rank_zero_info(f"from epoch {epoch}: {stage}")

    def on_train_epoch_start(self) -> None:
        """Sets the stage of this epoch."""
        stage = self.curriculum.stage_at(self.current_epoch)
        every = self.reset_optimizer == "epoch"
        if self.reset_optimizer and (stage != self.stage or every):
            self.trainer.optimizers[0].state.clear()
        self.stage = stage

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the stage, and what the step decoder is."""
        super().on_save_checkpoint(checkpoint)
        checkpoint[ENTRY]["stage"] = self.stage.index
        if self.step_decoder is not None:
            checkpoint[ENTRY]["step_decoder"] = self.step_decoder.settings()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restores the stage.

        Raises:
            CheckpointError: it does not fit this run, or the curriculum has no such stage.
        """
        super().on_load_checkpoint(checkpoint)
        epochs = range(self.curriculum.total_epochs + 1)
        stages = {stage.index: stage for stage in map(self.curriculum.stage_at, epochs)}
        stage = checkpoint[ENTRY].get("stage")
        if stage not in stages:
            raise CheckpointError(
                f"the checkpoint is of stage {stage}, which this run's curriculum does not have"
            )
        self.stage = stages[stage]

    # -- training

    def loss_of(self, batch: list[Problem]) -> Tensor:
        """Cross-entropy of the text after the thoughts.

        The stage is this epoch's or, with the probability `uniform_prob`, any.
        """
        self.log("train/stage", float(self.stage.index), batch_size=len(batch))
        return self.loss(batch, self._stage_of_batch())

    def _stage_of_batch(self) -> Stage:
        if self.uniform_prob == 0:
            return self.stage
        # A function of the batch's number, so that a resumed run draws what an uninterrupted one
        # would, and alone of it: devices that share weights make equally many thoughts.
        key = fold(torch.tensor([self.batches_seen]), Stream.TRAINING_STAGE)
        chance, which = uniform(key, 2)[0].tolist()
        if chance >= self.uniform_prob:
            return self.stage
        every = {self.curriculum.stage_at(epoch) for epoch in range(self.curriculum.total_epochs)}
        stages = sorted(every, key=lambda stage: stage.index)
        return stages[int(which * len(stages))]

    def loss(self, problems: list[Problem], stage: Stage) -> Tensor:
        """Mean cross-entropy over the text tokens that follow the thoughts of `stage`.

        Where steps are supervised, that of the steps written from the thoughts is added.
        """
        encoded = [self.encode(problem) for problem in problems]
        prompts, texts = [e.prompt for e in encoded], [text_of(e, stage) for e in encoded]
        after = think(
            self.reasoner, prompts, texts, stage.num_thoughts, self.perturbation(problems)
        )
        with after.reading(self.reasoner):
            hidden = self.reasoner.read(after.inputs, after.positions, after.cache, after.mask)
        loss = after.loss(self.reasoner, hidden)
        if self.step_decoder is None:
            return loss
        steps = step_loss(self.step_decoder, encoded, after.thoughts)
        self.log("train/steps", steps.detach(), batch_size=len(problems))
        return loss + self.step_factor * steps

    def longest_sequence(self, encoded: Encoded) -> int:
        """Positions of prompt, thoughts, end token and text in the longest stage."""
        stages = map(self.curriculum.stage_at, range(self.curriculum.total_epochs))
        longest = max(stage.num_thoughts + len(text_of(encoded, stage)) for stage in stages)
        return len(encoded.prompt) + 1 + longest

    # -- validation by generation

    def longest_text(self, encoded: Encoded) -> int:
        """Tokens of the current stage's text, where the remaining steps are written out in it.

        In the last stage there are none, and an answer may be as long as in a search.
        """
        return 0 if self.stage.skipped_steps is None else len(text_of(encoded, self.stage))

    def score_of(self, accuracy: Tensor) -> Tensor:
        """The index of the stage plus the accuracy.

        A checkpoint of a later stage is always preferred: explicit steps are easier, but are not
        what is wanted.
        """
        return self.stage.index + accuracy

    def on_validation_epoch_end(self) -> None:
        """Logs the accuracy and the score, which older runs monitor as `val/stage_and_accuracy`."""
        score = self.score_of(self.accuracy.compute())
        self.log("val/stage_and_accuracy", score, sync_dist=True)
        super().on_validation_epoch_end()


def text_of(encoded: Encoded, stage: Stage) -> list[int]:
    """Token ids of what follows the thoughts: the remaining steps and the answer."""
    return encoded.answer if stage.skipped_steps is None else encoded.text(stage.skipped_steps)
