"""Reinforcement of reasoners whose number of thoughts is fixed, with any sampler as exploration."""

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lightning_ltts.data.problems import Problem
from lightning_ltts.data.ranges import require_number, require_whole
from lightning_ltts.errors import ConfigError
from lightning_ltts.models.families import MatrixName
from lightning_ltts.models.latent_lm import LatentReasoner, SpecChanges
from lightning_ltts.sampling import Deterministic, Sampler
from lightning_ltts.sampling.keyed_random import question_keys, sample_keys
from lightning_ltts.sampling.sampled_answers import SampledAnswers
from lightning_ltts.training.perturbation import Perturbation
from lightning_ltts.training.reinforcement import (
    ReinforcementModule,
    clipped_gain,
    mixed_groups,
)
from lightning_ltts.training.sequences import IGNORED, think, written_answers
from lightning_ltts.training.start import Start
from lightning_ltts.training.trained_parts import train_only

MAX_LOG_RATIO = 10.0  # of the policies that the divergence compares; beyond it, exp says nothing


@dataclass(frozen=True)
class Groups:
    """Sampled groups of G trajectories each, and what is needed to compute them again."""

    prompts: list[list[int]]  # Q of them
    keys: Tensor  # (Q * G,) names of the trajectories
    answers: list[list[int]]  # Q * G, token ids, end of sequence included where it was written
    advantages: Tensor  # (Q * G,)

    def parts(self, groups: int) -> list["Groups"]:
        """The same in parts of so many groups."""
        size = len(self.keys) // max(len(self.prompts), 1)
        return [
            Groups(
                self.prompts[first : first + groups],
                self.keys[first * size : (first + groups) * size],
                self.answers[first * size : (first + groups) * size],
                self.advantages[first * size : (first + groups) * size],
            )
            for first in range(0, len(self.prompts), groups)
        ]


