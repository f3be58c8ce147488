"""Mining the questions of one shard, in packs that fit the engine's budget."""

import time
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from lightning_ltts.data.problems import Problem
from lightning_ltts.engine.packing import halve_if_needed
from lightning_ltts.engine.rollout import Cost, RolloutEngine
from lightning_ltts.mining.mine import mine
from lightning_ltts.mining.store import Shard, join_shards
from lightning_ltts.models.latent_lm import left_pad
from lightning_ltts.sampling.keyed_random import question_keys, sample_keys


@dataclass
class ShardMiner:
    """Mines the questions of one shard, in packs that fit the engine's budget."""

    engine: RolloutEngine
    problems: list[Problem]
    prompts: list[list[int]]
    samples: int
    rollouts: int
    seed: int
    keep_clean: bool

    def __call__(self, indices: list[int], keep_all: bool, bar: tqdm) -> tuple[Shard, dict[str, float]]:
        """The questions with these indices in one shard, and counts over all of them for the manifest."""
        began, self.engine.cost = time.perf_counter(), Cost()
        spec = self.engine.reasoner.spec
        rows = self.samples * (1 + (spec.num_thoughts - 1) * self.rollouts)
        lengths = [len(self.prompts[i]) for i in indices]
        parts, right, mixed, seen = [], 0.0, 0, 0
        for pack in self.engine.packs(lengths, rows, spec.num_thoughts + 2 + spec.max_answer_tokens):
            for part in halve_if_needed([indices[i] for i in pack], self._mine_pack):
                correct = part.labels[..., -1]
                is_mixed = (correct.amax(1) > 0) & (correct.amin(1) < 1)
                right += float(correct.sum())
                mixed += int(is_mixed.sum())
                seen += len(correct)
                parts.append(part if keep_all else _select(part, is_mixed))
                bar.update(len(correct))
                bar.set_postfix(accuracy=f"{right / (seen * self.samples):.3f}", refresh=False)
        shard = join_shards(parts)
        counts = {
            "questions": len(indices),
            "mixed": mixed,
            "kept": len(shard.question_index),
            "trajectories": len(indices) * self.samples,
            "right": right,
            "label_sum": float(shard.labels.sum()),
            "labels": shard.labels.numel(),
            "token_forwards": self.engine.cost.token_forwards,
            "tree_nodes": self.engine.cost.tree_nodes,
            "seconds": time.perf_counter() - began,
        }
        return shard, counts

    def _mine_pack(self, chunk: list[int]) -> Shard:
        reasoner = self.engine.reasoner
        prompts = [self.prompts[i] for i in chunk]
        ids, mask = (x.to(reasoner.device) for x in left_pad(prompts, reasoner.pad_id))
        keys = question_keys(self.seed, [self.problems[i].id for i in chunk]).to(reasoner.device)
        truths = [self.problems[i].value for i in chunk]
        mined = mine(self.engine, ids, mask, sample_keys(keys, self.samples), truths, self.rollouts)
        return Shard(
            prompt_ids=torch.tensor([token for prompt in prompts for token in prompt], dtype=torch.int32),
            prompt_lengths=torch.tensor([len(prompt) for prompt in prompts]),
            question_index=torch.tensor(chunk),
            thoughts=mined.thoughts,
            clean=mined.clean if self.keep_clean else mined.clean[:, :, :0],
            thought_counts=mined.thought_counts,
            labels=mined.labels,
            votes=mined.votes,
            answers=mined.answer_ids.int(),
            reference=mined.reference.thoughts,
            reference_counts=mined.reference.counts,
            reference_answers=mined.reference.answer_ids.int(),
        )


def _select(shard: Shard, keep: Tensor) -> Shard:
    """The questions of a shard where `keep` (Q,) is true."""
    prompt_ids = shard.prompt_ids[keep.repeat_interleave(shard.prompt_lengths)]
    others = {name: tensor[keep] for name, tensor in vars(shard).items() if name != "prompt_ids"}
    return Shard(prompt_ids=prompt_ids, **others)
