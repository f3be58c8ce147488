"""Do the thoughts matter? Greedy trajectories whose thoughts are replaced by what holds nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from lightning_ltts.data.answers import format_answer
from lightning_ltts.data.ranges import require_whole
from lightning_ltts.engine.grading import read_answers
from lightning_ltts.engine.rollout import RolloutEngine
from lightning_ltts.engine.walk import Branches
from lightning_ltts.errors import ConfigError, shorten
from lightning_ltts.files import settings_of
from lightning_ltts.models.latent_lm import left_pad
from lightning_ltts.sampling.keyed_random import fold, normal
from lightning_ltts.sampling.samplers import Sampler
from lightning_ltts.sampling.streams import Stream

By = Literal["zero", "mean", "other", "noise"]


class ThoughtAblation:
    """Replaces the thoughts of greedy trajectories, all of them and each by itself.

    Where answers stay right, the reasoner does not use its thoughts. A thought that is replaced is
    read on from; those after it are made anew, unless they are replaced, too. Means and others are
    those of greedy trajectories of a pool of questions, the first of the problem set, so that a
    result does not depend on the batch that a question stands in.

    Source: the question is asked in arXiv 2602.22441.

    Args:
        by: what comes in the thought's place: `zero`, the pool's `mean` of that step, that of some
            `other` question of the pool, or `noise` of equal norm.
        each_step: also replace single thoughts; not of a reasoner that ends its thinking by itself.
        pool: questions in the pool.

    Raises:
        ConfigError: nothing known to put in their place, or a pool of fewer than 2.
    """

    def __init__(
        self,
        by: Sequence[By] = ("zero", "mean", "other", "noise"),
        each_step: bool = True,
        pool: int = 64,
    ):
        unknown = [kind for kind in by if kind not in get_args(By)]
        if unknown or not by or isinstance(by, str):
            raise ConfigError(
                f"by={shorten(by)} of ThoughtAblation must be a list of some of "
                f"{', '.join(get_args(By))}"
            )
        require_whole("ThoughtAblation", "pool", pool, 2, 10_000)
        self.by = tuple(by)
        self.each_step = each_step
        self.pool = pool

    def settings(self) -> dict[str, Any]:
        """All options, which determine what is predicted."""
        return settings_of(self)

    def places(self, engine: RolloutEngine) -> list[int | None]:
        """The steps that are replaced, from 0; None stands for all together."""
        spec = engine.reasoner.spec
        single = self.each_step and not spec.open_ended and spec.num_thoughts > 1
        return [None, *(range(spec.num_thoughts) if single else ())]

    def read_pool(
        self, engine: RolloutEngine, prompts: Sequence[list[int]], keys: Tensor
    ) -> "Pool":
        """The greedy trajectories of the first prompts.

        Args:
            engine: of the run; its sampler is not used.
            prompts: token ids of the prompts of a problem set.
            keys: (Q,) names of their questions.

        Raises:
            ConfigError: there are fewer than 2 questions.
        """
        if len(prompts) < 2:
            raise ConfigError(
                "ThoughtAblation takes thoughts of other questions, and there is one question "
                "alone; set model.init_args.ablation=null"
            )
        reasoner = engine.reasoner
        ids, mask = left_pad(prompts[: self.pool], reasoner.pad_id)
        greedy = engine.noiseless.rollout(ids, mask)
        return Pool(greedy.thoughts[:, 0], greedy.thought_mask[:, 0], keys[: self.pool])

    def __call__(
        self, engine: RolloutEngine, prompt: Branches, pool: "Pool"
    ) -> list[list[dict[str, Any]]]:
        """What each of Q questions answers with its thoughts replaced, as its row holds it.

        Args:
            engine: of the run; its sampler is not used.
            prompt: Q rows that have read their prompts; they can be used again.
            pool: whose thoughts come in their place.
        """
        rows = torch.arange(len(prompt.keys))
        found: list[list[dict[str, Any]]] = [[] for _ in rows]
        for by in self.by:
            for place in self.places(engine):
                replaced = engine.with_sampler(_Replaced(by, place, pool))
                ids = replaced.sample(prompt.take(rows), prompt.keys[:, None]).answer_ids[:, 0]
                for row, answer in zip(found, read_answers(engine.reasoner, ids), strict=True):
                    row.append({"by": by, "step": place, "answer": format_answer(answer)})
        return found


@dataclass(frozen=True)
class Pool:
    """Greedy thoughts of P questions, which others' are replaced by."""

    thoughts: Tensor  # (P, T, d)
    mask: Tensor  # (P, T): 1 where there is such a thought
    keys: Tensor  # (P,) names of the questions

    def mean(self, step: int) -> Tensor:
        """(d,): of the thoughts of this step; zero where no question has one."""
        mask = self.mask[:, step, None].to(self.thoughts.dtype)
        return (self.thoughts[:, step] * mask).sum(0) / mask.sum().clamp(min=1)

    def others(self, keys: Tensor, step: int) -> Tensor:
        """(R, d): for each of R names, the thought of a question with another name.

        The question is the same at every step, and drawn by the name.
        """
        size = len(self.keys)
        chosen = fold(keys, Stream.REPLACEMENT) % size
        itself = self.keys[chosen] == keys
        return self.thoughts[(chosen + itself) % size, step]


class _Replaced(Sampler):
    """Puts something else in the place of the thoughts of one step, or of all."""

    def __init__(self, by: By, place: int | None, pool: Pool):
        self.by, self.place, self.pool = by, place, pool

    def perturb(self, thought: Tensor, *, keys: Tensor, step: int) -> Tensor:  # type: ignore[override]
        if self.place not in (None, step):
            return thought
        if self.by == "zero":
            return torch.zeros_like(thought)
        if self.by == "mean":
            return self.pool.mean(step).to(thought.dtype).expand_as(thought)
        if self.by == "other":
            return self.pool.others(keys, step).to(thought.dtype)
        noise = normal(fold(keys, Stream.REPLACEMENT, step), thought.shape[-1]).to(thought.dtype)
        scale: Tensor = thought.norm(dim=-1, keepdim=True) / noise.norm(dim=-1, keepdim=True)
        return noise * scale
