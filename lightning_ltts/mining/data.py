"""The mining DataModule: mines the trajectory stores that are missing, then serves them."""

import platform
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import lightning.pytorch as pl
import numpy as np
import torch
import transformers
from lightning.pytorch.utilities import rank_zero_info
from torch.utils.data import DataLoader, DistributedSampler

from lightning_ltts.cluster.engine import Engine
from lightning_ltts.cluster.sharded import (
    divides_heads,
    refuse_divided,
    refuse_matrices,
    refuse_sharded,
)
from lightning_ltts.data.evaluation import evaluation_loader
from lightning_ltts.data.overlap import SeenProblems
from lightning_ltts.data.problem_data import MAX_BATCH, problem_tensors
from lightning_ltts.data.problems import Problem, ProblemSource, hash_problems
from lightning_ltts.data.ranges import MAX_SAMPLES, MAX_SEED, require_whole
from lightning_ltts.data.room import prompt_lengths, say_long_answers
from lightning_ltts.data.stored_problems import ProblemView
from lightning_ltts.engine.rollout import RolloutEngine
from lightning_ltts.errors import ConfigError
from lightning_ltts.mining.boards import log_store, log_thoughts
from lightning_ltts.mining.filling import Filling
from lightning_ltts.mining.shards import ShardMiner
from lightning_ltts.mining.store import StoreWriter, TrajectoryStore, collate
from lightning_ltts.mining.trained_on import say_trained_on
from lightning_ltts.models.checkpoints import load_reasoner
from lightning_ltts.models.latent_lm import LatentReasoner, fingerprint
from lightning_ltts.monitoring.boards import boards
from lightning_ltts.run_folder import FolderLock, remove_stale_lock
from lightning_ltts.sampling.samplers import Sampler, TokenSampling


