"""What reinforcement has in common, whatever the method: groups of trajectories, rewards, steps."""

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from lightning_ltts.data.problems import Problem
from lightning_ltts.data.ranges import MAX_SAMPLES, MAX_SEED, require_number, require_whole
from lightning_ltts.engine.grading import read_answers
from lightning_ltts.engine.rollout import RolloutEngine, Rollouts
from lightning_ltts.errors import ConfigError, TrainingError
from lightning_ltts.models.latent_lm import SpecChanges, left_pad
from lightning_ltts.sampling import Sampler
from lightning_ltts.training.reasoner import ReasonerModule
from lightning_ltts.training.sequences import Encoded
from lightning_ltts.training.start import Start


class ReinforcementModule(ReasonerModule):
    """A trained reasoner that learns from the rewards of trajectories that it samples itself.

    A trajectory's reward is 1 where its answer is right, else 0, so problems need no steps. Dropout
    of the model's own is off. Subclasses say in `training_step` what is learned from the rewards.

    Args:
        start: a trained reasoner.
        spec: fields of its specification to be changed.
        group_size: G, trajectories of each question.
        clip: how far from 1 a ratio of probabilities is rewarded.
        seed: seed of the sampling.
        max_grad_norm: gradients are clipped to it here, because the Trainer cannot where a batch
            makes several steps.
        lr: learning rate of AdamW, its peak.
        weight_decay: weight decay of AdamW.
        sampler: what makes the trajectories of a group differ in their thoughts.
        warmup: share of all batches in which the learning rate rises, from 0 to 1.
        schedule: course of the learning rate after that.

    Raises:
        ConfigError: a number is out of range, or no checkpoint is given, or one of another method.
    """

    method: ClassVar[str | None] = None  # of the reasoner; any by default

    def __init__(
        self,
        start: Start,
        spec: SpecChanges | None,
        group_size: int,
        clip: float,
        seed: int,
        max_grad_norm: float,
        lr: float,
        weight_decay: float,
        sampler: Sampler | None = None,
        warmup: float = 0.0,
        schedule: Literal["cosine", "constant"] = "constant",
    ):
        owner = type(self).__name__
        require_whole(owner, "group_size", group_size, 2, MAX_SAMPLES)
        require_whole(owner, "seed", seed, 0, MAX_SEED)
        require_number(owner, "clip", clip, open_ends=True)
        require_number(owner, "max_grad_norm", max_grad_norm, open_ends=True)
        if start.pretrained is None:
            raise ConfigError(
                "reinforcement goes on from a trained reasoner; give its checkpoint as start.pretrained"
            )
        reasoner = start.build(self.method, {}, spec)
        super().__init__(reasoner, start, lr, weight_decay, warmup, schedule, sampler)
        self.automatic_optimization = False
        self.group_size = group_size
        self.clip = clip
        self.seed = seed
        self.max_grad_norm = max_grad_norm

    def configure_model(self) -> None:
        """Refuses sharded weights, which several optimiser steps on one batch would leave scattered.

        Raises:
            ConfigError: the strategy is ModelParallelStrategy.
        """
        if self.device_mesh is not None:
            raise ConfigError(
                "reinforcement does not train sharded weights; use trainer.strategy=ddp, and LoRA to save memory"
            )

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Moves the learning rate on, which Lightning leaves to modules that make their own steps.

        It does so once for each batch, however many steps the batch has made; those before the
        first step do not count.
        """
        super().on_train_batch_end(outputs, batch, batch_idx)
        if self.global_step:
            self.lr_schedulers().step()  # type: ignore[union-attr]

    def longest_sequence(self, encoded: Encoded) -> int:
        """Positions of prompt, all thoughts, end token and the longest answer."""
        spec = self.reasoner.spec
        return len(encoded.prompt) + spec.num_thoughts + 1 + spec.max_answer_tokens

    @property
    def sampling_seed(self) -> int:
        """The seed of this epoch's trajectories, the same after a resume."""
        return self.seed * 1_000_003 + self.current_epoch

    @torch.no_grad()
    def sample_groups(self, problems: list[Problem], policy: Sampler) -> tuple[Rollouts, Tensor]:
        """A group of trajectories of each of Q problems, and their rewards (Q, G)."""
        rollouts, reward = self.graded(problems, policy, self.group_size, self.sampling_seed)
        self.log_dict(
            {
                "train/reward": reward.mean(),
                "train/mixed_groups": mixed_groups(reward).float().mean(),
                "train/thoughts": rollouts.thought_counts.float().mean(),
            },
            batch_size=len(problems),
        )
        return rollouts, reward

    @torch.no_grad()
    def graded(
        self, problems: list[Problem], policy: Sampler, samples: int, seed: int
    ) -> tuple[Rollouts, Tensor]:
        """N trajectories of each of Q problems, and (Q, N) 1 where one's answer is right."""
        prompts = [self.encode(problem).prompt for problem in problems]
        rollouts = RolloutEngine(self.reasoner, policy).rollout(
            *left_pad(prompts, self.reasoner.pad_id),
            samples,
            question_ids=[problem.id for problem in problems],
            seed=seed,
        )
        answers = read_answers(self.reasoner, rollouts.answer_ids.flatten(0, 1))
        truths = [problem.value for problem in problems for _ in range(samples)]
        right = [answer == truth for answer, truth in zip(answers, truths, strict=True)]
        correct = torch.tensor(right, dtype=torch.float32, device=self.device)
        return rollouts, correct.view(len(problems), samples)

    def require_finite(self, loss: Tensor) -> None:
        """Ends a run whose loss is not a number.

        Raises:
            TrainingError: it is not.
        """
        if not torch.isfinite(loss):
            raise TrainingError(
                f"the loss is {loss.item()} in step {self.global_step}; lower model.init_args.lr"
            )

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clips the gradients, here because half precision has scaled them up until now."""
        self.clip_gradients(optimizer, self.max_grad_norm, "norm")

    def take_step(self) -> None:
        """One step of the optimiser along the gradients that are there, which are then gone."""
        optimizer = self.optimizers()
        optimizer.step()  # type: ignore[union-attr]
        optimizer.zero_grad()  # type: ignore[union-attr]


def mixed_groups(reward: Tensor) -> Tensor:
    """Rewards (Q, G) of 0 and 1 -> (Q,) bool: groups with both, which alone can teach."""
    return (reward.mean(1) - 0.5).abs() < 0.5


def clipped_gain(new: Tensor, old: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """What PPO's clipped objective makes of actions (R, L); rows have advantages (R,).

    min(ratio x advantage, clip(ratio, 1 - clip, 1 + clip) x advantage), where the ratio is that of an
    action's probability now and when it was sampled; `new` and `old` are their logarithms.
    """
    ratio = (new - old).exp()
    return torch.minimum(
        ratio * advantage[:, None], ratio.clamp(1 - clip, 1 + clip) * advantage[:, None]
    )
