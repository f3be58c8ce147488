"""A Ray cluster of two workers: results of one process, also where workers are killed."""

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from lightning_ltts.cluster.engine import Place, Work
from lightning_ltts.cluster.ray_engine import RayEngine
from lightning_ltts.errors import StoreError, WorkerError
from tests.cluster.helpers import mine, predict, predictions, store

ray = pytest.importorskip("ray", reason="Ray is not installed (pip install 'lightning-ltts[ray]')")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def engine() -> Iterator[RayEngine]:
    """Two workers of a cluster that goes on from test to test."""
    made = RayEngine(workers=2)
    with made.kept():
        yield made


def workers() -> list[psutil.Process]:
    """The processes that are doing a shard."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if process.cmdline()[:1] == ["ray::_do"]:
                found.append(process)
        except psutil.Error:  # it has ended meanwhile
            pass
    return found


class Killer:
    """Kills workers at random moments, beside whatever runs."""

    def __init__(self, most: int, seed: int = 0):
        self.killed, self.most = 0, most
        self._chance, self._end = random.Random(seed), threading.Event()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        thread = threading.Thread(target=self._kill)
        self._end.clear()
        thread.start()
        try:
            yield
        finally:
            self._end.set()
            thread.join()

    def _kill(self) -> None:
        while self.killed < self.most and not self._end.is_set():
            if busy := workers():
                time.sleep(self._chance.uniform(0, 0.2))
                with suppress(ProcessLookupError):  # it has ended meanwhile
                    os.kill(self._chance.choice(busy).pid, signal.SIGKILL)
                    self.killed += 1
                time.sleep(self._chance.uniform(0.2, 1))  # until another one works
            time.sleep(0.01)


# before the tests that start one
def test_a_cluster_that_is_not_there() -> None:
    if ray.is_initialized():
        pytest.skip("this process has a cluster")
    with pytest.raises(WorkerError, match="cannot be joined"):
        list(RayEngine("127.0.0.1:1").run(Refuses(), [(0, None)], "32-true"))


def test_a_store_is_that_of_one_process(
    engine: RayEngine, reasoner_file: Path, tmp_path: Path
) -> None:
    mine(tmp_path / "one", reasoner_file)
    mine(tmp_path / "ray", reasoner_file, engine)
    assert store(tmp_path / "ray") == store(tmp_path / "one")


def test_predictions_are_those_of_one_process(
    engine: RayEngine, reasoner_file: Path, latent_rm_file: Path, tmp_path: Path
) -> None:
    predict(tmp_path / "one", reasoner_file, latent_rm_file)
    predict(tmp_path / "ray", reasoner_file, latent_rm_file, engine)
    assert predictions(tmp_path / "ray") == predictions(tmp_path / "one")


@pytest.mark.parametrize(
    "kills", [2, pytest.param(10, marks=pytest.mark.crash)], ids="{} kills".format
)
def test_lost_workers(
    kills: int, engine: RayEngine, reasoner_file: Path, latent_rm_file: Path, tmp_path: Path
) -> None:
    """Twice as many kills in all: so many while mining, and so many while predicting."""
    models = (reasoner_file, latent_rm_file)
    mine(tmp_path / "one", reasoner_file)
    predict(tmp_path / "one-p", *models)
    runs = {
        "mine": lambda folder: mine(folder, reasoner_file, engine),
        "predict": lambda folder: predict(folder, *models, engine),
    }
    expected = {"mine": store(tmp_path / "one"), "predict": predictions(tmp_path / "one-p")}
    for number, (name, run) in enumerate(runs.items()):
        killer, made = Killer(kills, seed=number), 0
        while killer.killed < kills:
            folder = tmp_path / f"{name}{made}"
            with killer.at_work():
                run(folder)
            made += 1
            found = store(folder) if name == "mine" else predictions(folder)
            assert found == expected[name]
            assert made < 5 * kills, "most runs were over before a worker could be killed"


class Refuses(Work):
    def settle(self, place: Place) -> None:
        pass

    def do(self, shard: Any) -> Any:
        raise StoreError(f"there is no place for {shard}; make some")


class Dies(Refuses):
    def do(self, shard: Any) -> Any:
        os._exit(1)


def test_an_error_of_the_work_is_told_as_it_is(engine: RayEngine) -> None:
    with pytest.raises(StoreError, match=r"^there is no place for seven; make some$"):
        list(engine.run(Refuses(), [(0, "seven")], "32-true"))


def test_a_shard_that_ends_every_worker_is_given_up(engine: RayEngine) -> None:
    fragile = RayEngine(workers=2, retries=1)
    with pytest.raises(WorkerError, match=r"^shard 7 was given up after .* lost 2 times \("):
        list(fragile.run(Dies(), [(7, None)], "32-true"))


def test_more_than_the_machine_has_is_refused(engine: RayEngine) -> None:
    with pytest.raises(WorkerError, match="a worker with 64 CPUs and 0 GPUs does not fit"):
        list(RayEngine(cpus=64).run(Refuses(), [(0, None)], "32-true"))
