"""Mining the questions of one shard, in packs that fit the engine's budget."""

import time
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from lightning_ltts.cluster.engine import Place, Work
from lightning_ltts.data.problems import Problem
from lightning_ltts.engine.packing import halve_if_needed
from lightning_ltts.engine.rollout import RolloutEngine
from lightning_ltts.mining.mine import mine
from lightning_ltts.mining.questions import MinedQuestions
from lightning_ltts.models.latent_lm import LatentReasoner, left_pad
from lightning_ltts.monitoring.bars import Bar
from lightning_ltts.sampling.keyed_random import question_keys, sample_keys
from lightning_ltts.sampling.samplers import Sampler


@dataclass(frozen=True)
class Shard:
    """Questions that are mined together."""

    indices: list[int]  # in the list of problems that is mined
    problems: list[Problem]

    def __len__(self) -> int:
        return len(self.indices)


@dataclass
class ShardMiner(Work):
    """Mines the questions of one shard, in packs that fit the engine's budget."""

    reasoner: LatentReasoner
    sampler: Sampler
    samples: int  # N
    rollouts: int  # M
    seed: int
    keep_all: bool  # also questions whose trajectories are all right or all wrong
    keep_clean: bool  # also thoughts as they were before noise
    token_budget: int | None = None
    compile: bool = False
    _place: Any = field(init=False, default=None)
    _engine: Any = field(init=False, default=None)

    def settle(self, place: Place) -> None:
        """Converts the reasoner, or its part of it, and moves that to the device."""
        place.replica.divide(self.reasoner)
        self._place, self.reasoner = place, place.take(self.reasoner)
        self._engine = RolloutEngine(self.reasoner, self.sampler, self.token_budget, self.compile)
        if place.replica.mesh is not None:
            budget = place.replica.least(self._engine.budget)
            self._engine.keep_in_step(budget, place.replica.agree)

    def do(self, shard: Shard) -> tuple[MinedQuestions, dict[str, float]]:
        """As `mine`, without a bar."""
        return self.mine(shard, Bar(disable=True))

    def mine(self, shard: Shard, bar: Bar) -> tuple[MinedQuestions, dict[str, float]]:
        """Mined questions, and counts over all of them for the manifest."""
        began = time.perf_counter()
        engine: RolloutEngine = self._engine
        # rows that are kept to fork from, and where all questions are completed, the completions
        thoughts = self.reasoner.spec.num_thoughts
        forks = max(thoughts - 1, 0) if self.rollouts else 0
        rows = self.samples * (1 + forks * (self.rollouts + 1 if self.keep_all else 1))
        prompts = [self.reasoner.encode_prompt(p.question, p.source) for p in shard.problems]
        parts, right, mixed, seen = [], 0.0, 0, 0

        def run(numbers: list[int]) -> MinedQuestions:
            return self._mine_pack(shard, prompts, numbers)

        with self._place.computing(), engine.counting() as cost:
            for pack in engine.packs([len(prompt) for prompt in prompts], rows):
                for part in halve_if_needed(pack, run, engine.may_halve):
                    right += float(part.correct.sum())
                    mixed += int(part.mixed.sum())
                    seen += len(part)
                    parts.append(part if self.keep_all else part.select(part.mixed))
                    bar.update(len(part))
                    bar.set_postfix(accuracy=f"{right / (seen * self.samples):.3f}", refresh=False)
        mined = MinedQuestions.join(parts)
        counts = {
            "questions": len(shard),
            "mixed": mixed,
            "kept": len(mined),
            "trajectories": len(shard) * self.samples,
            "right": right,
            "label_sum": float(mined.labels.sum()),
            "labels": mined.labels.numel(),
            "token_forwards": cost.token_forwards,
            "tree_nodes": cost.tree_nodes,
            "seconds": time.perf_counter() - began,
        }
        return mined, counts

    def _mine_pack(
        self, shard: Shard, prompts: list[list[int]], numbers: list[int]
    ) -> MinedQuestions:
        """The questions of the shard with these numbers, mined together."""
        reasoner, problems = self.reasoner, [shard.problems[i] for i in numbers]
        padded = left_pad([prompts[i] for i in numbers], reasoner.pad_id)
        ids, mask = (x.to(reasoner.device) for x in padded)
        keys = question_keys(self.seed, [problem.id for problem in problems]).to(reasoner.device)
        truths = [problem.value for problem in problems]
        names = sample_keys(keys, self.samples)
        # completions are spent where there is a contrast; questions without one are not kept
        mined = mine(self._engine, ids, mask, names, truths, self.rollouts, not self.keep_all)
        mined = replace(mined, question_index=torch.tensor([shard.indices[i] for i in numbers]))
        return mined if self.keep_clean else mined.without_clean_thoughts()
