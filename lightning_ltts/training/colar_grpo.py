"""The reinforcement stage of CoLaR: trajectories that were right are made likelier (arXiv 2505.16552, section 3)."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Normal

from lightning_ltts.data.problems import Problem
from lightning_ltts.data.ranges import MAX_SAMPLES, MAX_SEED, require_number, require_whole
from lightning_ltts.engine.grading import read_answers
from lightning_ltts.engine.rollout import RolloutEngine
from lightning_ltts.errors import ConfigError, TrainingError
from lightning_ltts.models.latent_lm import SpecChanges, left_pad
from lightning_ltts.models.trajectories import Trajectories
from lightning_ltts.sampling import LearnedSpread
from lightning_ltts.training.reasoner import ReasonerModule
from lightning_ltts.training.sequences import IGNORED, Encoded, GivenThoughts
from lightning_ltts.training.start import Start


@dataclass(frozen=True)
class Experience:
    """Trajectories to learn from, one per row, and what they were worth."""

    prompts: list[list[int]]  # R of them
    trajectories: Trajectories  # (R, 1, ...)
    advantages: Tensor  # (R,)

    @property
    def thoughts(self) -> Tensor:
        """(R, T, d): what was fed back."""
        return self.trajectories.thoughts[:, 0]

    @property
    def counts(self) -> Tensor:
        """(R,): thoughts of each."""
        return self.trajectories.thought_counts[:, 0]

    def answers(self, pad_id: int) -> list[list[int]]:
        """Token ids of each answer, without padding and the end of sequence."""
        return [ids[ids != pad_id].tolist() for ids in self.trajectories.answer_ids[:, 0]]

    def part(self, rows: slice) -> "Experience":
        """Some of the rows."""
        trajectories = self.trajectories.questions(rows)
        return Experience(self.prompts[rows], trajectories, self.advantages[rows])


class ColarGrpoModule(ReasonerModule):
    """A CoLaR reasoner with a learned spread, trained by group relative policy optimisation (GRPO, arXiv 2402.03300).

    Each question is sampled `group_size` times with `LearnedSpread`. A trajectory's reward is 1 where its answer is right; its
    advantage is the reward minus the group's mean, over the group's standard deviation. Its actions are the thoughts and the
    tokens from the end of thinking on; the loss is the mean over actions, then over trajectories, of

        -min(ratio x advantage, clip(ratio, 1 - clip, 1 + clip) x advantage),

    where the ratio is that of an action's probability now and when it was sampled. A thought's log-probability is a mean over
    its elements, since a sum over d of them leaves no ratio inside the clip. Answers are decoded greedily: their part is a
    likelihood weighted by the advantage. Dropout is off. There is no penalty for leaving the first policy, as in the paper.

    Args:
        start: a CoLaR checkpoint with a learned spread.
        group_size: trajectories per question.
        update_size: trajectories per optimiser step.
        clip: how far a ratio may be from 1.
        scale: multiple of the learned spread that is sampled with.
        punish_length: divide the reward by the number of thoughts.
        spec: fields of the reasoner's specification to be changed.
        seed: seed of the sampling.
        max_grad_norm: gradients are clipped to it here, because the Trainer cannot where a batch
            makes several steps.
        lr: learning rate of AdamW, constant.
        weight_decay: weight decay of AdamW.

    Raises:
        ConfigError: the reasoner has no learned spread, or the numbers are too small.
    """

    def __init__(
        self,
        start: Start,
        group_size: int = 8,
        update_size: int = 8,
        clip: float = 0.2,
        scale: float = 1.0,
        punish_length: bool = False,
        spec: SpecChanges | None = None,
        seed: int = 0,
        max_grad_norm: float = 1.0,
        lr: float = 1e-6,
        weight_decay: float = 0.01,
    ):
        owner = type(self).__name__
        require_whole(owner, "group_size", group_size, 2, MAX_SAMPLES)
        require_whole(owner, "update_size", update_size, 1)
        require_whole(owner, "seed", seed, 0, MAX_SEED)
        require_number(owner, "clip", clip, open_ends=True)
        require_number(owner, "max_grad_norm", max_grad_norm, open_ends=True)
        if start.pretrained is None:
            raise ConfigError(
                "reinforcement goes on from a trained CoLaR reasoner; give its checkpoint as start.pretrained"
            )
        reasoner = start.build("colar", {}, spec)
        if getattr(reasoner.thought_head, "log_std", None) is None:
            raise ConfigError(
                "the reasoner to start from has no learned spread; train it as ColarModule with spread=true"
            )
        super().__init__(reasoner, start, lr, weight_decay, warmup=0.0, schedule="constant")
        self.automatic_optimization = False
        self.group_size = group_size
        self.update_size = update_size
        self.clip = clip
        self.policy = LearnedSpread(scale)
        self.punish_length = punish_length
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

    def longest_sequence(self, encoded: Encoded) -> int:
        """Positions of prompt, all thoughts, end token and the longest answer."""
        spec = self.reasoner.spec
        return len(encoded.prompt) + spec.num_thoughts + 1 + spec.max_answer_tokens

    def training_step(self, batch: Iterable[Problem], batch_idx: int) -> None:  # type: ignore[override]
        """Samples the batch's groups and makes one optimiser step per `update_size` of their trajectories."""
        self.reasoner.eval()
        experience = self.explore(list(batch))
        parts = [
            experience.part(slice(i, i + self.update_size))
            for i in range(0, len(experience.prompts), self.update_size)
        ]
        with torch.no_grad():
            before = [self.log_probs(part)[0] for part in parts]
        optimizer = self.optimizers()
        for part, old in zip(parts, before, strict=True):
            loss = self.surrogate(part, old)
            if not torch.isfinite(loss):
                raise TrainingError(
                    f"the loss is {float(loss)} in step {self.global_step}; lower model.init_args.lr"
                )
            optimizer.zero_grad()  # type: ignore[union-attr]
            self.manual_backward(loss)
            self.clip_gradients(optimizer, self.max_grad_norm, "norm")  # type: ignore[arg-type]
            optimizer.step()  # type: ignore[union-attr]
            self.log("train/loss", loss.detach(), prog_bar=True, batch_size=len(part.prompts))

    @torch.no_grad()
    def explore(self, problems: list[Problem]) -> Experience:
        """Samples a group per problem and rewards it."""
        reasoner = self.reasoner
        prompts = [self.encode(problem).prompt for problem in problems]
        rollouts = RolloutEngine(reasoner, self.policy).rollout(
            *left_pad(prompts, reasoner.pad_id),
            self.group_size,
            question_ids=[problem.id for problem in problems],
            seed=self.seed * 1_000_003 + self.current_epoch,  # the same after a resume
        )
        answers = read_answers(reasoner, rollouts.answer_ids.flatten(0, 1))
        truths = [problem.value for problem in problems for _ in range(self.group_size)]
        right = [answer == truth for answer, truth in zip(answers, truths, strict=True)]
        reward = torch.tensor(right, dtype=torch.float32, device=self.device)
        reward = reward.view(len(problems), self.group_size)
        mixed = (reward.mean(1) - 0.5).abs() < 0.5
        self.log_dict(
            {
                "train/reward": reward.mean(),
                "train/mixed_groups": mixed.float().mean(),
                "train/thoughts": rollouts.thought_counts.float().mean(),
            },
            batch_size=len(problems),
        )
        if self.punish_length:
            reward = reward / rollouts.thought_counts.clamp(min=1)
        repeated = [prompt for prompt in prompts for _ in range(self.group_size)]
        return Experience(repeated, rollouts.flatten(), advantages(reward).flatten())

    def log_probs(self, part: Experience) -> tuple[Tensor, Tensor]:
        """Log-probability of the action after each position (R, L), and where there is one (R, L).

        Of a trajectory that was cut off at T thoughts, only the thoughts count.
        """
        reasoner, spec = self.reasoner, self.reasoner.spec
        labels, answers = [], part.answers(reasoner.pad_id)
        for prompt, count, answer in zip(part.prompts, part.counts.tolist(), answers, strict=True):
            ended = reasoner.eos_id if len(answer) < spec.max_answer_tokens else IGNORED
            text = [reasoner.end_id, *answer, ended]
            text = text if count < spec.num_thoughts else [IGNORED] * len(text)
            labels.append([IGNORED] * (len(prompt) - 1 + count) + text)
        targets = left_pad(labels, IGNORED)[0].to(self.device)
        texts = [[reasoner.end_id, *answer] for answer in answers]
        rows = GivenThoughts(reasoner, part.prompts, part.thoughts, part.counts, texts)
        hidden = rows.read()
        chances = reasoner.logits(hidden).float().log_softmax(-1)
        tokens = chances.gather(-1, targets.clamp(min=0)[..., None]).squeeze(-1)
        spread = reasoner.thought_head.spread(hidden)
        assert spread is not None, "checked when the module was made"
        mean = reasoner.thought_head(hidden)
        policy = Normal(mean.float(), self.policy.scale * spread.float())
        thoughts = policy.log_prob(rows.next_thoughts.float()).mean(-1)
        acts = rows.before_thought | (targets >= 0)
        return torch.where(rows.before_thought, thoughts, tokens) * acts, acts

    def surrogate(self, part: Experience, old: Tensor) -> Tensor:
        """The clipped objective as a loss; `old` (R, L) are the log-probabilities at sampling."""
        new, acts = self.log_probs(part)
        return clipped_surrogate(new, old, acts, part.advantages, self.clip)


def advantages(reward: Tensor) -> Tensor:
    """Rewards of groups (Q, N) -> each minus its group's mean, over the group's standard deviation; 0 where all are equal."""
    return (reward - reward.mean(1, keepdim=True)) / (reward.std(1, keepdim=True) + 1e-6)


def clipped_surrogate(
    new: Tensor, old: Tensor, acts: Tensor, advantage: Tensor, clip: float
) -> Tensor:
    """GRPO's loss for log-probabilities (R, L), of which `acts` (R, L) count, and advantages (R,)."""
    ratio = (new - old).exp()
    gain = torch.minimum(
        ratio * advantage[:, None], ratio.clamp(1 - clip, 1 + clip) * advantage[:, None]
    )
    return -((gain * acts).sum(1) / acts.sum(1).clamp(min=1)).mean()