class GrpoModule(ReinforcementModule):
    """A COCONUT or CODI reasoner trained by group relative policy optimisation (GRPO, arXiv 2402.03300).

    Of each question of a batch, `group_size` trajectories are sampled: thoughts under the sampler,
    answers by drawing their tokens. The first groups with right and wrong trajectories are kept. An
    advantage is the reward minus its group's mean. Where it is `relative`, it is divided by that
    mean: the gradient is then that of the logarithm of the chance to be right (MaxRL, arXiv
    2602.02710), and no longer smallest where right trajectories are rare.

    The actions are the answer's tokens. They are read again behind thoughts that are made anew under
    the same perturbation, with gradients, so that a ratio of probabilities tells the change of the
    weights alone. The loss of a trajectory is the sum over its tokens of

        -min(ratio x advantage, clip(ratio, 1 - clip, 1 + clip) x advantage) + kl_factor x k3,

    with k3 = r - log r - 1 for r the frozen start's probability of the token over this policy's. It
    is neither divided by the answer's length nor by the rewards' deviation. The recipe is that of
    github jihwan1205/Singular-Value-Perturbation.

    Args:
        start: a trained reasoner with a fixed number of thoughts; with none, the steps that it
            writes are its actions.
        sampler: what makes the thoughts of a group differ; by default nothing does, and only
            answers are drawn.
        group_size: G, trajectories of each question.
        oversampling: how many times more questions are sampled than are kept at most.
        temperature: divides the logits that answers are drawn from.
        passes: optimiser steps on the same trajectories.
        groups_at_once: groups whose gradients are computed together; memory depends on it, results
            do not.
        clip: how far from 1 a ratio of probabilities is rewarded.
        kl_factor: weight of the divergence from the start; 0 leaves it out, and its copy of the
            start.
        relative: divide an advantage by its group's mean reward.
        trained: matrices of every block that are trained, for instance [v]; by default all weights.
        spec: fields of the reasoner's specification to be changed.
        seed: seed of the sampling.
        max_grad_norm: gradients are clipped to it here, because the Trainer cannot where a batch
            makes several steps.
        lr: peak learning rate of AdamW.
        weight_decay: weight decay of AdamW.
        warmup: share of all batches in which the learning rate rises, from 0 to 1.
        schedule: course of the learning rate after that; constant in the published recipe.

    Raises:
        ConfigError: the reasoner ends its thinking by itself, the sampler perturbs answers too, a
            number is out of range, or options contradict each other.
    """

    def __init__(
        self,
        start: Start,
        sampler: Sampler | None = None,
        group_size: int = 32,
        oversampling: int = 2,
        temperature: float = 1.0,
        passes: int = 2,
        groups_at_once: int = 8,
        clip: float = 0.2,
        kl_factor: float = 0.02,
        relative: bool = False,
        trained: Sequence[MatrixName] | None = None,
        spec: SpecChanges | None = None,
        seed: int = 0,
        max_grad_norm: float = 1.0,
        lr: float = 6e-5,
        weight_decay: float = 0.0,
        warmup: float = 0.0,
        schedule: Literal["cosine", "constant"] = "constant",
    ):
        owner = type(self).__name__
        require_whole(owner, "oversampling", oversampling, 1)
        require_whole(owner, "passes", passes, 1)
        require_whole(owner, "groups_at_once", groups_at_once, 1)
        require_number(owner, "kl_factor", kl_factor)
        if getattr(sampler, "answer", False):
            raise ConfigError(
                "reinforcement reads answers again in one pass, which a sampler with answer=true "
                "perturbs otherwise than when they were drawn; set answer=false"
            )
        super().__init__(
            start, spec, group_size, clip, seed, max_grad_norm, lr, weight_decay, sampler,
            warmup=warmup, schedule=schedule,
        )  # fmt: skip
        reasoner = self.reasoner
        if reasoner.spec.open_ended:
            raise ConfigError(
                "GrpoModule needs a fixed number of thoughts, and this reasoner ends its thinking "
                "by itself; use ColarGrpoModule (model=colar_grpo)"
            )
        frozen = copy.deepcopy(reasoner).requires_grad_(False).eval() if kl_factor else None
        if trained is not None:
            self._train_only(trained)
        # in a list, and so not a submodule: its weights are no part of a checkpoint
        self._frozen: list[LatentReasoner] = [] if frozen is None else [frozen]
        never = {reasoner.pad_id, *reasoner.suppressed_ids} - {reasoner.eos_id}
        self.policy = SampledAnswers(sampler or Deterministic(), temperature, sorted(never))
        self.oversampling = oversampling
        self.passes = passes
        self.groups_at_once = groups_at_once
        self.kl_factor = kl_factor
        self.relative = relative

    def _train_only(self, names: Sequence[MatrixName]) -> None:
        if self.start.lora is not None:
            raise ConfigError(
                "give either trained or start.lora of GrpoModule: adapters are trained alone"
            )
        if self.weight_decay:
            raise ConfigError(
                "weight_decay of GrpoModule must be 0 where trained names matrices, since it would "
                "change what stands beside them"
            )
        train_only(self.reasoner, names)

    def on_fit_start(self) -> None:
        """Says what will be trained, and puts the frozen start where the reasoner is."""
        super().on_fit_start()
        for frozen in self._frozen:
            frozen.to(self.device)

    def training_step(self, batch: Iterable[Problem], batch_idx: int) -> None:  # type: ignore[override]
        """Samples the batch's groups, and makes `passes` optimiser steps on those that can teach."""
        # stage 1: trajectories and their rewards
        self.reasoner.eval()
        problems = list(batch)
        groups = self.explore(problems)
        if not groups.prompts:  # on all devices: nothing to learn from in this batch
            return
        # stage 2: the same trajectories made again, with gradients, once for each step
        parts = groups.parts(self.groups_at_once)
        references = [self._reference(part) for part in parts]
        before: list[Tensor] = []  # what the first pass says is what sampled
        for _ in range(self.passes):
            for index, part in enumerate(parts):
                new, acts = self.log_probs(part)
                if len(before) == index:
                    before.append(new.detach())
                terms = self.surrogate(new, before[index], references[index], acts, part.advantages)
                loss = terms.sum() / len(groups.keys)
                self.require_finite(loss)
                self.manual_backward(loss)
                self._log_part(new.detach(), before[index], references[index], acts)
            self.take_step()

    # -- what is sampled

    @torch.no_grad()
    def explore(self, problems: list[Problem]) -> Groups:
        """Samples a group of each problem, and keeps the first of those that can teach."""
        rollouts, reward = self.sample_groups(problems, self.policy)
        kept = self._kept(reward)
        names = question_keys(self.sampling_seed, [problem.id for problem in problems])
        keys = sample_keys(names, self.group_size)[kept.cpu()].flatten()
        advantages = self.advantages(reward)[kept].flatten()
        spec = self.reasoner.spec
        answers = written_answers(
            rollouts.answer_ids[kept.to(rollouts.answer_ids.device)].flatten(0, 1),
            self.reasoner.pad_id,
        )
        ended = [self.reasoner.eos_id]
        answers = [ids if len(ids) == spec.max_answer_tokens else ids + ended for ids in answers]
        prompts = [self.encode(problems[index]).prompt for index in kept.tolist()]
        return Groups(prompts, keys.to(self.device), answers, advantages)

    def advantages(self, reward: Tensor) -> Tensor:
        """What each trajectory was better than its group by, for rewards (Q, G); 0 where none is right."""
        mean = reward.mean(1, keepdim=True)
        better = reward - mean
        return better / mean.clamp(min=1 / self.group_size) if self.relative else better

    def _kept(self, reward: Tensor) -> Tensor:
        """Numbers of the groups to learn from, for rewards (Q, G).

        On several devices each keeps as many, so that they meet at every step: one that has fewer
        adds groups without an advantage.
        """
        mixed = mixed_groups(reward)
        most = -(-len(reward) // self.oversampling)
        count = int(mixed.sum().clamp(max=most))
        if self.trainer.world_size > 1:
            count = int(self.all_gather(torch.tensor(count, device=self.device)).max())  # type: ignore[union-attr]
        return mixed.float().argsort(descending=True, stable=True)[:count].sort().values

    # -- what is learned

    def log_probs(
        self, groups: Groups, reasoner: LatentReasoner | None = None
    ) -> tuple[Tensor, Tensor]:
        """Log-probabilities (R, A) of the answers' tokens, and which are there (R, A) bool.

        Args:
            groups: the trajectories.
            reasoner: the policy, by default the one that is trained.
        """
        reasoner = reasoner or self.reasoner
        after = think(
            reasoner,
            groups.prompts,
            groups.answers,
            reasoner.spec.num_thoughts,
            Perturbation(self.policy.thoughts, groups.keys),
            copies=self.group_size,
        )
        with after.reading(reasoner):
            hidden = reasoner.read(after.inputs, after.positions, after.cache, after.mask)
        logits = reasoner.logits(hidden[:, -after.labels.shape[1] :]).float()
        chances = (self.policy.allowed(logits) / self.policy.temperature).log_softmax(-1)
        acts = after.labels != IGNORED
        tokens = after.labels.where(acts, 0)[..., None]
        return chances.gather(-1, tokens).squeeze(-1).masked_fill(~acts, 0.0), acts

    @torch.no_grad()
    def _reference(self, groups: Groups) -> Tensor | None:
        """The same of the frozen start, where it is kept."""
        return self.log_probs(groups, self._frozen[0])[0] if self._frozen else None

    def surrogate(
        self,
        new: Tensor,
        old: Tensor,
        reference: Tensor | None,
        acts: Tensor,
        advantages: Tensor,
    ) -> Tensor:
        """The loss of each trajectory (R,), for log-probabilities (R, A) and advantages (R,)."""
        terms = -clipped_gain(new, old, advantages, self.clip)
        if reference is not None:
            terms = terms + self.kl_factor * divergence(new, reference)
        return (terms * acts).sum(1)

    def _log_part(self, new: Tensor, old: Tensor, reference: Tensor | None, acts: Tensor) -> None:
        """How far the policy is from the one that sampled, and from the start."""
        tokens = acts.sum().clamp(min=1)
        far = ((new - old).exp() - 1).abs() > self.clip
        figures = {"train/clipped": (far & acts).sum() / tokens}
        if reference is not None:
            figures["train/kl"] = (divergence(new, reference) * acts).sum() / tokens
        self.log_dict(figures, batch_size=len(new))


def divergence(new: Tensor, reference: Tensor) -> Tensor:
    """Estimate k3 of KL(policy || reference) for each token, from log-probabilities of both.

    Source: J. Schulman, "Approximating KL divergence" (2020): r - log r - 1, which is never negative
    and right on average.
    """
    log_ratio = (reference - new).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    return log_ratio.exp() - log_ratio - 1
