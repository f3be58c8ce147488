"""Mining: trajectories with step-wise thought labels, by rolling out from every prefix (arXiv 2510.07745, section 4)."""

import platform
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypedDict

import lightning
import lightning.pytorch as pl
import torch
import transformers
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler
from tqdm import tqdm

from lightning_ltts.data.answers import Answer
from lightning_ltts.data.problems import Problem, ProblemSource
from lightning_ltts.data.trajectory_store import (
    Example,
    Shard,
    StoreWriter,
    TrajectoryStore,
    hash_problems,
    join_shards,
)
from lightning_ltts.engine.grading import read_answers, vote_numbers
from lightning_ltts.engine.packing import halve_if_needed
from lightning_ltts.engine.rollout import Cost, RolloutEngine, join_rows, sample_keys, set_aside_ended
from lightning_ltts.errors import ConfigError
from lightning_ltts.models.checkpoints import load_reasoner
from lightning_ltts.models.latent_lm import LatentReasoner, fingerprint, left_pad
from lightning_ltts.models.latent_rm import Reference
from lightning_ltts.monitoring.tensorboard import log_mining, log_store, log_thoughts, writers
from lightning_ltts.sampling.keyed_random import fold, question_keys
from lightning_ltts.sampling.samplers import Deterministic, Sampler

_ROLLOUT_STREAM = 3


@dataclass(frozen=True)
class Mined:
    """Trajectories of a batch of questions and the thought labels of their prefixes."""

    thoughts: Tensor  # (Q, N, T, d), zeros beyond a trajectory's own
    clean: Tensor  # (Q, N, T, d), before noise was added
    thought_counts: Tensor  # (Q, N)
    labels: Tensor  # (Q, N, T), share of right completions; from the last thought on, the trajectory's own correctness
    votes: Tensor  # (Q, N), see `vote_numbers`
    answer_ids: Tensor  # (Q, N, A), padded
    reference: Reference  # the deterministic trajectories, on the CPU


class RMBatch(TypedDict):
    """What LatentRM training reads."""

    input_ids: Tensor  # (Q, L), left padded
    attention_mask: Tensor  # (Q, L)
    thoughts: Tensor  # (Q, N, T, d)
    clean: Tensor  # (Q, N, T, d), or without any where the store does not keep them
    thought_counts: Tensor  # (Q, N)
    labels: Tensor  # (Q, N, T)
    votes: Tensor  # (Q, N)
    answers: Tensor  # (Q, N, A)
    reference: Tensor  # (Q, T, d)
    reference_counts: Tensor  # (Q,)
    reference_answers: Tensor  # (Q, A)


