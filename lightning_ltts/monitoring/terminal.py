"""What commands write to the terminal: no noise; with `--quiet` only errors and the result; with `--json` one line."""

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from contextvars import ContextVar
from typing import TextIO

QUIET = "LTTS_QUIET"  # environment variable, for the other processes of a distributed run
JSON_STREAM: ContextVar[TextIO | None] = ContextVar(
    "JSON_STREAM", default=None
)  # where the result goes as JSON, if it does

# what a user of this program can do nothing about
_WARNINGS = (
    ".*isinstance.treespec, LeafSpec.*",
    ".*does not have many workers.*",
    ".*Checkpoint directory .* exists and is not empty.*",
    ".*You have overridden `on_after_batch_transfer` in `LightningModule`.*",
    ".*Total length of `list` across ranks is zero.*",
)
_INFO = ("Tip:", "TPU available", "to estimate number of stepping batches")


def _tells_something(record: logging.LogRecord) -> bool:
    return not any(part in record.getMessage() for part in _INFO)


@contextmanager
def terminal(quiet: bool, json: bool) -> Iterator[None]:
    """Sets up the terminal for one command.

    Args:
        quiet: no warnings and information; bars are turned off with `trainer.enable_progress_bar=false`.
        json: what is printed goes to stderr (nowhere if quiet), and `JSON_STREAM` is what stdout was.
    """
    with ExitStack() as stack:
        if quiet:
            os.environ[QUIET] = "1"
            stack.callback(os.environ.pop, QUIET, None)
        if json:
            token = JSON_STREAM.set(sys.stdout)
            stack.callback(JSON_STREAM.reset, token)
            stack.enter_context(
                redirect_stdout(stack.enter_context(open(os.devnull, "w")) if quiet else sys.stderr)
            )
        yield


@contextmanager
def hushed() -> Iterator[None]:
    """Without noise; inside of a quiet `terminal` without any warning and information.

    To be used once Lightning is imported: it sets up its loggers and filters of warnings then.
    """
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        for message in _WARNINGS:
            warnings.filterwarnings("ignore", message=message)
        for handler in (handler for logger in loggers for handler in logger.handlers):
            handler.addFilter(_tells_something)
            stack.callback(handler.removeFilter, _tells_something)
        if QUIET in os.environ:
            warnings.simplefilter("ignore")
            for logger in loggers:
                stack.callback(logger.setLevel, logger.level)
                logger.setLevel(logging.ERROR)
        yield