class MiningData(pl.LightningDataModule):
    """Mines what is missing, then serves it: labelled trajectories, for training and validation.

    Every device mines its share of the shards. A killed run goes on where it stopped; a finished
    store is reused when reasoner, sampler, problems and settings are the same, and refused
    otherwise. Batches are `MinedQuestions` as tensors.

    Args:
        reasoner: checkpoint of the reasoner to mine with.
        sampler: the sampler; the one to be used at prediction.
        train: problems to mine for training.
        val: problems to mine for validation.
        store: folder for the stores `train` and `val`.
        num_samples: N, trajectories per training question.
        num_rollouts: M, completions per prefix.
        val_num_samples: trajectories per validation question; without rollouts, all questions
            kept.
        seed: seed of the trajectories and of the training order.
        token_budget: positions held at once while mining; by default as many as the free memory
            allows.
        compile: whether the MLPs are compiled; `RolloutEngine` says what of it.
        shard_size: questions per shard.
        batch_size: questions per device and training step.
        keep_uninformative: keep training questions whose trajectories are all right or all wrong.
        informative: mine training questions, in the order of the source, until so many have both
            right and wrong trajectories; the size of the source is the limit. By default all are
            mined.
        keep_clean: also store thoughts as they were before noise, for a LatentRM with
            `noise_free`; twice the size.
        allow_overlap: count validation questions that are among those mined for training, which
            are otherwise refused.

    Raises:
        ConfigError: a number is out of range.
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
        informative: int | None = None,
        allow_overlap: bool = False,
    ):
        super().__init__()
        ranges: dict[str, tuple[int, int, int | None]] = {
            # one trajectory has nothing to be compared with
            "num_samples": (num_samples, 2, MAX_SAMPLES),
            "num_rollouts": (num_rollouts, 0, MAX_SAMPLES),
            "val_num_samples": (val_num_samples, 1, MAX_SAMPLES),
            "seed": (seed, 0, MAX_SEED),
            "shard_size": (shard_size, 1, None),
            "batch_size": (batch_size, 1, MAX_BATCH),
        }
        for name, value in (("token_budget", token_budget), ("informative", informative)):
            if value is not None:
                ranges[name] = (value, 1, None)
        for name, (value, low, high) in ranges.items():
            require_whole("MiningData", name, value, low, high)
        self.reasoner_path = reasoner
        self.sampler = sampler
        self.sources = {"train": train, "val": val}
        self.folder = Path(store)
        self.samples = {"train": num_samples, "val": val_num_samples}
        self.rollouts = {"train": num_rollouts, "val": 0}
        self.keep_all = {"train": keep_uninformative, "val": True}
        self.keep_clean = keep_clean
        self.informative = {"train": informative, "val": None}
        self.allow_overlap = allow_overlap
        self.seed = seed
        self.token_budget = token_budget
        self.compile = compile
        self.shard_size = shard_size
        self.batch_size = batch_size
        self.stores: dict[str, TrajectoryStore] = {}
        self._seen: SeenProblems | None = None
        self.engine: Engine | None = None  # whose workers mine, instead of the Trainer's processes

    def setup(self, stage: str) -> None:
        """Mines what is missing, on this process's device, together with the other processes.

        In the stages `fit` and `mine` that is both stores, otherwise that for validation. All
        problems are looked at before any is mined.

        Raises:
            DataError: a problem cannot be read, or a validation question is to be mined for
                training, too.
            ConfigError: the Trainer's strategy shards weights.
        """
        assert self.trainer is not None, "mining runs on a Trainer's devices"
        refuse_sharded(self.trainer, "mining (and so a LatentRM's training)")
        if divides_heads(self.trainer):
            refuse_matrices(self.sampler)
        if stage != "mine":
            refuse_divided(self.trainer, "a LatentRM")
        splits = ("train", "val") if stage in ("fit", "mine") else ("val",)
        problems = {
            split: self.sources[split].load() for split in splits if split not in self.stores
        }
        lengths = self._check(problems) if problems else {}
        for split, some in problems.items():
            self.stores[split] = self._open(split, some, lengths[split], verify=stage == "mine")
            if split == "train":
                mined = self.stores[split].question_indices(len(some))
                self._seen = SeenProblems(ProblemView(some, mined))
        if stage == "fit":
            for line in self.describe():
                rank_zero_info(line)

    def describe(self) -> list[str]:
        """A line on each store: questions, labels, speed and cost of mining."""
        return [_store_line(split, store) for split, store in self.stores.items()]

    def state_dict(self) -> dict[str, Any]:
        """What a LatentRM's checkpoint keeps of its training problems, to be known again."""
        return problem_tensors(self._seen)

    def train_dataloader(self) -> DataLoader[Any]:
        """Batches of questions, shuffled by (seed, epoch)."""
        trainer, store = self.trainer, self.stores["train"]
        assert trainer is not None, "dataloaders are asked for by a Trainer"
        if len(store) < self.batch_size * trainer.world_size:
            raise ConfigError(
                f"the store {store.folder} holds {len(store)} questions with both right and wrong "
                f"trajectories, fewer than one batch of {self.batch_size} x {trainer.world_size} "
                "devices; mine more or lower batch_size"
            )
        sampler: DistributedSampler[Any] = DistributedSampler(
            store,
            num_replicas=trainer.world_size,
            rank=trainer.global_rank,
            seed=self.seed,
            drop_last=True,
        )
        return DataLoader(
            store, self.batch_size, sampler=sampler, drop_last=True, collate_fn=collate
        )

    def val_dataloader(self) -> DataLoader[Any]:
        """This device's validation questions in their order."""
        trainer, store = self.trainer, self.stores["val"]
        assert trainer is not None, "dataloaders are asked for by a Trainer"
        make_batch = partial(collate, like=store)
        return evaluation_loader(
            store, self.batch_size, make_batch, trainer.global_rank, trainer.world_size
        )

    def settings(
        self, split: str, reasoner: LatentReasoner, problems: Sequence[Problem]
    ) -> dict[str, Any]:
        """All that determines a store, except the precision."""
        enough = self.informative[split]
        return ({} if enough is None else {"informative": enough}) | {
            "reasoner": fingerprint(reasoner),
            "sampler": self.sampler.settings(),
            "problems": hash_problems(problems),
            "num_samples": self.samples[split],
            "num_rollouts": self.rollouts[split],
            "num_thoughts": reasoner.spec.num_thoughts,
            "seed": self.seed,
            "shard_size": self.shard_size,
            "keep_uninformative": self.keep_all[split],
            "keep_clean": self.keep_clean,
        }

    def _check(self, problems: dict[str, Sequence[Problem]]) -> dict[str, Any]:
        """Refuses what cannot be mined, and says which problems can never be answered right.

        Returns the tokens of each problem's prompt.
        """
        reasoner = load_reasoner(self.reasoner_path)
        spec = reasoner.spec
        if spec.num_thoughts == 0 and not isinstance(self.sampler, TokenSampling):
            raise ConfigError(
                f"{self.reasoner_path} is of stage 0, without thoughts; train the reasoner further, "
                "or mine what it writes: sampler=token_sampling"
            )
        room = RolloutEngine(reasoner, self.sampler).suffix - 1
        lengths = {split: prompt_lengths(reasoner, some, room) for split, some in problems.items()}
        for some in problems.values():
            say_long_answers(reasoner.tokenizer, some, spec.max_answer_tokens, spec.answer_marker)
        if problems.keys() == {"train", "val"}:
            seen = SeenProblems(problems["train"])
            seen.refuse_among(problems["val"], "validation", self.allow_overlap)
        if "train" in problems:
            say_trained_on(self.reasoner_path, problems["train"], "mine")
        return lengths

    def _open(
        self, split: str, problems: Sequence[Problem], lengths: Any, verify: bool
    ) -> TrajectoryStore:
        """The store, mined where anything is missing; loggers get some of what it holds.

        Training reads all of it anyway, and so checks each shard when it is first needed. Who only
        mines learns now whether a store that was there is sound (`verify`).
        """
        assert self.trainer is not None, "mining runs on a Trainer's devices"
        # anew for each store: mining moves and converts it
        reasoner = load_reasoner(self.reasoner_path)
        was_there = self._mine(split, reasoner, problems, lengths)
        # what was mined just now has been checked when it was closed
        store = TrajectoryStore(
            self.folder / split, verify and was_there and self.trainer.is_global_zero
        )
        for board in boards(self.trainer.loggers) if self.trainer.is_global_zero else ():
            log_store(board, split, store)
            if split == "train":
                log_thoughts(board, split, store, reasoner, problems)
        return store

    def _mine(
        self, split: str, reasoner: LatentReasoner, problems: Sequence[Problem], lengths: Any
    ) -> bool:
        """Mines the shards that are missing, of which every process has its share.

        Returns whether none was.
        """
        trainer = self.trainer
        assert trainer is not None, "checked by the caller"
        # by length, so that little is padded; but in their own order where mining may end early,
        # since the short ones would be all that is mined
        order = np.arange(len(problems))
        if self.informative[split] is None:
            order = np.argsort(lengths, kind="stable")
        shards = [order[i : i + self.shard_size] for i in range(0, len(order), self.shard_size)]
        settings = self.settings(split, reasoner, problems) | {"precision": str(trainer.precision)}
        older = {"sampler": repr(self.sampler)}
        writer = StoreWriter(self.folder / split, settings, len(shards), older)
        complete = writer.complete  # then it is only read, which several runs can do at once
        if complete and trainer.is_global_zero:
            remove_stale_lock(self.folder / split)
        # after the settings: their fingerprint is that of the checkpoint
        miner = ShardMiner(
            reasoner,
            self.sampler,
            self.samples[split],
            self.rollouts[split],
            self.seed,
            self.keep_all[split],
            self.keep_clean,
            self.token_budget,
            self.compile,
        )
        enough = self.informative[split]
        filling = Filling(trainer, split, writer, miner, problems, shards, enough)
        with FolderLock(self.folder / split, trainer.is_global_zero and not complete):
            if trainer.is_global_zero:
                writer.open()
            trainer.strategy.barrier()
            if not writer.complete:
                filling.run(self.engine)
                trainer.strategy.barrier()
                if trainer.is_global_zero:
                    writer.close({"versions": _versions()}, enough)
            trainer.strategy.barrier()
        return complete


