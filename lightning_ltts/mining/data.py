"""Mining: trajectories with step-wise thought labels, by rolling out from every prefix (arXiv 2510.07745, section 4)."""

import platform
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import lightning
import lightning.pytorch as pl
import torch
import transformers
from lightning.pytorch.utilities import rank_zero_info
from torch.utils.data import DataLoader, DistributedSampler
from tqdm import tqdm

from lightning_ltts.data.problems import Problem, ProblemSource, hash_problems
from lightning_ltts.engine.rollout import RolloutEngine
from lightning_ltts.errors import ConfigError
from lightning_ltts.mining.shards import ShardMiner
from lightning_ltts.mining.store import StoreWriter, TrajectoryStore, collate
from lightning_ltts.mining.tensorboard import log_mining, log_store, log_thoughts
from lightning_ltts.models.checkpoints import load_reasoner
from lightning_ltts.models.latent_lm import LatentReasoner, fingerprint
from lightning_ltts.monitoring.tensorboard import writers
from lightning_ltts.sampling.samplers import Sampler


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
        mine_shard = ShardMiner(
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


def _store_line(split: str, store: TrajectoryStore) -> str:
    counts: dict[str, Any] = store.manifest["counts"]
    return (
        f"{split} store {store.folder}: {counts['questions']} questions, {counts['mixed']} with both right and wrong "
        f"trajectories, {counts['kept']} kept; {counts['right'] / counts['trajectories']:.1%} of trajectories right, mean "
        f"label {counts['label_sum'] / max(counts['labels'], 1):.2f}; "
        f"{counts['questions'] / counts['seconds']:.0f} questions/s per device, "
        f"token-forward ratio {counts['token_forwards'] / counts['tree_nodes']:.3f}"
    )
