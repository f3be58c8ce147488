"""Two processes that torchrun or Slurm starts end with the results of one."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.helpers import shards_of

pytestmark = pytest.mark.processes
ROOT = Path(__file__).parents[2]
MINE = [
    "mine", "experiment=demo/latent_rm", "trainer.accelerator=cpu", "trainer.enable_progress_bar=false",
    "trainer.logger=false", "data.init_args.train.init_args.size=12", "data.init_args.num_samples=3",
    "data.init_args.val.init_args.size=4", "data.init_args.val_num_samples=2", "data.init_args.shard_size=4",
    "data.init_args.num_rollouts=1", "data.init_args.informative=null", "data.init_args.token_budget=2000",
    "data.init_args.keep_uninformative=true",
]  # fmt: skip
LTTS = [sys.executable, "-m", "lightning_ltts"]
TORCHRUN = [
    sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone",
    "--local_addr=localhost", "-m", "lightning_ltts",
]  # fmt: skip
ENVIRONMENT = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def start(folder: Path, command: list[str], environment: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command, cwd=folder, env=os.environ | ENVIRONMENT | environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def finish(*processes: subprocess.Popen[str]) -> None:
    for process in processes:
        said, _ = process.communicate(timeout=450)
        assert process.returncode == 0, said[-3000:]


def slurm(rank: int, port: int) -> dict[str, str]:
    """What `srun` tells the processes of one node."""
    names = {
        "JOB_ID": "1", "JOB_NAME": "mine", "NTASKS": "2", "NTASKS_PER_NODE": "2", "NNODES": "1",
        "PROCID": str(rank), "LOCALID": str(rank), "NODEID": "0", "NODELIST": "localhost",
        "JOB_NODELIST": "localhost",
    }  # fmt: skip
    return {f"SLURM_{name}": value for name, value in names.items()} | {"MASTER_PORT": str(port)}


@pytest.fixture
def expected(reasoner_file: Path, tmp_path: Path) -> dict:
    """The store that one process mines."""
    (tmp_path / "one").mkdir()
    finish(start(tmp_path / "one", [*LTTS, *MINE, f"reasoner={reasoner_file}"], {}))
    return shards_of(tmp_path / "one/logs/demo/latent_rm/trajectories")


def test_mining_in_two_processes(reasoner_file: Path, tmp_path: Path, expected: dict) -> None:
    options = [*MINE, f"reasoner={reasoner_file}", "trainer.devices=2", "trainer.strategy=ddp"]
    for name in ("torchrun", "slurm"):
        folder = tmp_path / name
        folder.mkdir()
        if name == "torchrun":
            finish(start(folder, [*TORCHRUN, *options], {}))
        else:
            with socket.socket() as free:
                free.bind(("localhost", 0))
                port = free.getsockname()[1]
            finish(*(start(folder, [*LTTS, *options], slurm(rank, port)) for rank in range(2)))
        assert shards_of(folder / "logs/demo/latent_rm/trajectories") == expected, name
