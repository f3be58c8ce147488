"""Training a COCONUT reasoner: explicit steps give way to thoughts, stage by stage (arXiv 2412.06769)."""

from typing import Any

import lightning.pytorch as pl
import torch
import torch.nn.functional as F
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from torchmetrics import MeanMetric
from transformers import DynamicCache

from lightning_ltts.data.problems import Problem
from lightning_ltts.data.tokenization import TokenizerSource, encode_text
from lightning_ltts.engine.rollout import RolloutEngine
from lightning_ltts.errors import CheckpointError, DataError
from lightning_ltts.models.checkpoints import ENTRY, describe
from lightning_ltts.models.latent_lm import LatentReasoner, left_pad, new_reasoner, position_ids
from lightning_ltts.training.curriculum import Curriculum, Stage
from lightning_ltts.training.optimization import cosine_adamw, keep_given_rates


class CoconutModule(pl.LightningModule):
    """A COCONUT reasoner, trained from random weights through a staged curriculum.

    Args:
        tokenizer: how its tokenizer is made.
        backbone: Hugging Face configuration with a `model_type` (for instance gpt2); the vocabulary size is the tokenizer's.
        curriculum: epochs per stage; they should add up to the trainer's max_epochs.
        max_answer_tokens: tokens decoded after the last thought.
        lr: peak learning rate of AdamW.
        weight_decay: of AdamW.
        warmup: share of all steps in which the learning rate rises; it falls as a cosine after that.
    """

    def __init__(
        self,
        tokenizer: TokenizerSource,
        backbone: dict[str, Any],
        curriculum: Curriculum = Curriculum(),  # noqa: B008  # frozen
        max_answer_tokens: int = 8,
        lr: float = 2e-3,
        weight_decay: float = 0.01,
        warmup: float = 0.05,
    ):
        super().__init__()
        self.save_hyperparameters()
        self.curriculum = curriculum
        self.lr = lr
        self.weight_decay = weight_decay
        self.warmup = warmup
        last = curriculum.last
        self.reasoner: LatentReasoner = new_reasoner(
            "coconut", backbone, tokenizer.build(), last.num_thoughts, max_answer_tokens
        )
        self.accuracy = MeanMetric()
        self.stage: Stage = curriculum.stage_at(0)
        self._encoded: dict[Problem, _Encoded] = {}

    # -- stages

    def on_fit_start(self) -> None:
        """Says what will be trained: devices, effective batch and stages."""
        trainer = self.trainer
        batch = trainer.datamodule.batch_size * trainer.world_size * trainer.accumulate_grad_batches  # type: ignore[attr-defined]
        rank_zero_info(f"effective batch {batch}, {trainer.estimated_stepping_batches} steps")
        for epoch in range(trainer.max_epochs or 0):
            stage = self.curriculum.stage_at(epoch)
            if epoch == 0 or stage != self.curriculum.stage_at(epoch - 1):
                rank_zero_info(f"from epoch {epoch}: {stage}")

    def on_train_epoch_start(self) -> None:
        """Sets the stage of this epoch."""
        self.stage = self.curriculum.stage_at(self.current_epoch)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Writes the reasoner's description, with the number of thoughts of the current stage."""
        checkpoint[ENTRY] = describe("reasoner", self.reasoner, num_thoughts=self.stage.num_thoughts)
        checkpoint[ENTRY]["stage"] = self.stage.index

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restores the stage and refuses a checkpoint with another tokenizer.

        Raises:
            CheckpointError: it is not a reasoner's checkpoint, or its vocabulary is another.
        """
        entry = checkpoint.get(ENTRY, {})
        if entry.get("kind") != "reasoner":
            raise CheckpointError("the checkpoint given as ckpt_path is not a latent reasoner's")
        if entry["spec"]["tokenizer"] != self.reasoner.spec.tokenizer:
            raise CheckpointError("the checkpoint given as ckpt_path was trained with another tokenizer than this run's")
        if entry["spec"]["backbone"] != self.reasoner.spec.backbone:
            raise CheckpointError(
                "the checkpoint given as ckpt_path has another backbone than this run's model.init_args.backbone"
            )
        keep_given_rates(self, checkpoint)
        epochs = range(self.curriculum.total_epochs + 1)
        stages = {stage.index: stage for stage in map(self.curriculum.stage_at, epochs)}
        if entry["stage"] not in stages:
            raise CheckpointError(f"the checkpoint is of stage {entry['stage']}, which this run's curriculum does not have")
        self.stage = stages[entry["stage"]]

    # -- training

    def training_step(self, batch: list[Problem], batch_idx: int) -> Tensor:
        """Cross-entropy of the text after the thoughts."""
        loss = self.loss(batch, self.stage)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch))
        self.log("train/stage", float(self.stage.index), batch_size=len(batch))
        return loss

    def loss(self, problems: list[Problem], stage: Stage) -> Tensor:
        """Mean cross-entropy over the text tokens that follow the thoughts of `stage`.

        Prompts are padded on the left, so that the thoughts of a batch are aligned; text on the right.
        """
        reasoner, device = self.reasoner, self.device
        encoded = [self._encode(problem) for problem in problems]
        ids, mask = (x.to(device) for x in left_pad([e.prompt for e in encoded], reasoner.pad_id))
        texts = [e.text(stage) for e in encoded]
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

    def _encode(self, problem: Problem) -> "_Encoded":
        if problem not in self._encoded:
            encoded = _Encoded(problem, self.reasoner)
            stages = map(self.curriculum.stage_at, range(self.curriculum.total_epochs))
            longest = len(encoded.prompt) + 1 + max(s.num_thoughts + len(encoded.text(s)) for s in stages)
            if longest > self.reasoner.max_positions:
                raise DataError(
                    f"{problem.source}: question, thoughts and text take {longest} positions, but the backbone has "
                    f"{self.reasoner.max_positions}; raise its number of positions or leave the problem out"
                )
            self._encoded[problem] = encoded
        return self._encoded[problem]

    # -- validation by generation

    def validation_step(self, batch: list[Problem], batch_idx: int) -> None:
        """Greedy accuracy with the thoughts of the current stage."""
        self.accuracy.update(self.greedy_correct(batch))

    def on_validation_epoch_end(self) -> None:
        """Logs the accuracy, and a score that also counts the stage, for choosing the best checkpoint."""
        accuracy = self.accuracy.compute()
        self.accuracy.reset()
        # a checkpoint of a later stage is always preferred: explicit steps are easier, but are not what is wanted
        self.log_dict({"val/accuracy": accuracy, "val/stage_and_accuracy": self.stage.index + accuracy}, prog_bar=True)

    def test_step(self, batch: list[Problem], batch_idx: int) -> None:
        """Greedy accuracy on the test problems."""
        self.accuracy.update(self.greedy_correct(batch))

    def on_test_epoch_end(self) -> None:
        """Logs the test accuracy."""
        self.log("test/accuracy", self.accuracy.compute())
        self.accuracy.reset()

    def greedy_correct(self, problems: list[Problem]) -> Tensor:
        """(len(problems),) 1 where the greedy answer is right, else 0."""
        encoded = [self._encode(problem) for problem in problems]
        was_training = self.reasoner.training
        longest_text = max(len(e.text(self.stage)) for e in encoded)
        rollouts = RolloutEngine(self.reasoner).rollout(
            *left_pad([e.prompt for e in encoded], self.reasoner.pad_id),
            num_thoughts=self.stage.num_thoughts,
            max_answer_tokens=max(self.reasoner.spec.max_answer_tokens, longest_text),
        )
        self.reasoner.train(was_training)
        answers = map(self.reasoner.read_answer, rollouts.answer_ids[:, 0])
        right = [answer == problem.value for answer, problem in zip(answers, problems, strict=True)]
        return torch.tensor(right, dtype=torch.float, device=self.device)

    # -- optimisation

    def configure_optimizers(self) -> Any:
        """AdamW with a linear warm-up and a cosine over all steps."""
        return cosine_adamw(self)


class _Encoded:
    """Token ids of a problem's parts."""

    def __init__(self, problem: Problem, reasoner: LatentReasoner):
        self.prompt = reasoner.encode_prompt(problem.question, problem.source)
        self.steps = [encode_text(reasoner.tokenizer, f"{step}\n", problem.source) for step in problem.steps]
        answer = f"{reasoner.spec.answer_marker} {problem.answer}"
        self.answer = [*encode_text(reasoner.tokenizer, answer, problem.source), reasoner.eos_id]

    def text(self, stage: Stage) -> list[int]:
        """What follows the thoughts: the remaining steps and the answer."""
        steps = [] if stage.skipped_steps is None else self.steps[stage.skipped_steps :]
        return [*(token for step in steps for token in step), *self.answer]
