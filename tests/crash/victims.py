"""Starts, kills and compares runs of `ltts`."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


class Zygote:
    """The process that forks the victims, see `zygote.py`."""

    def __init__(self) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", str(Path(__file__).with_name("zygote.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def ask(self, **job: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


@dataclass
class Victim:
    """A running command."""

    zygote: Zygote
    pid: int
    output: Path

    def wait(self) -> int:
        """Its exit code, negative where a signal ended it."""
        return self.zygote.ask(wait=self.pid)["code"]

    def wait_for(self, path: Path, timeout: float = 60) -> None:
        """Until a file is there."""
        end = time.monotonic() + timeout
        while not path.exists() and time.monotonic() < end:
            time.sleep(0.01)
        assert path.exists(), self.output.read_text()

    def kill(self, number: int = signal.SIGKILL) -> int:
        """Sends a signal and returns the exit code."""
        os.kill(self.pid, number)
        return self.wait()


def start(zygote: Zygote, folder: Path, arguments: list[str], **options: Any) -> Victim:
    """`ltts ARGUMENTS` in a folder; what it prints is appended to `output.txt` there."""
    folder.mkdir(parents=True, exist_ok=True)
    output = folder / "output.txt"
    started = zygote.ask(run=arguments, cwd=str(folder), output=str(output), **options)
    return Victim(zygote, started["pid"], output)


def run(zygote: Zygote, folder: Path, arguments: list[str], **options: Any) -> int:
    """The exit code of `ltts ARGUMENTS` in a folder."""
    return start(zygote, folder, arguments, **options).wait()
