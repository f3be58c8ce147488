"""What training a reasoner has in common, whatever the method: where it starts, validation by generation, checkpoints."""

from dataclasses import dataclass
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_info
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor
from torch.distributed.fsdp import FSDPModule
from torchmetrics import MeanMetric

from lightning_ltts.data.problems import Problem
from lightning_ltts.data.tokenization import TokenizerSource, encode_text
from lightning_ltts.engine.rollout import RolloutEngine
from lightning_ltts.errors import CheckpointError, ConfigError, DataError, TrainingError
from lightning_ltts.models.checkpoints import ENTRY, describe, load_reasoner
from lightning_ltts.models.latent_lm import LatentReasoner, left_pad, new_reasoner
from lightning_ltts.training.optimization import adamw, keep_given_rates
from lightning_ltts.training.sharding import gathered, shard

# what adapters are put on by default, per backbone family: all matrices of a block
LORA_TARGETS = {"gpt2": ["c_attn", "c_proj", "c_fc"]}
_LLAMA_TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@dataclass(frozen=True)
class Lora:
    """Low-rank adapters (arXiv 2106.09685); only these and the thought head are trained, and loading merges them.

    Args:
        rank: r.
        alpha: the adapters' change is scaled by alpha / r.
        dropout: on the adapters' input.
        targets: names of the matrices they are put on; by default all of every block.
    """

    rank: int = 128
    alpha: float = 32.0
    dropout: float = 0.1
    targets: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Start:
    """What a reasoner's training starts from: a model, or a tokenizer and a configuration for random weights.

    Args:
        pretrained: any source that `load_reasoner` takes: a causal language model, or a reasoner to go on from.
        base: see `load_reasoner`.
        tokenizer: how the tokenizer is made, where there is no pretrained model.
        backbone: a Hugging Face configuration with its model_type, likewise; the vocabulary is the tokenizer's.
        new_tokens_from: a token whose embedding the markers start from (`<<` in the COCONUT recipe); otherwise the mean of all.
        lora: adapters to train instead of all weights.
    """

    pretrained: str | None = None
    base: str | None = None
    tokenizer: TokenizerSource | None = None
    backbone: dict[str, Any] | None = None
    new_tokens_from: str | None = None
    lora: Lora | None = None

    def build(self, method: str, spec: dict[str, Any]) -> LatentReasoner:
        """The reasoner, with fields of its specification set as given.

        Raises:
            ConfigError: the parts do not fit together, or the adapters' targets match nothing.
        """
        if self.pretrained is not None:
            if self.tokenizer is not None or self.backbone is not None:
                raise ConfigError("give either a pretrained model, or a tokenizer and a backbone to start from random weights")
            reasoner = load_reasoner(self.pretrained, self.base, torch.float32, method=method, **spec).train()
        elif self.tokenizer is None or self.backbone is None:
            raise ConfigError("nothing to start from: give pretrained, or both tokenizer and backbone for random weights")
        else:
            options = {key: spec[key] for key in ("num_thoughts", "max_answer_tokens") if key in spec}
            rest = {key: value for key, value in spec.items() if key not in options}
            reasoner = new_reasoner(method, self.backbone, self.tokenizer.build(), **options, **rest)
        if self.new_tokens_from is not None:
            _start_markers(reasoner, self.new_tokens_from)
        if self.lora is not None:
            _add_adapters(reasoner, self.lora)
        return reasoner


# hyper-parameters in checkpoints hold these, and checkpoints are read in PyTorch's weights-only mode
torch.serialization.add_safe_globals([Lora, Start])


def _start_markers(reasoner: LatentReasoner, token: str) -> None:
    ids = reasoner.tokenizer.encode(token, add_special_tokens=False)
    if len(ids) != 1 or ids[0] == reasoner.tokenizer.unk_token_id:
        raise ConfigError(f"new_tokens_from={token!r} is not one token of the tokenizer, but {len(ids)}; choose another")
    roles = (reasoner.spec.tokens.get(role) for role in ("start", "end", "latent"))
    markers = [reasoner.tokenizer.get_vocab()[name] for name in roles if name is not None]
    with torch.no_grad():
        for module in (reasoner.backbone.get_input_embeddings(), reasoner.backbone.get_output_embeddings()):
            table: Tensor = module.weight  # type: ignore[assignment]  # where both are tied, this is done twice
            table[markers] = table[ids[0]].clone()


