"""The reinforcement stage of CoLaR: trajectories that were right are made likelier (arXiv 2505.16552, section 3)."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Normal

from lightning_ltts.data.problems import Problem
from lightning_ltts.data.ranges import require_whole
from lightning_ltts.errors import ConfigError
from lightning_ltts.models.latent_lm import SpecChanges, left_pad
from lightning_ltts.models.trajectories import Trajectories
from lightning_ltts.sampling import LearnedSpread
from lightning_ltts.training.reinforcement import (
    ReinforcementModule,
    clipped_gain,
)
from lightning_ltts.training.sequences import IGNORED, GivenThoughts, written_answers
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

    def part(self, rows: slice) -> "Experience":
        """Some of the rows."""
        trajectories = self.trajectories.questions(rows)
        return Experience(self.prompts[rows], trajectories, self.advantages[rows])


class ColarGrpoModule(ReinforcementModule):
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

    method = "colar"

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
        require_whole(type(self).__name__, "update_size", update_size, 1)
        super().__init__(start, spec, group_size, clip, seed, max_grad_norm, lr, weight_decay)
        if getattr(self.reasoner.thought_head, "log_std", None) is None:
            raise ConfigError(
                "the reasoner to start from has no learned spread; train it as ColarModule with spread=true"
            )
        self.update_size = update_size
        self.policy = LearnedSpread(scale)
        self.punish_length = punish_length

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
        for part, old in zip(parts, before, strict=True):
            loss = self.surrogate(part, old)
            self.require_finite(loss)
            self.manual_backward(loss)
            self.take_step()
            self.log("train/loss", loss.detach(), prog_bar=True, batch_size=len(part.prompts))

    @torch.no_grad()
    def explore(self, problems: list[Problem]) -> Experience:
        """Samples a group per problem and rewards it."""
        rollouts, reward = self.sample_groups(problems, self.policy)
        if self.punish_length:
            reward = reward / rollouts.thought_counts.clamp(min=1)
        prompts = [self.encode(problem).prompt for problem in problems]
        repeated = [prompt for prompt in prompts for _ in range(self.group_size)]
        return Experience(repeated, rollouts.flatten(), advantages(reward).flatten())

    def log_probs(self, part: Experience) -> tuple[Tensor, Tensor]:
        """Log-probability of the action after each position (R, L), and where there is one (R, L).

        Of a trajectory that was cut off at T thoughts, only the thoughts count.
        """
        reasoner, spec = self.reasoner, self.reasoner.spec
        labels, answers = [], written_answers(part.trajectories.answer_ids[:, 0], reasoner.pad_id)
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
    gain = clipped_gain(new, old, advantage, clip)
    return -((gain * acts).sum(1) / acts.sum(1).clamp(min=1)).mean()
