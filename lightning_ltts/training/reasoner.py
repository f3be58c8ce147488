"""What training a reasoner has in common, whatever the method.

Its optimisation, validation by generation, and checkpoints.
"""

from collections.abc import Iterable
from itertools import chain
from typing import Any, Literal, get_args

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from torch.distributed.fsdp import FSDPModule
from torchmetrics import MeanMetric

from lightning_ltts.cluster.sharded import refuse_divided
from lightning_ltts.data.answers import Answer, Which
from lightning_ltts.data.problems import Problem
from lightning_ltts.data.ranges import require_number
from lightning_ltts.data.room import encode_prompts, say_long_answers
from lightning_ltts.engine.rollout import RolloutEngine
from lightning_ltts.errors import CheckpointError, ConfigError, DataError, TrainingError
from lightning_ltts.models.checkpoints import ENTRY, describe
from lightning_ltts.models.latent_lm import LatentReasoner, left_pad
from lightning_ltts.sampling.keyed_random import fold, question_keys, uniform
from lightning_ltts.sampling.samplers import Sampler
from lightning_ltts.sampling.streams import Stream
from lightning_ltts.training.attention import without_cudnn_attention
from lightning_ltts.training.flat_accuracy import FlatAccuracy as FlatAccuracy  # an old name
from lightning_ltts.training.optimization import adamw, check_rates, keep_given_rates
from lightning_ltts.training.perturbation import Perturbation
from lightning_ltts.training.sequences import Encoded
from lightning_ltts.training.sharding import gathered, shard
from lightning_ltts.training.start import Lora as Lora  # an old name
from lightning_ltts.training.start import Start

_KEPT = 2**14  # problems whose token ids are kept, two KB each


