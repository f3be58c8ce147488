"""Kills processes of a run at random moments; the same command goes on, as often as it takes."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from tests.cluster.commands import LTTS, finish, start

KILLS = int(os.environ.get("LTTS_KILLS", "2"))  # of ranks, for each command
Ranks = Callable[[subprocess.Popen[str], Path], list[psutil.Process]]


def kill_and_go_on(
    command: list[str], ranks: Ranks, check: Callable[[Path], None], folder: Path, **more: str
) -> None:
    """Runs a command in two processes until so many kills ended it, and to its end each time.

    Args:
        command: with its launcher.
        ranks: its processes, by the launcher's process and the folder of the run.
        check: of the folder of a run that is over; such a run starts in a new folder.
        folder: for those of the runs.
        more: variables of the environment.
    """
    chance, kills, runs = random.Random(" ".join(command)), 0, 0
    while kills < KILLS:
        runs += 1
        assert runs < 5 * KILLS, "most runs were over before a process could be killed"
        here = folder / str(runs)
        while kills < KILLS and _has_killed(start(here, command, **more), ranks, here, chance):
            kills += 1
        if kills == KILLS:
            finish(start(here, command, **more))
        check(here)


def _has_killed(
    process: subprocess.Popen[str], ranks: Ranks, folder: Path, chance: random.Random
) -> bool:
    """Kills one of the two processes soon after they have met; whether that ended the run."""
    assert process.stdout is not None
    for line in process.stdout:
        if "Starting with 2 processes" in line:
            break
    time.sleep(chance.uniform(0, 2))
    found = ranks(process, folder) if process.poll() is None else []
    if found:
        with suppress(ProcessLookupError):  # it has ended meanwhile
            os.kill(chance.choice(found).pid, signal.SIGKILL)
    said, _ = process.communicate(timeout=450)
    assert process.returncode == 0 or "SIGKILL" in said or "Killed" in said, said[-3000:]
    return process.returncode != 0


def children(process: subprocess.Popen[str], folder: Path) -> list[psutil.Process]:
    """The ranks that a launcher has started itself."""
    found: list[psutil.Process] = psutil.Process(process.pid).children()
    return found


def in_folder(process: subprocess.Popen[str], folder: Path) -> list[psutil.Process]:
    """The ranks that a daemon has started, which are no children of the launcher."""
    found = []
    for one in psutil.process_iter():
        with suppress(psutil.Error):
            if one.cmdline()[: len(LTTS)] == LTTS and one.cwd() == str(folder):
                found.append(one)
    return found
