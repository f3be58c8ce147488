"""Training a learned Gaussian sampler on a reasoner that stays as it is."""

from collections.abc import Iterable
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from torch.distributions import Normal
from torchmetrics import MeanMetric

from lightning_ltts.data.problems import Problem
from lightning_ltts.data.ranges import require_whole
from lightning_ltts.models.latent_lm import SpecChanges
from lightning_ltts.models.trajectories import Trajectories
from lightning_ltts.sampling.learned_noise import LiveNoise, NoiseHead
from lightning_ltts.training.reinforcement import ReinforcementModule, clipped_gain, mixed_groups
from lightning_ltts.training.start import Start
from lightning_ltts.voting.estimates import pass_at_k

FILE = "learned_noise.safetensors"
VALIDATED = 8  # samples of a validation problem


class NoiseModule(ReinforcementModule):
    """A `NoiseHead` trained by GRPO (arXiv 2402.03300) to perturb a frozen reasoner's thoughts.

    Source: the Gaussian Thought Sampler, arXiv 2602.14077. Of each question `group_size`
    trajectories are sampled; a trajectory's reward is 1 where its answer is right, its advantage the
    reward minus its group's mean. Its actions are the thoughts: a thought's log-probability is that
    of the Gaussian it was drawn from, a mean over its elements. The loss is the mean over thoughts,
    then over the trajectories of groups with right and wrong ones, of

        -min(ratio x advantage, clip(ratio, 1 - clip, 1 + clip) x advantage).

    The reasoner is not read again, since thoughts before noise are kept when they are sampled.
    Validation samples 8 trajectories of each problem: `val/accuracy` is the share that is right,
    `val/coverage` that of problems with a right one. The head is written to
    `learned_noise.safetensors` beside the checkpoints, for `sampler=learned_noise`.

    Args:
        start: a trained reasoner.
        hidden: size of the head's inner layer.
        std: the spread that it begins with.
        group_size: G, trajectories of each question.
        passes: optimiser steps on the same trajectories.
        clip: how far from 1 a ratio of probabilities is rewarded.
        spec: fields of the reasoner's specification to be changed.
        seed: seed of the sampling.
        max_grad_norm: gradients are clipped to it.
        lr: learning rate of AdamW, constant.
        weight_decay: weight decay of AdamW.

    Raises:
        ConfigError: a number is out of range, or no checkpoint is given.
    """

    def __init__(
        self,
        start: Start,
        hidden: int = 64,
        std: float = 0.6,
        group_size: int = 16,
        passes: int = 2,
        clip: float = 0.2,
        spec: SpecChanges | None = None,
        seed: int = 0,
        max_grad_norm: float = 1.0,
        lr: float = 1e-3,
        weight_decay: float = 0.0,
    ):
        require_whole(type(self).__name__, "passes", passes, 1)
        super().__init__(start, spec, group_size, clip, seed, max_grad_norm, lr, weight_decay)
        self.reasoner.requires_grad_(False)
        self.head = NoiseHead(self.reasoner.hidden_size, hidden, std)
        self.policy = LiveNoise(self.head)
        self.passes = passes
        self.coverage = MeanMetric()

    def training_step(self, batch: Iterable[Problem], batch_idx: int) -> None:  # type: ignore[override]
        """Samples the batch's groups, and makes `passes` optimiser steps on them."""
        rollouts, reward = self.sample_groups(list(batch), self.policy)
        advantages = (reward - reward.mean(1, keepdim=True)).flatten()
        counted = mixed_groups(reward).sum() * self.group_size
        trajectories = rollouts.flatten()
        old = self.log_probs(trajectories).detach()
        mask = trajectories.thought_mask[:, 0]
        for _ in range(self.passes):
            gain = clipped_gain(self.log_probs(trajectories), old, advantages, self.clip)
            per_row = (gain * mask).sum(1) / mask.sum(1).clamp(min=1)
            loss = -per_row.sum() / counted.clamp(min=1)
            self.require_finite(loss)
            self.manual_backward(loss)
            self.take_step()
        spread = self.head(trajectories.clean_thoughts)[1].mean()
        self.log("train/spread", spread.detach(), batch_size=len(reward))

    def log_probs(self, trajectories: Trajectories) -> Tensor:
        """Log-probability (R, T) of each thought of R trajectories, a mean over its elements."""
        assert trajectories.clean_thoughts is not None, "the engine keeps them"
        clean = trajectories.clean_thoughts[:, 0].float()
        mean, std = self.head(clean)
        drawn = trajectories.thoughts[:, 0].float()
        result: Tensor = Normal(clean + mean, std).log_prob(drawn).mean(-1)
        return result

    # -- validation by sampling, since greedy decoding does not change

    def validation_step(self, batch: Iterable[Problem], batch_idx: int) -> None:
        """Which of 8 samples of each problem are right; the same noise each time."""
        problems = list(batch)
        if not problems:
            return
        _, correct = self.graded(problems, self.policy, VALIDATED, self.seed)
        self.accuracy.update(correct.mean(1))
        self.coverage.update(pass_at_k(correct, VALIDATED))

    def on_validation_epoch_end(self) -> None:
        """Logs the share of right samples and of problems with a right one."""
        self.log("val/coverage", self.coverage.compute(), prog_bar=True, sync_dist=True)
        self.coverage.reset()
        super().on_validation_epoch_end()

    def on_fit_end(self) -> None:
        """Writes the head's own file."""
        path = Path(self.trainer.default_root_dir) / FILE
        if self.trainer.is_global_zero:
            self.head.save(path)
        rank_zero_info(f"the learned sampler: {path}")
