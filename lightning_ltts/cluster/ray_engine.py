"""The engine on Ray: shards are tasks, which Ray does again where a worker or a node is lost."""

import logging
import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from typing import Any

import torch

from lightning_ltts.cluster.engine import Done, Engine, Place, Work
from lightning_ltts.data.ranges import require_number, require_whole
from lightning_ltts.errors import ConfigError, LTTSError, WorkerError

_AHEAD = 2  # shards for each worker that are with Ray, so that none waits for the next one
_held: dict[str, Work] = {}  # in a worker: the work that it has, by name


class RayEngine(Engine):
    """Has shards done by the CPUs or GPUs of a Ray cluster, which may come and go meanwhile.

    A worker is a process that holds the model. Where one is lost, Ray does its shard again
    elsewhere. It needs the extra `ray`.

    Args:
        address: of a cluster that is running: `auto` for the one of this machine, or `HOST:PORT`,
            of which this machine is a node. By default a cluster on this machine is started, for
            this run alone.
        workers: workers at once; by default as many as the cluster has room for.
        cpus: CPU cores of a worker, and threads that it computes with.
        gpus: GPUs of a worker, which may be a share; by default 1 where the cluster has any.
        retries: how often a shard is done again whose worker was lost.

    Raises:
        ConfigError: Ray is not installed, or a number is out of range.
    """

    def __init__(
        self,
        address: str | None = None,
        workers: int | None = None,
        cpus: int = 1,
        gpus: float | None = None,
        retries: int = 20,
    ):
        if workers is not None:
            require_whole("RayEngine", "workers", workers, 1)
        require_whole("RayEngine", "cpus", cpus, 1)
        require_whole("RayEngine", "retries", retries)
        if gpus is not None:
            require_number("RayEngine", "gpus", gpus)
        if find_spec("ray") is None:
            raise ConfigError(
                "engine=ray needs Ray, which is not installed; pip install 'lightning-ltts[ray]', "
                "or leave engine out"
            )
        self.address = address
        self.workers = workers
        self.cpus = cpus
        self.gpus = gpus
        self.retries = retries
        self._kept: ExitStack | None = None  # which ends the cluster that is kept

    @contextmanager
    def kept(self) -> Iterator[None]:  # noqa: D102
        if self._kept is not None:
            yield
            return
        with ExitStack() as self._kept:
            try:
                yield
            finally:
                self._kept = None

    def run(  # noqa: D102
        self, work: Work, shards: Iterable[tuple[int, Any]], precision: str
    ) -> Iterator[Done]:
        import ray

        waiting = iter(shards)
        with ExitStack() as own:
            (self._kept or own).enter_context(self._cluster())
            gpus = self._gpus_each()
            task = ray.remote(
                num_cpus=self.cpus,
                num_gpus=gpus,
                max_retries=self.retries,
                max_calls=0,  # a process goes on with other shards, on GPUs too
            )(_do)
            # in a list, so that not every task fetches the model
            held = [ray.put(work)]
            order = ("gpu" if gpus else "cpu", precision, self.cpus)
            running: dict[Any, int] = {}
            while True:
                while len(running) < self._most(gpus) and (shard := next(waiting, None)):
                    running[task.remote(held, order, *shard)] = shard[0]
                if not running:
                    return
                finished, _ = ray.wait(list(running), num_returns=1)
                numbers = [running.pop(reference) for reference in finished]
                for reference, number in zip(finished, numbers, strict=True):
                    yield self._result(reference, number)
                    del reference

    def _result(self, reference: Any, number: int) -> Done:
        """What came of a shard; errors of the work are raised here as they were there."""
        import ray

        try:
            done: Done = ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            cause = error.cause
            raise (cause if isinstance(cause, LTTSError) else error) from None
        except ray.exceptions.RayError as error:
            why = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise WorkerError(
                f"shard {number} was given up after its workers were lost {self.retries + 1} times "
                f"({why}); see to their memory, and give the same command again: finished shards "
                "are kept"
            ) from None
        return done

    @contextmanager
    def _cluster(self) -> Iterator[None]:
        """The cluster: the one that this process has, one that is joined, or one of its own."""
        import ray

        if ray.is_initialized():
            yield
            return
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if self.address is None:
            options |= {"address": "local", "include_dashboard": False}
            if self.workers is not None:
                options["num_cpus"] = self.workers * self.cpus
        else:
            options["address"] = self.address
        try:
            with _own_signals():
                ray.init(**options)
        # of no class of its own, where starting takes too long; and Ray exits where nobody answers
        except (Exception, SystemExit) as error:
            raise WorkerError(self._unreachable(" ".join(str(error).split())[:200])) from None
        try:
            yield
        finally:
            ray.shutdown()

    def _unreachable(self, why: str) -> str:
        if self.address is None:
            return f"Ray cannot be started here ({why}); leave engine out to compute without it"
        return (
            f"the Ray cluster at {self.address} cannot be joined ({why}); start one with 'ray start "
            "--head', or leave ray_address out to have one started for this run"
        )

    def _gpus_each(self) -> float:
        """GPUs of a worker."""
        import ray

        if self.gpus is not None:
            return self.gpus
        return 1.0 if ray.cluster_resources().get("GPU", 0) >= 1 else 0.0

    def _most(self, gpus: float) -> int:
        """How many shards are given to Ray at once; nodes may have come or gone since last time."""
        import ray

        there = ray.cluster_resources()
        room = int(there.get("CPU", 0) // self.cpus)
        if gpus:
            room = min(room, int(there.get("GPU", 0) / gpus))
        if room < 1 and self.address is None:
            cores = int(there.get("CPU", 0))
            raise WorkerError(
                f"a worker with {self.cpus} CPUs and {gpus:g} GPUs does not fit this machine, which "
                f"has {cores} and {there.get('GPU', 0):g}; ask for less by engine.init_args.cpus "
                "and engine.init_args.gpus"
            )
        if self.workers is not None and self.address is not None:
            return self.workers
        # at least one, which asks a cluster that grows by itself for a node
        return max(room, 1) * _AHEAD


@contextmanager
def _own_signals() -> Iterator[None]:
    """Signals stay with the command; Ray would take SIGTERM."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _do(held: list[Any], order: tuple[str, str, int], number: int, shard: Any) -> Done:
    """In a worker: does a shard with the work that it has, which it fetches the first time.

    Args:
        held: a reference to the work.
        order: accelerator, precision, and threads.
        number: of the shard.
        shard: what to do.
    """
    import ray

    (reference,) = held
    name = reference.hex()
    if name not in _held:
        accelerator, precision, threads = order
        torch.set_num_threads(threads)
        _held.clear()
        work: Work = ray.get(reference)
        work.settle(Place.alone(accelerator, precision))
        _held[name] = work
    began = time.perf_counter()
    result = _held[name].do(shard)
    seconds = time.perf_counter() - began
    worker = f"{ray.util.get_node_ip_address()}:{os.getpid()}"
    return Done(number, result, worker, seconds)
