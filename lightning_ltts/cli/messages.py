"""How mistakes of the user are told: one sentence on stderr and exit code 2."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from hydra.errors import HydraException
from lightning.fabric.utilities.exceptions import MisconfigurationException
from omegaconf.errors import OmegaConfBaseException

from lightning_ltts.errors import LTTSError


def fail(message: str) -> NoReturn:
    """Tells a mistake of the user, and exits with code 2."""
    text = " ".join(message.split())
    print(f"error: {text}", file=sys.stderr)
    raise SystemExit(2)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Mistakes of the user end in one line and exit code 2.

    Anything else is a bug and keeps its traceback.
    """
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        fail(tidy_hydra(str(error)))
    except Exception as error:
        # jsonargparse wraps what a class raises when it is made
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, LTTSError | MisconfigurationException):
            cause = cause.__cause__ or cause.__context__
        if cause is None:
            raise
        fail(str(cause))


def tidy_hydra(message: str) -> str:
    """A Hydra error without search paths and hints on stack traces."""
    message = message.split("Config search path")[0].split("full_key")[0].strip()
    hint = "; 'ltts --help' lists the experiments" if "Could not find" in message else ""
    return message + hint


def tidy_parser(message: str) -> str:
    """A jsonargparse error without the configuration it quotes and the types nobody meant."""
    message = message.split("Given value type")[0]
    union = r"Does not validate against any of the Union subtypes.*?Errors:\s*-\s*"
    message = re.sub(union, "", message, flags=re.S)
    return re.sub(r"- Expected a <class 'NoneType'>", "", message)
