"""Throughput of mining and prediction by one process, one Ray worker, and two, in one run.

    python benchmarks/scale.py --questions 4096

Every worker computes with one thread. A run's rate leaves out its first two shards for each worker,
until all have the model; the whole run's seconds stand beside it, the start of Ray and of its
workers included. Read the ratios.
"""

import argparse
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from lightning_ltts.cluster.engine import Done, Engine, Place, Work
from lightning_ltts.cluster.ray_engine import RayEngine
from lightning_ltts.data.tokenization import WordTokenizer
from lightning_ltts.data.word_problems import WordProblems
from lightning_ltts.mining.shards import Shard, ShardMiner
from lightning_ltts.models.folders import save_folder
from lightning_ltts.models.latent_lm import new_reasoner
from lightning_ltts.prediction.module import LatentSearch
from lightning_ltts.prediction.work import SearchWork
from lightning_ltts.sampling import GaussianNoise

BACKBONE = {"model_type": "gpt2", "n_layer": 3, "n_embd": 64, "n_head": 4, "n_positions": 96}
SAMPLES, ROLLOUTS, BUDGET = 8, 4, 2**15


class Here(Engine):
    """This process, without a cluster."""

    def run(self, work: Work, shards: Iterable[tuple[int, Any]], precision: str) -> Iterator[Done]:
        work.settle(Place.alone("cpu", precision))
        for number, shard in shards:
            began = time.perf_counter()
            result = work.do(shard)
            yield Done(number, result, "here", time.perf_counter() - began)


def mining(reasoner: Any, problems: list, size: int) -> tuple[Work, list[Any]]:
    noise = GaussianNoise(relative_std=0.5)
    work = ShardMiner(reasoner, noise, SAMPLES, ROLLOUTS, 0, True, False, BUDGET)
    starts = range(0, len(problems), size)
    return work, [Shard(list(range(i, i + size)), problems[i : i + size]) for i in starts]


def prediction(folder: str, problems: list, size: int) -> tuple[Work, list[Any]]:
    search = LatentSearch(folder, GaussianNoise(relative_std=0.5), None, 32, token_budget=BUDGET)
    return SearchWork(search), [problems[i : i + size] for i in range(0, len(problems), size)]


def measure(engine: Engine, work: Work, shards: list[Any], skipped: int) -> tuple[float, float]:
    """Questions per second after so many shards, and seconds in all."""
    began, since, questions = time.perf_counter(), 0.0, 0
    for count, done in enumerate(engine.run(work, enumerate(shards), "32-true"), start=1):
        questions += len(shards[done.number]) * (count > skipped)
        if count == skipped:
            since = time.perf_counter()
    end = time.perf_counter()
    return questions / (end - since), end - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--questions", type=int, default=4096)
    parser.add_argument("--shard", type=int, default=128)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--commands", nargs="+", default=["mine", "predict"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    reasoner = new_reasoner("coconut", BACKBONE, WordTokenizer(20).build(), 6, max_answer_tokens=4)
    problems = WordProblems("mine", options.questions).load()
    problems.sort(key=lambda problem: len(problem.question.split()))
    with tempfile.TemporaryDirectory() as folder:
        save_folder(reasoner, Path(folder) / "reasoner")
        for name in options.commands:
            alone = 0.0
            for workers in (0, *options.workers):
                if name == "mine":
                    work, shards = mining(reasoner, problems, options.shard)
                else:
                    given = str(Path(folder) / "reasoner")
                    work, shards = prediction(given, problems, options.shard)
                engine: Engine = RayEngine(workers=workers) if workers else Here()
                rate, seconds = measure(engine, work, shards, 2 * max(workers, 1))
                alone = alone or rate
                who = f"{workers} Ray worker(s)" if workers else "one process"
                print(
                    f"{name:8} {who:16} {rate:7.1f} questions/s  {rate / alone:.2f}x  "
                    f"{seconds:6.1f} s in all",
                    flush=True,
                )


if __name__ == "__main__":
    main()
