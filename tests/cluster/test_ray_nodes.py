"""A Ray cluster whose nodes join and leave while a run is going."""

import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lightning_ltts.cluster.engine import Done, Place, Work
from lightning_ltts.cluster.ray_engine import RayEngine
from tests.cluster.helpers import mine, store

pytest.importorskip("ray", reason="Ray is not installed (pip install 'lightning-ltts[ray]')")
pytestmark = pytest.mark.processes


class Together(Work):
    """Work that a worker does not finish alone: it waits for a second one after some shards.

    Args:
        work: what is done.
        folder: where each worker leaves a file.
    """

    def __init__(self, work: Work, folder: Path):
        self.work, self.folder, self.begun = work, folder, 0

    def settle(self, place: Place) -> None:
        (self.folder / str(os.getpid())).touch()
        self.work.settle(place)

    def do(self, shard: Any) -> Any:
        self.begun += 1
        while self.begun > 4 and len(list(self.folder.iterdir())) < 2:
            time.sleep(0.05)
        time.sleep(0.2)
        return self.work.do(shard)


class Changing(RayEngine):
    """Has a node added after two shards, and taken away when that has done one.

    Args:
        cluster: of one node, to begin with.
        folder: an empty one.
    """

    def __init__(self, cluster: Any, folder: Path):
        super().__init__(cluster.address)
        self.cluster, self.folder = cluster, folder
        self.workers_of: list[str] = []  # of each shard that was done, in their order
        self.node: Any = None
        self.left_after = 0  # shards

    def run(self, work: Work, shards: Iterable[tuple[int, Any]], precision: str) -> Iterator[Done]:
        for done in super().run(Together(work, self.folder), shards, precision):
            self.workers_of.append(done.worker)
            if len(self.workers_of) == 2:
                self.node = self.cluster.add_node(num_cpus=1)
            elif self.node is not None and len(set(self.workers_of)) == 2 and not self.left_after:
                self.cluster.remove_node(self.node)
                self.left_after = len(self.workers_of)
            yield done


def test_nodes_that_join_and_leave(reasoner_file: Path, tmp_path: Path) -> None:
    """The store is that of one process."""
    from ray.cluster_utils import Cluster

    mine(tmp_path / "one", reasoner_file, shard_size=1)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    (tmp_path / "workers").mkdir()
    try:
        engine = Changing(cluster, tmp_path / "workers")
        mine(tmp_path / "ray", reasoner_file, engine, shard_size=1)
    finally:
        cluster.shutdown()
    assert 2 < engine.left_after < len(engine.workers_of) == 30
    came_and_went = engine.workers_of[engine.left_after - 1]
    assert came_and_went not in engine.workers_of[engine.left_after + 1 :]
    assert store(tmp_path / "ray") == store(tmp_path / "one")
