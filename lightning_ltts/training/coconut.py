"""Training a COCONUT reasoner: explicit steps give way to thoughts, stage by stage (arXiv 2412.06769)."""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from transformers import DynamicCache

from lightning_ltts.data.problems import Problem
from lightning_ltts.errors import CheckpointError, ConfigError, DataError
from lightning_ltts.models.checkpoints import ENTRY
from lightning_ltts.models.latent_lm import SpecChanges, left_pad, position_ids
from lightning_ltts.sampling.keyed_random import fold, uniform
from lightning_ltts.sampling.streams import Stream
from lightning_ltts.training.curriculum import Curriculum, Stage
from lightning_ltts.training.reasoner import ReasonerModule
from lightning_ltts.training.sequences import Encoded
from lightning_ltts.training.start import Start


class CoconutModule(ReasonerModule):
    """A COCONUT reasoner, trained through a staged curriculum.

    A curriculum without latent stages trains explicit chain of thought (`drop_all_steps: false`), the usual first part of a
    recipe from a pretrained model, or an answer without any thought (`true`), the baseline.

    Args:
        start: a pretrained model, a chain-of-thought checkpoint, or a tokenizer and a backbone for random weights.
        curriculum: epochs per stage; they should add up to the trainer's max_epochs.
        max_answer_tokens: tokens decoded after the last thought.
        spec: further fields of the reasoner's specification.
        uniform_prob: share of batches that are trained in a stage drawn evenly from all, against forgetting.
        reset_optimizer: forget the moments of AdamW when a stage begins.
        lr: peak learning rate of AdamW.
        weight_decay: of AdamW.
        warmup: share of all steps in which the learning rate rises.
        schedule: what it does after that.
    """

    def __init__(
        self,
        start: Start,
        curriculum: Curriculum = Curriculum(),  # noqa: B008  # frozen
        max_answer_tokens: int = 8,
        spec: SpecChanges | None = None,
        uniform_prob: float = 0.0,
        reset_optimizer: bool = False,
        lr: float = 2e-3,
        weight_decay: float = 0.01,
        warmup: float = 0.05,
        schedule: Literal["cosine", "constant"] = "cosine",
    ):
        if not 0 <= uniform_prob <= 1:
            raise ConfigError(f"model.init_args.uniform_prob={uniform_prob} must be between 0 and 1")
        thoughts = curriculum.last.num_thoughts
        if (spec or {}).get("num_thoughts", thoughts) != thoughts:
            raise ConfigError(
                f"spec.num_thoughts={(spec or {})['num_thoughts']} does not fit the curriculum, which ends with {thoughts} "
                "thoughts (stages x thoughts_per_step); leave it out"
            )
        options = {**(spec or {}), "num_thoughts": thoughts, "max_answer_tokens": max_answer_tokens}
        super().__init__(start.build("coconut", options), start, lr, weight_decay, warmup, schedule)
        self.save_hyperparameters()
        self.curriculum = curriculum
        self.uniform_prob = uniform_prob
        self.reset_optimizer = reset_optimizer
        self.stage: Stage = curriculum.stage_at(0)

    # -- stages

    @property
    def num_thoughts(self) -> int:
        """Those of the current stage."""
        return self.stage.num_thoughts

    def on_fit_start(self) -> None:
        """Says what will be trained, and refuses problems without the steps that the curriculum is about.

        Raises:
            DataError: such a problem.
        """
        super().on_fit_start()
        epochs = self.trainer.max_epochs or 0
        stages = [self.curriculum.stage_at(epoch) for epoch in range(epochs)]
        if any(stage.skipped_steps is not None for stage in stages):
            problems: list[Problem] = self.trainer.datamodule.problems["train"]  # type: ignore[attr-defined]
            bare = [problem for problem in problems if not problem.steps]
            if bare:
                raise DataError(
                    f"{bare[0].source} has no steps, which the curriculum is about ({len(bare)} of {len(problems)} have "
                    "none); give problems with steps, or train with cot_epochs=0 and a single stage"
                )
        for epoch, stage in enumerate(stages):
            if epoch == 0 or stage != stages[epoch - 1]:
                rank_zero_info(f"from epoch {epoch}: {stage}")

    def on_train_epoch_start(self) -> None:
        """Sets the stage of this epoch."""
        stage = self.curriculum.stage_at(self.current_epoch)
        if self.reset_optimizer and stage != self.stage:
            self.trainer.optimizers[0].state.clear()
        self.stage = stage

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the stage."""
        super().on_save_checkpoint(checkpoint)
        checkpoint[ENTRY]["stage"] = self.stage.index

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restores the stage.

        Raises:
            CheckpointError: see `ReasonerModule`; or the curriculum has no such stage.
        """
        super().on_load_checkpoint(checkpoint)
        epochs = range(self.curriculum.total_epochs + 1)
        stages = {stage.index: stage for stage in map(self.curriculum.stage_at, epochs)}
        stage = checkpoint[ENTRY].get("stage")
        if stage not in stages:
            raise CheckpointError(f"the checkpoint is of stage {stage}, which this run's curriculum does not have")
        self.stage = stages[stage]

    # -- training

    def loss_of(self, batch: list[Problem]) -> Tensor:
        """Cross-entropy of the text after the thoughts, in this epoch's stage or, by `uniform_prob`, in another."""
        self.log("train/stage", float(self.stage.index), batch_size=len(batch))
        return self.loss(batch, self._stage_of_batch())

    def _stage_of_batch(self) -> Stage:
        if self.uniform_prob == 0:
            return self.stage
        # a function of the step, so that a resumed run draws what an uninterrupted one would
        key = fold(torch.tensor([self.global_step * self.trainer.world_size + self.global_rank]), Stream.TRAINING_STAGE)
        chance, which = uniform(key, 2)[0].tolist()
        if chance >= self.uniform_prob:
            return self.stage
        stages = sorted({self.curriculum.stage_at(e) for e in range(self.curriculum.total_epochs)}, key=lambda s: s.index)
        return stages[int(which * len(stages))]

    def loss(self, problems: list[Problem], stage: Stage) -> Tensor:
        """Mean cross-entropy over the text tokens that follow the thoughts of `stage`.

        Prompts are padded on the left, so that the thoughts of a batch are aligned; text on the right.
        """
        reasoner, device = self.reasoner, self.device
        encoded = [self.encode(problem) for problem in problems]
        ids, mask = (x.to(device) for x in left_pad([e.prompt for e in encoded], reasoner.pad_id))
        texts = [text_of(e, stage) for e in encoded]
        width = max(map(len, texts))
        labels = torch.tensor([t + [-100] * (width - len(t)) for t in texts], device=device)
        text_ids = torch.tensor([[reasoner.end_id, *t[:-1], *[reasoner.pad_id] * (width - len(t))] for t in texts])
        inputs, cache = reasoner.embed(ids), DynamicCache(config=reasoner.backbone.config)
        positions = position_ids(mask)
        for _ in range(stage.num_thoughts):
            hidden = reasoner.read(inputs, positions, cache, mask)
            inputs = reasoner.thought_head(hidden[:, -1:])
            positions = positions[:, -1:] + 1
            mask = F.pad(mask, (0, 1), value=1)
        inputs = torch.cat([inputs, reasoner.embed(text_ids.to(device)).to(inputs.dtype)], dim=1)
        text_positions = positions[:, -1:] + torch.arange(1, width + 1, device=device)
        positions = torch.cat([positions, text_positions], dim=1)
        mask = F.pad(mask, (0, width), value=1)
        hidden = reasoner.read(inputs, positions, cache, mask)
        return F.cross_entropy(reasoner.logits(hidden[:, -width:]).flatten(0, 1).float(), labels.flatten())

    def positions(self, encoded: Encoded) -> int:
        """Of prompt, thoughts and text in the longest stage."""
        stages = map(self.curriculum.stage_at, range(self.curriculum.total_epochs))
        return len(encoded.prompt) + 1 + max(s.num_thoughts + len(text_of(encoded, s)) for s in stages)

    # -- validation by generation

    def longest_text(self, encoded: Encoded) -> int:
        """Of the current stage, whose remaining steps are written out."""
        return len(text_of(encoded, self.stage))

    def score(self, accuracy: Tensor) -> Tensor:
        """Stage + accuracy: a checkpoint of a later stage is always preferred.

        Explicit steps are easier, but are not what is wanted.
        """
        return self.stage.index + accuracy

    def on_validation_epoch_end(self) -> None:
        """Logs the accuracy, and the score under its former name too, which YAML files may monitor."""
        self.log("val/stage_and_accuracy", self.score(self.accuracy.compute()), sync_dist=True)
        super().on_validation_epoch_end()


def text_of(encoded: Encoded, stage: Stage) -> list[int]:
    """What follows the thoughts: the remaining steps and the answer."""
    steps = [] if stage.skipped_steps is None else encoded.steps[stage.skipped_steps :]
    return [*(token for step in steps for token in step), *encoded.answer]
