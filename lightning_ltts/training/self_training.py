"""Self-training of a COCONUT reasoner from answers alone, on trajectories that a LatentRM chooses."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lightning_ltts.data.problems import Problem
from lightning_ltts.data.ranges import require_whole
from lightning_ltts.engine.grading import read_answers
from lightning_ltts.engine.rollout import RolloutEngine
from lightning_ltts.errors import ConfigError
from lightning_ltts.models.checkpoints import load_latent_rm
from lightning_ltts.models.latent_lm import left_pad
from lightning_ltts.models.latent_rm import LatentRM
from lightning_ltts.sampling.keyed_random import sample_keys
from lightning_ltts.training.coconut import CoconutModule
from lightning_ltts.training.perturbation import Perturbation
from lightning_ltts.training.sharding import gathered
from lightning_ltts.training.start import Start


class SelfTrainingModule(CoconutModule):
    """A finished COCONUT reasoner that learns on from trajectories which it samples itself.

    A trajectory is sampled with gradients through its thoughts, and the right answer is made
    likelier behind it. Without a LatentRM it is any one. With one, `num_samples` are sampled of
    each problem first; the right one with the highest score is made again, with gradients, and
    learned from. Where none is right, it is the one with the highest score of all. That differs
    from the published recipe, in which a teacher is imitated there.

    Source: github clutch-61/latenttts-experiment-pack, which samples 64, and asks the right one to
    score above a teacher's greedy trajectory.

    Args:
        start: a finished reasoner.
        latent_rm: checkpoint of the LatentRM that chooses; by default nothing does.
        num_samples: N, trajectories of a problem that it chooses from.
        coconut: the other options, as `CoconutModule` has them; a sampler among them.

    Raises:
        ConfigError: a number is out of range, there is nothing to choose from without a sampler,
            stages are mixed, or the LatentRM reads thoughts of another size.
    """

    def __init__(
        self, start: Start, latent_rm: str | None = None, num_samples: int = 8, **coconut: Any
    ):
        require_whole("SelfTrainingModule", "num_samples", num_samples, 1)
        super().__init__(start, **coconut)
        self.num_samples = num_samples
        # in a list, and so not a submodule: its weights are no part of a checkpoint
        self._judges: list[LatentRM] = []
        if latent_rm is None:
            return
        if self.sampler is None or self.sampler.deterministic:
            raise ConfigError(
                "a LatentRM can only choose among trajectories that differ; set model.init_args.sampler"
            )
        if self.uniform_prob:
            raise ConfigError(
                "a LatentRM chooses among trajectories of one stage; set "
                "model.init_args.uniform_prob=0, or leave latent_rm out"
            )
        judge = load_latent_rm(latent_rm).requires_grad_(False).eval()
        if judge.spec.thought_size != self.reasoner.hidden_size:
            raise ConfigError(
                f"the LatentRM {latent_rm} reads thoughts of size {judge.spec.thought_size}, but "
                f"those of the reasoner have {self.reasoner.hidden_size}; use one trained for it"
            )
        self._judges.append(judge)

    def on_fit_start(self) -> None:
        """Says what will be trained, and puts the LatentRM where the reasoner is."""
        super().on_fit_start()
        for judge in self._judges:
            judge.to(self.device)

    def perturbation(self, problems: list[Problem]) -> Perturbation | None:
        """The sampler, and the names of the trajectories (B,) that are learned from in this batch."""
        drawn = super().perturbation(problems)
        if drawn is None or not self._judges:
            return drawn
        return replace(drawn, keys=self.choose(problems, drawn))

    @torch.no_grad()
    def choose(self, problems: list[Problem], drawn: Perturbation) -> Tensor:
        """Names (B,) of the trajectories to learn from, among N that start from the drawn names."""
        # stage 1: N trajectories of each problem, and the greedy one
        steps, (judge,) = self.num_thoughts, self._judges
        prompts = [self.encode(problem).prompt for problem in problems]
        ids, mask = (x.to(self.device) for x in left_pad(prompts, self.reasoner.pad_id))
        names = sample_keys(drawn.keys, self.num_samples)
        engine = RolloutEngine(self.reasoner, drawn.sampler)  # puts it into evaluation mode
        with gathered(self, in_step=True):  # answers end at different times on other devices
            sampled = engine.sample(engine.start(ids, mask, names), names, steps)
            greedy = engine.noiseless.rollout(ids, mask, num_thoughts=steps)
        self.reasoner.train()
        # stage 2: which are right, and what the LatentRM finds of them
        answers = read_answers(self.reasoner, sampled.answer_ids.flatten(0, 1))
        truths = [problem.value for problem in problems for _ in range(self.num_samples)]
        equal = [answer == truth for answer, truth in zip(answers, truths, strict=True)]
        right = torch.tensor(equal, device=self.device).view_as(names)
        reference = greedy if judge.spec.reference else None
        scores = judge.judge(ids, mask, sampled, reference=reference).trajectory
        # stage 3: the best of those that are right, or of all
        candidates = right | ~right.any(1, keepdim=True)
        best = scores.masked_fill(~candidates, float("-inf")).argmax(1, keepdim=True)
        self.log_dict(
            {
                "train/right": right.float().mean(),
                "train/chosen_right": right.gather(1, best).float().mean(),
            },
            batch_size=len(problems),
        )
        return names.gather(1, best).squeeze(1)
