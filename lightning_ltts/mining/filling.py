"""Filling a store: the shards that are missing are mined by this Trainer's processes, or by an engine."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.utilities import rank_zero_info

from lightning_ltts.cluster.engine import Engine, Place, Speeds
from lightning_ltts.cluster.replicas import Replica
from lightning_ltts.data.problems import Problem
from lightning_ltts.mining.boards import log_mining
from lightning_ltts.mining.questions import MinedQuestions
from lightning_ltts.mining.shards import Shard, ShardMiner
from lightning_ltts.mining.store import StoreWriter
from lightning_ltts.monitoring.bars import Bar
from lightning_ltts.monitoring.boards import boards


@dataclass
class Filling:
    """Mines and writes the shards of a store that are missing."""

    trainer: pl.Trainer
    split: str
    writer: StoreWriter
    miner: ShardMiner
    problems: Sequence[Problem]
    shards: Sequence[Any]  # the indices of their problems, as arrays
    enough: int | None  # kept questions that make the store complete
    _so_far: dict[str, float] = field(init=False, default_factory=dict)
    _replica: Replica = field(init=False, default_factory=Replica)

    def run(self, engine: Engine | None) -> None:
        """Mines by the engine, or else the share of this process's replica."""
        self._replica = Replica.of(self.trainer)
        share = range(self._replica.number, len(self.shards), self._replica.count)
        missing = [number for number in share if not self.writer.has(number)]
        missing = self._replica.agree(missing)
        bar = Bar(
            total=sum(len(self.shards[number]) for number in missing),
            desc=f"mining {self.split}",
            unit=" questions",
            disable=not self.trainer.is_global_zero or self.trainer.progress_bar_callback is None,
        )
        with bar:
            if engine is None:
                self._mine_here(missing, bar)
            else:
                self._mine_by(engine, missing, bar)

    def _mine_here(self, missing: list[int], bar: Bar) -> None:
        self.miner.settle(Place.of(self.trainer))
        with ThreadPoolExecutor(1) as pool:  # a shard is written while the next is mined
            written: list[Future[None]] = []
            for number in missing:
                if self.enough is not None:
                    for write in written[-1:]:
                        write.result()  # what the last shard holds counts, too
                    if self._has_enough:
                        break
                questions, counts = self.miner.mine(self._shard(number), bar)
                if written:
                    written[-1].result()  # an error of the last write, a full disk say, ends here
                if self._replica.speaks:
                    written.append(pool.submit(self.writer.write, number, questions, counts))
                self._log(counts)
            for write in written:
                write.result()

    def _mine_by(self, engine: Engine, missing: list[int], bar: Bar) -> None:
        """Shards come in any order, and are written as they come."""
        speeds = Speeds()

        def waiting() -> Iterator[tuple[int, Shard]]:
            for number in missing:
                if self._has_enough:
                    return
                yield number, self._shard(number)

        for done in engine.run(self.miner, waiting(), str(self.trainer.precision)):
            questions, counts = done.result
            self._write(done.number, questions, counts)
            speeds.add(done, int(counts["questions"]))
            right = self._so_far["right"] / self._so_far["trajectories"]
            bar.update(int(counts["questions"]))
            bar.set_postfix(accuracy=f"{right:.3f}", each=speeds.shown(), refresh=False)
        for line in speeds.lines():
            rank_zero_info(line)

    @property
    def _has_enough(self) -> bool:
        if self.enough is None:
            return False
        return self._replica.agree(self.writer.shards_with(self.enough) is not None)

    def _shard(self, number: int) -> Shard:
        indices: list[int] = self.shards[number].tolist()
        return Shard(indices, [self.problems[i] for i in indices])

    def _write(self, number: int, questions: MinedQuestions, counts: dict[str, float]) -> None:
        self.writer.write(number, questions, counts)
        self._log(counts)

    def _log(self, counts: dict[str, float]) -> None:
        """Adds up, and tells the loggers how mining goes."""
        for name, count in counts.items():
            self._so_far[name] = self._so_far.get(name, 0) + count
        for board in boards(self.trainer.loggers) if self.trainer.is_global_zero else ():
            log_mining(board, self.split, self._so_far)