class ReasonerModule(pl.LightningModule):
    """A reasoner in training; subclasses say what the loss of a batch is.

    The arguments of a subclass become the hyper-parameters in its checkpoints.

    Args:
        reasoner: the model that is trained.
        start: where it came from.
        lr: peak learning rate of AdamW.
        weight_decay: weight decay of AdamW.
        warmup: share of all steps in which the learning rate rises, from 0 to 1.
        schedule: course of the learning rate after that.
        sampler: what perturbs thoughts and passes in training, the sampler to be searched with;
            nothing by default, as in the published recipes.
        sampled_share: share of the batches that are perturbed, from 0 to 1.

    Raises:
        ConfigError: a rate or share is out of range.
    """

    def __init__(
        self,
        reasoner: LatentReasoner,
        start: Start,
        lr: float = 2e-3,
        weight_decay: float = 0.01,
        warmup: float = 0.05,
        schedule: Literal["cosine", "constant"] = "cosine",
        sampler: Sampler | None = None,
        sampled_share: float = 1.0,
    ):
        super().__init__()
        owner = type(self).__name__
        check_rates(owner, lr, weight_decay, warmup)
        require_number(owner, "sampled_share", sampled_share, 0, 1)
        self.save_hyperparameters(ignore=["reasoner", "sampler"])  # those of subclasses, too
        self.sampler = sampler
        self.sampled_share = sampled_share
        self.reasoner = reasoner
        self.start = start
        self.lr = lr
        self.weight_decay = weight_decay
        self.warmup = warmup
        self.schedule = schedule
        self.accuracy = MeanMetric()
        self._encoded: dict[Problem, Encoded] = {}

    # -- what subclasses say

    def loss_of(self, batch: list[Problem]) -> Tensor:
        """The loss of a training batch."""
        raise NotImplementedError

    @property
    def num_thoughts(self) -> int:
        """Thoughts before the answer at this time."""
        return self.reasoner.spec.num_thoughts

    def longest_text(self, encoded: Encoded) -> int:
        """Tokens that follow the thoughts of a problem besides its answer's; none by default."""
        return 0

    def longest_sequence(self, encoded: Encoded) -> int:
        """Positions of the longest sequence that a problem makes in training."""
        raise NotImplementedError

    def score_of(self, accuracy: Tensor) -> Tensor:
        """The score () by which the best checkpoint is chosen, `val/score`: the accuracy ()."""
        return accuracy

    # -- training

    def configure_model(self) -> None:
        """Shards the weights where the strategy is Lightning's ModelParallelStrategy.

        Raises:
            ConfigError: it divides heads.
        """
        if self.device_mesh is not None and not isinstance(self, FSDPModule):
            refuse_divided(self.trainer, "a reasoner")
            shard(self, self.reasoner.blocks, self.device_mesh)

    def on_fit_start(self) -> None:
        """Says what will be trained: effective batch, steps, rates.

        Raises:
            ConfigError: the problems have answers that the reasoner's rule does not read.
            DataError: a problem cannot be read.
        """
        without_cudnn_attention()
        trainer = self.trainer
        self._check_problems(trainer.datamodule.problems)  # type: ignore[attr-defined]
        _require_same_answers(self.training_problems[0], self.reasoner.spec.answer_which)
        batch_size: int = trainer.datamodule.batch_size  # type: ignore[attr-defined]
        batch = batch_size * trainer.world_size * trainer.accumulate_grad_batches
        trained = sum(p.numel() for p in self.parameters() if p.requires_grad)
        rank_zero_info(
            f"effective batch {batch}, {trainer.estimated_stepping_batches} steps; learning rate "
            f"{self.lr:g}, {self.schedule} after {self.warmup:.0%} warm-up; {trained / 1e6:.2f} "
            "million weights trained"
        )

    def _check_problems(self, problems: dict[str, list[Problem]]) -> None:
        """Looks at all problems before the training starts, not only at its first batch."""
        spec, val = self.reasoner.spec, problems.get("val", [])
        for problem in chain(problems["train"], val):  # read one by one
            self.encode(problem)
        encode_prompts(self.reasoner, val, spec.num_thoughts + 1 + spec.max_answer_tokens)
        say_long_answers(self.reasoner.tokenizer, val, spec.max_answer_tokens, spec.answer_marker)

    @property
    def training_problems(self) -> list[Problem]:
        """The problems that are trained on."""
        result: list[Problem] = self.trainer.datamodule.problems["train"]  # type: ignore[attr-defined]
        return result

    def require_steps(self, purpose: str, remedy: str = "give problems with steps") -> None:
        """Refuses to train on problems without steps.

        Raises:
            DataError: such a problem, and what the steps are for.
        """
        problems = self.training_problems
        first = next((problem for problem in problems if not problem.steps), None)
        if first is not None:
            bare = sum(not problem.steps for problem in problems)
            raise DataError(
                f"{first.source} has no steps {purpose} ({bare} of {len(problems)} have none); {remedy}"
            )

    def training_step(self, batch: Iterable[Problem], batch_idx: int) -> Tensor:
        """The loss; a run whose loss is not a number ends here."""
        problems = list(batch)
        loss = self.loss_of(problems)
        if not torch.isfinite(loss):
            raise TrainingError(
                f"the loss is {loss.item()} in step {self.global_step}; lower model.init_args.lr "
                f"(now {self.lr:g}), set trainer.gradient_clip_val, or use trainer.precision=32-true"
            )
        self.log("train/loss", loss, prog_bar=True, batch_size=len(problems))
        return loss

    @property
    def batches_seen(self) -> int:
        """The number of this batch, the same after a resume.

        It differs in each of the batches whose gradients are accumulated, as `global_step` does not.
        """
        return self.trainer.fit_loop.total_batch_idx

    def perturbation(self, problems: list[Problem]) -> Perturbation | None:
        """The sampler, and the names under which these problems are sampled in this batch.

        Names follow from the seed of the DataModule, the problem and the epoch alone, so that a
        resumed run samples what an uninterrupted one would, on any number of devices.

        Returns none where the batch is left as it is: without a sampler, out of training, or
        outside the share of batches that are perturbed.
        """
        if self.sampler is None or not self.training:
            return None
        seed: int = self.trainer.datamodule.seed  # type: ignore[attr-defined]
        batch = fold(torch.tensor([seed]), Stream.TRAINING_SHARE, self.batches_seen)
        if float(uniform(batch, 1)) >= self.sampled_share:
            return None
        names = question_keys(seed, [problem.id for problem in problems])
        return Perturbation(
            self.sampler, fold(names, Stream.TRAINING, self.current_epoch).to(self.device)
        )

    def encode(self, problem: Problem) -> Encoded:
        """Token ids of a problem's parts; those of the first problems are kept.

        Raises:
            DataError: a word is not in the vocabulary, or the sequence is longer than the backbone can read.
        """
        if problem in self._encoded:
            return self._encoded[problem]
        encoded = Encoded(problem, self.reasoner)
        longest = self.longest_sequence(encoded)
        if longest > self.reasoner.max_positions:
            raise DataError(
                f"{problem.source}: question, thoughts and text take {longest} positions, but "
                f"the backbone has {self.reasoner.max_positions}; raise its number of positions "
                "or leave the problem out"
            )
        if len(self._encoded) < _KEPT:
            self._encoded[problem] = encoded
        return encoded

    # -- validation by generation

    def validation_step(self, batch: Iterable[Problem], batch_idx: int) -> None:
        """Greedy accuracy."""
        self.accuracy.update(self.greedy_correct(list(batch)))

    def on_validation_epoch_end(self) -> None:
        """Logs the accuracy, and the score by which the best checkpoint is chosen."""
        accuracy = self.accuracy.compute()
        self.log("val/accuracy", accuracy, prog_bar=True, sync_dist=True)
        self.log("val/score", self.score_of(accuracy), sync_dist=True)
        self.accuracy.reset()

    def test_step(self, batch: Iterable[Problem], batch_idx: int) -> None:
        """Greedy accuracy on the test problems."""
        self.accuracy.update(self.greedy_correct(list(batch)))

    def on_test_epoch_end(self) -> None:
        """Logs the test accuracy."""
        self.log("test/accuracy", self.accuracy.compute(), sync_dist=True)
        self.accuracy.reset()

    def greedy_correct(self, problems: list[Problem]) -> Tensor:
        """For B problems, (B,) 1 where the greedy answer is right, else 0; B may be 0."""
        encoded = [self.encode(problem) for problem in problems]
        was_training = self.reasoner.training
        with gathered(self):  # also without any problem: devices gather together
            if not problems:
                return torch.zeros(0, device=self.device)
            answers = self._greedy_answers(encoded)
        self.reasoner.train(was_training)
        right = [answer == problem.value for answer, problem in zip(answers, problems, strict=True)]
        return torch.tensor(right, dtype=torch.float, device=self.device)

    def _greedy_answers(self, encoded: list[Encoded]) -> list[Answer | None]:
        """The greedy answers of B problems; those that do not fit together are read apart.

        One row may have the longest prompt and another the longest text, and each fits by itself.
        """
        reasoner, prompts = self.reasoner, [problem.prompt for problem in encoded]
        limit = max(reasoner.spec.max_answer_tokens, *map(self.longest_text, encoded))
        longest = max(map(len, prompts)) + self.num_thoughts + 1 + limit
        if longest > reasoner.max_positions and len(encoded) > 1:
            order = sorted(range(len(encoded)), key=lambda i: len(prompts[i]))
            found: dict[int, Answer | None] = {}
            for part in (order[: len(order) // 2], order[len(order) // 2 :]):
                answers = self._greedy_answers([encoded[i] for i in part])
                found |= dict(zip(part, answers, strict=True))
            return [found[i] for i in range(len(encoded))]
        rollouts = RolloutEngine(reasoner).rollout(
            *left_pad(prompts, reasoner.pad_id),
            num_thoughts=self.num_thoughts,
            max_answer_tokens=limit,
        )
        return [reasoner.read_answer(ids) for ids in rollouts.answer_ids[:, 0]]

    # -- checkpoints and optimisation

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Writes the reasoner's description, with the number of thoughts at this time."""
        checkpoint[ENTRY] = describe("reasoner", self.reasoner, num_thoughts=self.num_thoughts)
        if self.sampler is not None:
            checkpoint[ENTRY]["trained_under"] = self.sampler.settings()
        if self.start.lora is not None:
            checkpoint[ENTRY]["lora_alpha"] = self.start.lora.alpha

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuses a checkpoint of another kind, tokenizer or backbone.

        Raises:
            CheckpointError: saying which.
        """
        entry = checkpoint.get(ENTRY, {})
        if entry.get("kind") != "reasoner":
            raise CheckpointError("the checkpoint given as ckpt_path is not a latent reasoner's")
        for name in ("method", "tokenizer", "backbone"):
            if entry["spec"][name] != getattr(self.reasoner.spec, name):
                raise CheckpointError(
                    f"the checkpoint given as ckpt_path was trained with another {name} than this run's"
                )
        keep_given_rates(self, checkpoint)

    def configure_optimizers(self) -> Any:
        """AdamW with a linear warm-up, and a cosine or a constant rate after it."""
        return adamw(self, self.schedule)


def _require_same_answers(problem: Problem, rule: str) -> None:
    """Refuses problems whose answers the reasoner's rule does not read.

    Numbers are read by the rule for LaTeX, too, and by those for numbers; a text is no number.
    """
    kind = problem.answer_is
    fitting = {"number": set(get_args(Which)) - {"text"}}.get(kind, {kind})
    if rule not in fitting:
        raise ConfigError(
            f"the problems' answers are read as {kind}, but the reasoner has "
            f"answer_which={rule!r}; set model.init_args.spec.answer_which="
            f"{'first' if kind == 'number' else kind}, or answers of the problem files"
        )
