"""What one process of a run cannot do, where the environment says so: `FAIL="RANK HOW AFTER"`.

Used as `tests.cluster.failing.Noise` or `Steps` in commands, whose settings stay the same when they
are given again without it.
"""

import os
import signal
from itertools import count
from typing import Any

import lightning.pytorch as pl
from lightning.fabric.strategies.launchers.subprocess_script import _ChildProcessObserver

from lightning_ltts.errors import ConfigError
from lightning_ltts.sampling import GaussianNoise

_calls = count()
# Lightning kills a process whose child is gone, and looks every five seconds: here all the time, so
# that it would be seen if it still did
_ChildProcessObserver.__init__.__defaults__ = (0.01,)


def fail() -> None:
    """After so many calls: a mistake of the user, a bug, or a kill."""
    rank, how, after = os.environ.get("FAIL", "-1 never 0").split()
    if os.environ.get("LOCAL_RANK", "0") != rank or next(_calls) < int(after):
        return
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "bug":
        raise RuntimeError("nobody expected this")
    raise ConfigError("this cannot be done here; do something else")


class Noise(GaussianNoise):
    """The same noise, which one of the processes cannot make."""

    def perturb(self, *given: Any, **more: Any) -> Any:
        fail()
        return super().perturb(*given, **more)


class Steps(pl.Callback):
    """Steps of a training, which one of the processes cannot do."""

    def on_train_batch_start(self, *given: Any) -> None:
        fail()
