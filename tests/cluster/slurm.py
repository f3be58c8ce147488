"""A Slurm of one node, this machine, in a folder of its own, for as long as a command runs.

    python tests/cluster/slurm.py srun --ntasks 2 hostname

It needs `slurm-wlm` and `munge` as Debian has them, and neither systemd nor cgroups. Nothing of the
machine's own configuration is read, and nothing is left behind.
"""

import getpass
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

COMMANDS = ("munged", "slurmctld", "slurmd", "sinfo", "scancel", "srun", "sbatch", "squeue")
PLACES = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))  # of daemons
NOT_THERE = "Slurm is not installed (no {}; apt-get install slurm-wlm munge)"
CONFIGURATION = """
ClusterName=ltts
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SrunPortRange=30000-60000
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=5
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> list[str]:
    """The commands of Slurm that are not installed here."""
    return [name for name in COMMANDS if shutil.which(name, path=PLACES) is None]


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@contextmanager
def _daemon(folder: Path, name: str, *options: str) -> Iterator[None]:
    command = [str(shutil.which(name, path=PLACES)), *options]
    with (folder / f"{name}.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _await_node(folder: Path, environment: dict[str, str]) -> None:
    """Waits until the node takes jobs.

    Raises:
        RuntimeError: it does not in a minute; with what the daemons said.
    """
    end = time.monotonic() + 60
    asked = ["sinfo", "--noheader", "--format=%t"]
    while time.monotonic() < end:
        state = subprocess.run(asked, env=environment, capture_output=True, text=True).stdout
        if state.strip() == "idle":
            return
        time.sleep(0.2)
    said = "".join(path.read_text()[-2000:] for path in sorted(folder.glob("*.log")))
    raise RuntimeError(f"Slurm did not start in a minute:\n{said}")


def _end_jobs(user: str, environment: dict[str, str]) -> None:
    """Waits until all jobs have ended; they would outlive the daemons that they report to."""
    subprocess.run(["scancel", "--full", "--user", user], env=environment, check=False)
    end = time.monotonic() + 60
    listed = ["squeue", "--noheader"]
    while time.monotonic() < end:
        if not subprocess.run(listed, env=environment, capture_output=True).stdout.strip():
            return
        time.sleep(0.2)


@contextmanager
def slurm(cpus: int = 2) -> Iterator[dict[str, str]]:
    """The environment in which Slurm's commands reach a cluster that ends with the context.

    Args:
        cpus: that the node says it has, whatever the machine has.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slurm")))
        folder.chmod(0o755)  # munged wants its socket to be reachable
        for name in ("state", "spool"):
            (folder / name).mkdir()
        key, file = folder / "munge.key", folder / "slurm.conf"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        host = socket.gethostname().split(".")[0]
        ports = _free_ports(2)
        user = getpass.getuser()
        text = CONFIGURATION.format(host=host, user=user, ports=ports, folder=folder, cpus=cpus)
        file.write_text(text)
        own = {"socket": "socket", "key-file": "key", "log-file": "said", "pid-file": "pid"}
        own |= {"seed-file": "seed"}
        places = [f"--{option}={folder}/munge.{name}" for option, name in own.items()]
        stack.enter_context(_daemon(folder, "munged", "--foreground", "--force", *places))
        stack.enter_context(_daemon(folder, "slurmctld", "-D", "-f", str(file)))
        stack.enter_context(_daemon(folder, "slurmd", "-D", "-f", str(file), "-N", host))
        environment = os.environ | {"SLURM_CONF": str(file)}
        _await_node(folder, environment)
        try:
            yield environment
        finally:
            _end_jobs(user, environment)


if __name__ == "__main__":
    if lacking := missing():
        sys.exit(f"error: {NOT_THERE.format(lacking[0])}")
    with slurm() as around:
        sys.exit(subprocess.run(sys.argv[1:], env=around).returncode)
