"""Tests against a changed copy of the package, in forks of a process that has the imports done.

Importing PyTorch and Transformers takes longer than most tests. A fork takes milliseconds, and
imports the package and its tests anew, as they stand in the copy.
"""

import compileall
import os
import shutil
import signal
import sys
import time
from importlib import import_module
from pathlib import Path
from py_compile import PycInvalidationMode

ROOT = Path(__file__).parents[1]
PARTS = ("lightning_ltts", "configs", "tests", "docs", "benchmarks", "pyproject.toml", "README.md")
# what the package and its tests import
HEAVY = (
    "pytest",
    "hypothesis",
    "torch",
    "torchmetrics",
    "lightning.pytorch.cli",
    "transformers.models.gpt2.modeling_gpt2",
    "transformers.models.llama.modeling_llama",
)


def copy_to(folder: Path) -> None:
    """Copies what tests need; compiled files are checked by content, as changes come fast."""
    leave = shutil.ignore_patterns("__pycache__")
    for name in PARTS:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=leave)
        else:
            shutil.copy(ROOT / name, folder)
    package = folder / "lightning_ltts"
    compileall.compile_dir(package, quiet=1, invalidation_mode=PycInvalidationMode.CHECKED_HASH)


def run_tests(folder: Path, options: list[str], seconds: float) -> int | None:
    """pytest's exit code in a copy; None where it took longer. Its output is in `output.txt`."""
    os.environ["OMP_NUM_THREADS"] = "1"
    for module in HEAVY:
        import_module(module)
    child = os.fork()
    if child == 0:
        _test(folder, options)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def _test(folder: Path, options: list[str]) -> None:
    """The child: it never returns."""
    os.setsid()  # so that what it starts ends with it
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    os.environ["PYTHONPATH"] = str(folder)
    file = os.open("output.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    code = 3  # pytest's own for an error of its own
    try:
        import pytest

        code = int(pytest.main(["-x", "-p", "no:cacheprovider", *options]))
    finally:
        sys.stdout.flush()
        os._exit(code)