def _add_adapters(reasoner: LatentReasoner, lora: Lora) -> None:
    targets = list(lora.targets) if lora.targets is not None else LORA_TARGETS.get(reasoner.family, _LLAMA_TARGETS)
    names = {name.rsplit(".", 1)[-1] for name, _ in reasoner.backbone.named_modules()}
    missing = [target for target in targets if target not in names]
    if missing or not targets:
        raise ConfigError(
            f"LoRA targets that match nothing in this {reasoner.family} backbone: {', '.join(missing) or '(none given)'}; "
            f"choose among {', '.join(sorted(x for x in names if x.endswith(('proj', 'attn', 'fc'))))}"
        )
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]  # a float works as well
        lora_dropout=lora.dropout,
        target_modules=targets,
        fan_in_fan_out=reasoner.family == "gpt2",
    )
    inject_adapter_in_model(config, reasoner.backbone)


class ReasonerModule(pl.LightningModule):
    """A reasoner in training; subclasses say what the loss of a batch is.

    Args:
        reasoner: what is trained.
        start: where it came from.
        lr: peak learning rate of AdamW.
        weight_decay: of AdamW.
        warmup: share of all steps in which the learning rate rises.
        schedule: what it does after that.
    """

    def __init__(
        self,
        reasoner: LatentReasoner,
        start: Start,
        lr: float,
        weight_decay: float,
        warmup: float,
        schedule: Literal["cosine", "constant"] = "cosine",
    ):
        super().__init__()
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

    def longest_text(self, encoded: "Encoded") -> int:
        """Tokens that may follow the thoughts of a problem when it is validated."""
        return len(encoded.answer)

    def positions(self, encoded: "Encoded") -> int:
        """The longest sequence that a problem makes in training."""
        raise NotImplementedError

    # -- training

    def configure_model(self) -> None:
        """Shards the weights where the strategy is Lightning's ModelParallelStrategy."""
        if self.device_mesh is not None and not isinstance(self, FSDPModule):
            shard(self, self.reasoner.blocks, self.device_mesh)

    def on_fit_start(self) -> None:
        """Says what will be trained: effective batch, steps, rates.

        Raises:
            ConfigError: the problems have answers that the reasoner's rule does not read.
        """
        trainer = self.trainer
        kind, rule = trainer.datamodule.problems["train"][0].answer_is, self.reasoner.spec.answer_which  # type: ignore[attr-defined]
        if (kind == "text") != (rule == "text"):
            raise ConfigError(
                f"the problems' answers are read as {kind}, but the reasoner has answer_which={rule!r}; set "
                f"model.init_args.spec.answer_which={'text' if kind == 'text' else 'first'}, or answers of the problem files"
            )
        batch = trainer.datamodule.batch_size * trainer.world_size * trainer.accumulate_grad_batches  # type: ignore[attr-defined]
        trained = sum(p.numel() for p in self.parameters() if p.requires_grad)
        rank_zero_info(
            f"effective batch {batch}, {trainer.estimated_stepping_batches} steps; learning rate {self.lr:g}, "
            f"{self.schedule} after {self.warmup:.0%} warm-up; {trained / 1e6:.2f} million weights trained"
        )

    def training_step(self, batch: list[Problem], batch_idx: int) -> Tensor:
        """The loss; a run whose loss is not a number ends here."""
        loss = self.loss_of(batch)
        if not torch.isfinite(loss):
            raise TrainingError(
                f"the loss is {float(loss)} in step {self.global_step}; lower model.init_args.lr (now {self.lr:g}), set "
                "trainer.gradient_clip_val, or use trainer.precision=32-true"
            )
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch))
        return loss

    def encode(self, problem: Problem) -> "Encoded":
        """Token ids of a problem's parts, made once.

        Raises:
            DataError: a word is not in the vocabulary, or the sequence is longer than the backbone can read.
        """
        if problem not in self._encoded:
            encoded = Encoded(problem, self.reasoner)
            longest = self.positions(encoded)
            if longest > self.reasoner.max_positions:
                raise DataError(
                    f"{problem.source}: question, thoughts and text take {longest} positions, but the backbone has "
                    f"{self.reasoner.max_positions}; raise its number of positions or leave the problem out"
                )
            self._encoded[problem] = encoded
        return self._encoded[problem]

    # -- validation by generation

    def validation_step(self, batch: list[Problem], batch_idx: int) -> None:
        """Greedy accuracy."""
        self.accuracy.update(self.greedy_correct(batch))

    def on_validation_epoch_end(self) -> None:
        """Logs the accuracy."""
        self.log("val/accuracy", self.accuracy.compute(), prog_bar=True, sync_dist=True)
        self.accuracy.reset()

    def test_step(self, batch: list[Problem], batch_idx: int) -> None:
        """Greedy accuracy on the test problems."""
        self.accuracy.update(self.greedy_correct(batch))

    def on_test_epoch_end(self) -> None:
        """Logs the test accuracy."""
        self.log("test/accuracy", self.accuracy.compute(), sync_dist=True)
        self.accuracy.reset()

    def greedy_correct(self, problems: list[Problem]) -> Tensor:
        """(len(problems),) 1 where the greedy answer is right, else 0."""
        encoded = [self.encode(problem) for problem in problems]
        was_training = self.reasoner.training
        with gathered(self):
            rollouts = RolloutEngine(self.reasoner).rollout(
                *left_pad([e.prompt for e in encoded], self.reasoner.pad_id),
                num_thoughts=self.num_thoughts,
                max_answer_tokens=max(self.reasoner.spec.max_answer_tokens, *map(self.longest_text, encoded)),
            )
        self.reasoner.train(was_training)
        answers = map(self.reasoner.read_answer, rollouts.answer_ids[:, 0])
        right = [answer == problem.value for answer, problem in zip(answers, problems, strict=True)]
        return torch.tensor(right, dtype=torch.float, device=self.device)

    # -- checkpoints and optimisation

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Writes the reasoner's description, with the number of thoughts at this time."""
        checkpoint[ENTRY] = describe("reasoner", self.reasoner, num_thoughts=self.num_thoughts)
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
        for name, title in (("method", "method"), ("tokenizer", "tokenizer"), ("backbone", "backbone")):
            if entry["spec"][name] != getattr(self.reasoner.spec, name):
                raise CheckpointError(f"the checkpoint given as ckpt_path was trained with another {title} than this run's")
        keep_given_rates(self, checkpoint)

    def configure_optimizers(self) -> Any:
        """AdamW with a linear warm-up, and a cosine or a constant rate after it."""
        return adamw(self, self.schedule)