@torch.no_grad()
def mine(
    engine: RolloutEngine,
    input_ids: Tensor,
    attention_mask: Tensor,
    keys: Tensor,
    truths: list[Answer],
    rollouts: int,
) -> Mined:
    """Samples trajectories and labels every prefix h_1..h_t by `rollouts` completions of it.

    The completions fork from the trajectory's cache, so no prefix is read again. A trajectory's last step needs none: its
    label is whether the trajectory itself is right. With no rollouts, that label stands for all steps (the paper's ablation).

    Args:
        engine: with the sampler to mine with.
        input_ids: (Q, L) prompts, left padded.
        attention_mask: (Q, L).
        keys: (Q, N) int64 names of the trajectories.
        truths: Q right answers.
        rollouts: M, completions per prefix.
    """
    questions, samples = keys.shape
    trajectories, device = keys.numel(), keys.device
    steps, max_tokens = engine.reasoner.spec.num_thoughts, engine.reasoner.spec.max_answer_tokens
    branches = engine.start(input_ids, attention_mask, keys, steps + 1 + max_tokens)
    alone, plain = branches, RolloutEngine(engine.reasoner, Deterministic(), engine.budget)
    branches = engine.step(branches, keys.flatten())
    if engine.sampler.perturbs_prompt:
        alone = plain.start(input_ids, attention_mask, keys[:, :1], steps + 1 + max_tokens)
    elif engine.sampler.perturbs_forward:
        alone = alone.take(torch.arange(questions))
    else:  # the deterministic trajectory has made its first thought, too, in the same pass
        alone = branches.take(torch.arange(questions) * samples)
        assert alone.clean is not None
        alone = replace(alone, pending=alone.clean)
    without, alone = plain.think(alone, keys[:, 0], steps)
    reference = Reference(without.fed.float().cpu(), without.counts.cpu(), plain.answer(alone, max_tokens).cpu())
    engine.cost += plain.cost
    copies = torch.arange(rollouts, device=device)
    thoughts = branches.pending.new_zeros(trajectories, steps, engine.reasoner.hidden_size)
    clean = torch.zeros_like(thoughts)
    counts = torch.full((trajectories,), steps)
    # All rows step together: trajectories, and the completions of their prefixes, which have as many thoughts at any time.
    # Row `live[i]` of the results belongs to trajectory `owner[live[i]]`; completions are of its first `prefix` thoughts.
    owner, prefix = torch.arange(trajectories), torch.zeros(trajectories, dtype=torch.int64)
    live, ready, answers_of = owner, [], []
    for t in range(1, steps + 1):
        live, branches, ended = set_aside_ended(live, branches)
        if ended is not None:
            counts[ended[0][ended[0] < trajectories]] = t - 1
            ready.append(ended)
        if not len(live):
            break
        own = (live < trajectories).nonzero().squeeze(-1)
        index = own.to(device)
        assert branches.clean is not None
        for into, made in ((thoughts, branches.pending), (clean, branches.clean)):
            into[live[own].to(device), t - 1] = made[index].to(thoughts.dtype)
        if t == steps:
            ready.append((live, engine.close(branches)))
            break
        names = fold(branches.keys[index, None], _ROLLOUT_STREAM, t, copies).flatten()
        rows = torch.cat([torch.arange(len(live)), own.repeat_interleave(rollouts)])
        new = torch.arange(len(names)) + len(owner)
        owner = torch.cat([owner, live[own].repeat_interleave(rollouts)])
        prefix = torch.cat([prefix, torch.full_like(new, t)])
        branches, live = engine.step(branches, torch.cat([branches.keys, names]), rows), torch.cat([live, new])
        if branches.token is not None and rollouts and len(own):
            # a trajectory that ends its thinking here needs no completions: its own answer is the label
            kept = torch.ones_like(live, dtype=torch.bool)
            kept[-len(names) :] = (branches.token.cpu()[own] < 0).repeat_interleave(rollouts)
            live, branches = live[kept], branches.take(kept.nonzero().squeeze(-1))
        if len(live) * (steps + 2 + max_tokens) > engine.budget:  # too many to hold: the completions are finished first
            side, main = (live >= trajectories).nonzero().squeeze(-1), (live < trajectories).nonzero().squeeze(-1)
            _, finished = engine.think(branches.take(side), branches.keys[side.to(device)], steps)
            answers_of.append((live[side], engine.answer(finished, max_tokens)))
            live, branches = live[main], branches.take(main)
    answers_of.append((torch.cat([rows for rows, _ in ready]).sort().values, engine.answer(join_rows(ready), max_tokens)))
    answered = torch.cat([rows for rows, _ in answers_of])
    answer_ids = torch.full((len(owner), max_tokens), engine.reasoner.pad_id)
    answer_ids[answered] = torch.cat([tokens for _, tokens in answers_of]).cpu()
    right = _right(engine, answer_ids, truths, owner // samples)
    done = torch.zeros(len(owner)).index_fill(0, answered, 1.0)
    where = (owner * steps + prefix - 1)[trajectories:]
    sums, number = (
        torch.zeros(trajectories * steps).index_add(0, where, x[trajectories:]).view(-1, steps) for x in (right * done, done)
    )
    labels, correct = sums / number.clamp(min=1), right[:trajectories]
    labels = labels.where(number > 0, correct[:, None])
    answers = read_answers(engine.reasoner, answer_ids[:trajectories])
    votes = [vote_numbers(answers[q * samples : (q + 1) * samples]) for q in range(questions)]
    return Mined(
        thoughts.unflatten(0, keys.shape).float().cpu(),
        clean.unflatten(0, keys.shape).float().cpu(),
        counts.view(keys.shape),
        labels.unflatten(0, keys.shape),
        torch.tensor(votes),
        answer_ids[:trajectories].unflatten(0, keys.shape),
        reference,
    )


def _right(engine: RolloutEngine, answer_ids: Tensor, truths: list[Answer], owner: Tensor) -> Tensor:
    """(R, A) answers of rows of these questions (R,) -> (R,) 1 where right, else 0."""
    answers = read_answers(engine.reasoner, answer_ids)
    return torch.tensor([answer == truths[q] for q, answer in zip(owner.tolist(), answers, strict=True)], dtype=torch.float)


class MiningData(pl.LightningDataModule):
    """Mines what is missing, then serves it: training and validation stores of labelled trajectories.

    Every device mines its share of the shards. A killed run goes on where it stopped; a finished store is reused when
    reasoner, sampler, problems and settings are the same, and refused otherwise.

    Args:
        reasoner: checkpoint of the reasoner to mine with.
        sampler: the sampler; the one to be used at prediction.
        train: problems to mine for training.
        val: problems to mine for validation.
        store: folder for the stores `train` and `val`.
        num_samples: N, trajectories per training question.
        num_rollouts: M, completions per prefix.
        val_num_samples: trajectories per validation question; without rollouts, all questions kept.
        seed: of the trajectories and of the training order.
        token_budget: positions held at once while mining; by default as many as the free memory allows.
        compile: see `RolloutEngine`.
        shard_size: questions per shard.
        batch_size: questions per device and training step.
        keep_uninformative: keep training questions whose trajectories are all right or all wrong.
        keep_clean: also store thoughts as they were before noise, for a LatentRM with `noise_free`; twice the size.
    """

    def __init__(
        self,
        reasoner: str,
        sampler: Sampler,
        train: ProblemSource,
        val: ProblemSource,
        store: str,
        num_samples: int = 8,
        num_rollouts: int = 4,
        val_num_samples: int = 32,
        seed: int = 0,
        token_budget: int | None = None,
        compile: bool = False,
        shard_size: int = 1024,
        batch_size: int = 64,
        keep_uninformative: bool = False,
        keep_clean: bool = False,
    ):
        super().__init__()
        positive = {"num_samples": num_samples, "val_num_samples": val_num_samples}
        for name, value in {**positive, "shard_size": shard_size, "batch_size": batch_size}.items():
            if value < 1:
                raise ConfigError(f"data.init_args.{name}={value} must be at least 1")
        if num_samples < 2:
            raise ConfigError("data.init_args.num_samples must be at least 2: one trajectory has nothing to be compared with")
        if num_rollouts < 0:
            raise ConfigError(f"data.init_args.num_rollouts={num_rollouts} must not be negative")
        self.reasoner_path = reasoner
        self.sampler = sampler
        self.sources = {"train": train, "val": val}
        self.folder = Path(store)
        self.samples = {"train": num_samples, "val": val_num_samples}
        self.rollouts = {"train": num_rollouts, "val": 0}
        self.keep_all = {"train": keep_uninformative, "val": True}
        self.keep_clean = keep_clean
        self.seed = seed
        if token_budget is not None and token_budget < 1:
            raise ConfigError(f"data.init_args.token_budget={token_budget} must be at least 1")
        self.token_budget = token_budget
        self.compile = compile
        self.shard_size = shard_size
        self.batch_size = batch_size
        self.stores: dict[str, TrajectoryStore] = {}
        self.mine_all = False  # whatever the stage; set by `Trainer.mine`

    def setup(self, stage: str) -> None:
        """Mines what is missing, on this process's device, together with the other processes."""
        both = stage == "fit" or self.mine_all
        for split in ("train", "val") if both else ("val",):
            if split not in self.stores:
                self.stores[split] = self._open(split)
        if both and not self.mine_all:
            for line in self.describe():
                rank_zero_info(line)

    def describe(self) -> list[str]:
        """A line on each store: questions, labels, speed and cost of mining."""
        return [_store_line(split, store) for split, store in self.stores.items()]

    def train_dataloader(self) -> DataLoader:
        """Batches of questions, shuffled by (seed, epoch)."""
        trainer, store = self.trainer, self.stores["train"]
        assert trainer is not None, "dataloaders are asked for by a Trainer"
        if len(store) < self.batch_size * trainer.world_size:
            raise ConfigError(
                f"the store {store.folder} holds {len(store)} questions with both right and wrong trajectories, fewer than "
                f"one batch of {self.batch_size} x {trainer.world_size} devices; mine more or lower batch_size"
            )
        sampler: DistributedSampler = DistributedSampler(
            store, num_replicas=trainer.world_size, rank=trainer.global_rank, seed=self.seed, drop_last=True
        )
        return DataLoader(store, self.batch_size, sampler=sampler, drop_last=True, collate_fn=collate)

    def val_dataloader(self) -> DataLoader:
        """Validation questions in their order."""
        return DataLoader(self.stores["val"], self.batch_size, collate_fn=collate)

    def _open(self, split: str) -> TrajectoryStore:
        """The store, mined where anything is missing; TensorBoard gets its labels and some of its thoughts."""
        assert self.trainer is not None, "mining runs on a Trainer's devices"
        reasoner = load_reasoner(self.reasoner_path)
        if reasoner.spec.num_thoughts == 0:
            raise ConfigError(f"{self.reasoner_path} is of stage 0, without thoughts; train the reasoner further")
        problems = self.sources[split].load()
        self._mine(split, reasoner, problems)
        store = TrajectoryStore(self.folder / split)
        for writer in writers(self.trainer.loggers) if self.trainer.is_global_zero else ():
            log_store(writer, split, store)
            if split == "train":
                log_thoughts(writer, split, store, reasoner, problems)
        return store

    def _mine(self, split: str, reasoner: LatentReasoner, problems: list[Problem]) -> None:
        trainer = self.trainer
        assert trainer is not None, "checked by the caller"
        prompts = [reasoner.encode_prompt(problem.question, problem.source) for problem in problems]
        order = sorted(range(len(problems)), key=lambda i: len(prompts[i]))  # by length, so that little is padded
        settings = {
            "reasoner": fingerprint(reasoner),
            "sampler": repr(self.sampler),
            "problems": hash_problems(problems),
            "num_samples": self.samples[split],
            "num_rollouts": self.rollouts[split],
            "num_thoughts": reasoner.spec.num_thoughts,
            "seed": self.seed,
            "precision": str(trainer.precision),
            "shard_size": self.shard_size,
            "keep_uninformative": self.keep_all[split],
            "keep_clean": self.keep_clean,
        }
        shards = [order[i : i + self.shard_size] for i in range(0, len(order), self.shard_size)]
        writer = StoreWriter(self.folder / split, settings, len(shards))
        if trainer.is_global_zero:
            writer.open()
        trainer.strategy.barrier()
        if writer.complete:
            trainer.strategy.barrier()
            return
        engine = RolloutEngine(reasoner.to(trainer.strategy.root_device), self.sampler, self.token_budget, self.compile)
        mine_shard = _ShardMiner(
            engine, problems, prompts, self.samples[split], self.rollouts[split], self.seed, self.keep_clean
        )
        todo = [n for n in range(trainer.global_rank, len(shards), trainer.world_size) if not writer.has(n)]
        questions = sum(len(shards[n]) for n in todo)
        silent = trainer.global_rank > 0 or trainer.progress_bar_callback is None
        bar = tqdm(total=questions, desc=f"mining {split}", unit=" questions", disable=silent)
        so_far: dict[str, float] = {}
        with bar, ThreadPoolExecutor(1) as pool:  # a shard is written while the next is mined
            written: list[Future[None]] = []
            for number in todo:
                with trainer.precision_plugin.predict_step_context():
                    shard, counts = mine_shard(shards[number], self.keep_all[split], bar)
                if written:
                    written[-1].result()  # an error of the last write, a full disk say, ends the run here
                written.append(pool.submit(writer.write, number, shard, counts))
                so_far = {name: so_far.get(name, 0) + count for name, count in counts.items()}
                for board in writers(trainer.loggers) if trainer.is_global_zero else ():
                    log_mining(board, split, so_far)
            for write in written:
                write.result()
        trainer.strategy.barrier()
        if trainer.is_global_zero:
            libraries = (("torch", torch), ("lightning", lightning), ("transformers", transformers))
            versions = {name: library.__version__ for name, library in libraries}
            writer.close({"versions": {"python": platform.python_version(), **versions}})
        trainer.strategy.barrier()


@dataclass
class _ShardMiner:
    """Mines the questions of one shard, in packs that fit the engine's budget."""

    engine: RolloutEngine
    problems: list[Problem]
    prompts: list[list[int]]
    samples: int
    rollouts: int
    seed: int
    keep_clean: bool

    def __call__(self, indices: list[int], keep_all: bool, bar: tqdm) -> tuple[Shard, dict[str, float]]:
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


def collate(examples: list[Example]) -> RMBatch:
    """Examples -> one batch; prompts are padded on the left with 0, which the mask hides."""
    ids, mask = left_pad([example.prompt for example in examples], pad_id=0)
    stacked = {field.name: torch.stack([getattr(example, field.name) for example in examples]) for field in fields(Example)[1:]}
    return RMBatch(input_ids=ids, attention_mask=mask, **stacked)  # type: ignore[typeddict-item]


def _store_line(split: str, store: TrajectoryStore) -> str:
    counts: dict[str, Any] = store.manifest["counts"]
    return (
        f"{split} store {store.folder}: {counts['questions']} questions, {counts['mixed']} with both right and wrong "
        f"trajectories, {counts['kept']} kept; {counts['right'] / counts['trajectories']:.1%} of trajectories right, mean "
        f"label {counts['label_sum'] / max(counts['labels'], 1):.2f}; "
        f"{counts['questions'] / counts['seconds']:.0f} questions/s per device, "
        f"token-forward ratio {counts['token_forwards'] / counts['tree_nodes']:.3f}"
    )
