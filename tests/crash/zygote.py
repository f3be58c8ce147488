"""A process with the imports done, which forks one child for every `ltts` command it is asked for.

Starting Python and importing everything takes seconds; a fork takes milliseconds. No tensor is made
before, so that the children have all threads and locks of PyTorch to themselves.

Reads a JSON object a line: {"run": [arguments], "cwd": ..., "output": file, "environment": {...},
"die": {"at": n, "after": bool} or null} answers {"pid": ...}; {"wait": pid} answers {"code": ...},
negative for a signal, and how many of the calls at which a child can die there were.
"""

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

# what the commands import
HEAVY = (
    "lightning.pytorch.cli",
    "torch.utils.tensorboard",
    "transformers.models.gpt2.modeling_gpt2",
    "lightning_ltts.cli.main",
    "lightning_ltts.report.page",
)
# where a kill could tear something apart
CALLS = ("replace", "rename", "fsync", "unlink", "remove")


def dies_at(number: int, after: bool) -> list[str]:
    """Counts the calls that change names or wait for the disk; dies at one of them (0: at none)."""
    seen: list[str] = []

    def watched(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def calls(*args: Any, **options: Any) -> Any:
            seen.append(name)
            dies = len(seen) == number
            if dies and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            result = call(*args, **options)
            if dies:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return calls

    for name in CALLS:
        setattr(os, name, watched(name, getattr(os, name)))
    return seen


def run(job: dict[str, Any]) -> None:
    """The child: one command, as a process of its own would run it."""
    file = os.open(job["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for descriptor in (1, 2):
        os.dup2(file, descriptor)
    os.chdir(job["cwd"])
    os.environ |= job.get("environment", {})
    die = job.get("die") or {"at": 0, "after": False}
    seen = dies_at(die["at"], die["after"])
    sys.argv = ["ltts", *job["run"]]
    code = 1
    try:
        from lightning_ltts.cli import main

        main()
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    Path(f"{job['output']}.calls").write_text(json.dumps(seen))
    os._exit(code)


def main() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    for module in HEAVY:
        import_module(module)

    for line in sys.stdin:
        job = json.loads(line)
        if "wait" in job:
            answer = {"code": os.waitstatus_to_exitcode(os.waitpid(job["wait"], 0)[1])}
        else:
            child = os.fork()
            if child == 0:
                run(job)
            answer = {"pid": child}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