class Encoded:
    """Token ids of a problem's parts."""

    def __init__(self, problem: Problem, reasoner: LatentReasoner):
        def encode(text: str) -> list[int]:
            return encode_text(reasoner.tokenizer, text, problem.source)

        self.prompt = reasoner.encode_prompt(problem.question, problem.source)
        self.steps = [encode(f"{step}\n") for step in problem.steps]
        self.marker = encode(reasoner.spec.answer_marker)
        self.answer = [*self.marker, *encode(f" {problem.answer}"), reasoner.eos_id]


class FlatAccuracy(Callback):
    """Ends a training whose validation accuracy stays where it began.

    Args:
        epochs: after so many validations ...
        above: ... the best accuracy must be above this.
    """

    def __init__(self, epochs: int = 10, above: float = 0.0):
        self.epochs = epochs
        self.above = above
        self.best, self.seen = 0.0, 0

    def state_dict(self) -> dict[str, Any]:
        """For an exact resume."""
        return {"best": self.best, "seen": self.seen}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From a checkpoint."""
        self.best, self.seen = state_dict["best"], state_dict["seen"]

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Counts, and ends the run.

        Raises:
            TrainingError: the accuracy is flat.
        """
        accuracy = trainer.callback_metrics.get("val/accuracy")
        if trainer.sanity_checking or accuracy is None:
            return
        self.best, self.seen = max(self.best, float(accuracy)), self.seen + 1
        if self.seen >= self.epochs and self.best <= self.above:
            raise TrainingError(
                f"after {self.seen} validations the best accuracy is {self.best:.1%}, so that training leads nowhere; look at "
                "train/loss, the learning rate and the answer format (callbacks.flat_accuracy=null turns this check off)"
            )