class MiningOnly(pl.LightningDataModule):
    """Mines both stores of a `MiningData`, whatever the stage, and serves nothing.

    A Trainer that validates with it sets up devices and mines, and needs no optimiser.

    Args:
        data: what is to be mined.
        engine: whose workers mine; by default the Trainer's own processes do.
    """

    def __init__(self, data: MiningData, engine: Engine | None = None):
        super().__init__()
        self.data = data
        self.data.engine = engine

    def setup(self, stage: str) -> None:
        """Mines what is missing."""
        self.data.trainer = self.trainer
        engine = self.data.engine
        with nullcontext() if engine is None else engine.kept():  # for both stores
            self.data.setup("mine")

    def val_dataloader(self) -> list[DataLoader[Any]]:
        """None at all."""
        return []


def _versions() -> dict[str, str]:
    """Versions of Python and the libraries that a store's numbers can depend on."""
    libraries = (("torch", torch), ("lightning", lightning), ("transformers", transformers))
    versions = {name: library.__version__ for name, library in libraries}
    return {"python": platform.python_version(), **versions}


def _store_line(split: str, store: TrajectoryStore) -> str:
    """What `describe` says of a store."""
    counts: dict[str, Any] = store.manifest["counts"]
    right, label = counts["right"] / counts["trajectories"], counts["label_sum"]
    asked = store.manifest["settings"].get("informative")
    if asked is None:
        enough = ""
    elif counts["kept"] >= asked:
        enough = f", of {asked} asked for"
    else:
        enough = f", fewer than the {asked} asked for: no problems are left, give more of them"
    return (
        f"{split} store {store.folder}: {counts['questions']} questions, {counts['mixed']} with "
        f"both right and wrong trajectories, {counts['kept']} kept{enough}; {right:.1%} of trajectories "
        f"right, mean label {label / max(counts['labels'], 1):.2f}; "
        f"{counts['questions'] / counts['seconds']:.0f} questions/s per device, "
        f"token-forward ratio {counts['token_forwards'] / counts['tree_nodes']:.3f}"
        f"{'' if counts['mixed'] else '; ' + _why_useless(counts)}"
    )


def _why_useless(counts: dict[str, Any]) -> str:
    """Why a comparison of trajectories can learn nothing from a store."""
    if counts["right"] == 0:
        why = "no trajectory is right: train the reasoner further, or lower the sampler's strength"
    elif counts["right"] == counts["trajectories"]:
        why = "every trajectory is right: mine harder problems, or raise the sampler's strength"
    else:
        why = "a question's trajectories are all alike: raise the sampler's strength"
    return f"nothing can be learned from it, because {why}"
