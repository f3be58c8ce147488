"""Commands in processes of their own, as torchrun, Slurm and Ray start them, and what they leave."""

import os
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
LTTS = [sys.executable, "-m", "lightning_ltts"]
_TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--local-addr=localhost"]
TORCHRUN = [*_TORCHRUN, "--nproc-per-node=2", "--standalone", "-m", "lightning_ltts"]
RUN = "logs/run"  # where each of the commands below leaves its results
_COMMON = [
    "name=run", "trainer.accelerator=cpu", "trainer.enable_progress_bar=false", "trainer.logger=false",
]  # fmt: skip
MINE = [
    "mine", "experiment=demo/latent_rm", *_COMMON, "data.init_args.train.init_args.size=24",
    "data.init_args.num_samples=3", "data.init_args.val.init_args.size=4", "data.init_args.shard_size=2",
    "data.init_args.val_num_samples=2", "data.init_args.num_rollouts=1", "data.init_args.informative=null",
    "data.init_args.token_budget=2000", "data.init_args.keep_uninformative=true",
]  # fmt: skip
PREDICT = [
    "predict", "experiment=demo/search", *_COMMON, "data.init_args.problems.init_args.size=9",
    "model.init_args.num_samples=4", "model.init_args.beam.init_args.beams=2",
    "model.init_args.token_budget=400",
]  # fmt: skip
FIT = [
    "fit", "experiment=demo/reasoner", *_COMMON, "trainer.max_epochs=2",
    "model.init_args.start.backbone.n_embd=16", "data.init_args.train.init_args.size=64",
    "data.init_args.val.init_args.size=8", "data.init_args.batch_size=16", "callbacks.flat_accuracy=null",
]  # fmt: skip
TWO = ["trainer.devices=2", "trainer.strategy=ddp"]


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port: int = free.getsockname()[1]
        return port


def torchrun_of_two_nodes() -> list[str]:
    """What has to be started twice, as on two machines: one process each."""
    meeting = ["--rdzv-backend=c10d", f"--rdzv-endpoint=localhost:{free_port()}", "--rdzv-id=1"]
    return [*_TORCHRUN, "--nnodes=2", "--nproc-per-node=1", *meeting, "-m", "lightning_ltts"]


def surrounding(**more: str) -> dict[str, str]:
    """The environment of a command: this checkout's package, and one thread."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"} | more


def start(folder: Path, command: list[str], **more: str) -> subprocess.Popen[str]:
    """A command in a folder, which is made; `more` adds to its environment.

    It is the first of a group of processes, as in a terminal.
    """
    folder.mkdir(exist_ok=True)
    return subprocess.Popen(
        command, cwd=folder, env=surrounding(**more), text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def finish(*processes: subprocess.Popen[str]) -> str:
    """Waits for commands that must succeed; what the last one said."""
    said = ""
    for process in processes:
        said, _ = process.communicate(timeout=450)
        assert process.returncode == 0, said[-3000:]
    return said


def printed(folder: Path, arguments: list[str]) -> str:
    """The name of the file in a folder that holds what a command prints of its configuration."""
    folder.mkdir(exist_ok=True)
    command = [*LTTS, *arguments, "--print_config"]
    done = subprocess.run(command, cwd=folder, env=surrounding(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (folder / f"{arguments[0]}.yaml").write_text(done.stdout)
    return f"{arguments[0]}.yaml"
