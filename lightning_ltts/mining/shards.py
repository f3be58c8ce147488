"""Mining the questions of one shard, in packs that fit the engine's budget."""

import time
from dataclasses import dataclass, replace

import torch

from lightning_ltts.data.problems import Problem
from lightning_ltts.engine.packing import halve_if_needed
from lightning_ltts.engine.rollout import RolloutEngine
from lightning_ltts.mining.mine import mine
from lightning_ltts.mining.questions import MinedQuestions
from lightning_ltts.models.latent_lm import left_pad
from lightning_ltts.monitoring.bars import Bar
from lightning_ltts.sampling.keyed_random import question_keys, sample_keys


@dataclass
class ShardMiner:
    """Mines the questions of one shard, in packs that fit the engine's budget."""

    engine: RolloutEngine
    problems: list[Problem]
    prompts: list[list[int]]  # of the problems
    samples: int  # N
    rollouts: int  # M
    seed: int
    keep_all: bool  # also questions whose trajectories are all right or all wrong
    keep_clean: bool  # also thoughts as they were before noise

    def __call__(self, indices: list[int], bar: Bar) -> tuple[MinedQuestions, dict[str, float]]:
        """The problems with these indices, and counts over all of them for the manifest."""
        began = time.perf_counter()
        # rows that are kept to fork from, and where all questions are completed, the completions
        thoughts = self.engine.reasoner.spec.num_thoughts
        forks = max(thoughts - 1, 0) if self.rollouts else 0
        rows = self.samples * (1 + forks * (self.rollouts + 1 if self.keep_all else 1))
        lengths = [len(self.prompts[i]) for i in indices]
        parts, right, mixed, seen = [], 0.0, 0, 0
        with self.engine.counting() as cost:
            for pack in self.engine.packs(lengths, rows):
                for part in halve_if_needed([indices[i] for i in pack], self._mine_pack):
                    right += float(part.correct.sum())
                    mixed += int(part.mixed.sum())
                    seen += len(part)
                    parts.append(part if self.keep_all else part.select(part.mixed))
                    bar.update(len(part))
                    bar.set_postfix(accuracy=f"{right / (seen * self.samples):.3f}", refresh=False)
        shard = MinedQuestions.join(parts)
        counts = {
            "questions": len(indices),
            "mixed": mixed,
            "kept": len(shard),
            "trajectories": len(indices) * self.samples,
            "right": right,
            "label_sum": float(shard.labels.sum()),
            "labels": shard.labels.numel(),
            "token_forwards": cost.token_forwards,
            "tree_nodes": cost.tree_nodes,
            "seconds": time.perf_counter() - began,
        }
        return shard, counts

    def _mine_pack(self, indices: list[int]) -> MinedQuestions:
        """The problems with these indices, mined together."""
        reasoner, problems = self.engine.reasoner, [self.problems[i] for i in indices]
        prompts = left_pad([self.prompts[i] for i in indices], reasoner.pad_id)
        ids, mask = (x.to(reasoner.device) for x in prompts)
        keys = question_keys(self.seed, [problem.id for problem in problems]).to(reasoner.device)
        truths = [problem.value for problem in problems]
        names = sample_keys(keys, self.samples)
        # completions are spent where there is a contrast; questions without one are not kept
        mined = mine(self.engine, ids, mask, names, truths, self.rollouts, not self.keep_all)
        mined = replace(mined, question_index=torch.tensor(indices))
        return mined if self.keep_clean else mined.without_clean_thoughts()
