"""How mistakes of the user are told: one sentence on stderr and exit code 2."""

import re
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from hydra.errors import HydraException
from lightning.fabric.utilities.exceptions import MisconfigurationException
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from lightning_ltts.errors import LTTSError


def fail(message: str) -> NoReturn:
    """Tells a mistake of the user, and exits with code 2."""
    text = " ".join(message.split())
    print(f"error: {text}", file=sys.stderr)
    raise SystemExit(2)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Mistakes of the user, and what the disk refuses, end in one line and exit code 2.

    Anything else is a bug and keeps its traceback.
    """
    try:
        yield
    except Exception as error:
        message = _explained(error)
        if message is None:
            raise
        fail(message)


def _explained(error: Exception) -> str | None:
    """What to tell of an error; None where it is a bug."""
    if isinstance(error, HydraException | OmegaConfBaseException):
        return tidy_hydra(str(error))
    # jsonargparse wraps what a class raises when it is made
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, LTTSError | MisconfigurationException):
        cause = cause.__cause__ or cause.__context__
    if cause is not None:
        return str(cause)
    if isinstance(error, YAMLError):
        return f"a configuration is not YAML: {error}"
    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}{error.strerror}; check the path, its permissions and the free space"
    if isinstance(error, ValueError | RuntimeError) and _raised_by_lightning(error):
        return str(error)
    return None


def _raised_by_lightning(error: Exception) -> bool:
    """Whether Lightning itself found the fault: a strategy, a metric or a device there is not."""
    frames = traceback.walk_tb(error.__traceback__)
    *_, (innermost, _) = frames
    return str(innermost.f_globals.get("__name__")).startswith("lightning.")


def refuse_undecodable(arguments: Sequence[str]) -> None:
    """Ends with the name of a given configuration file, or one in a given folder, not in UTF-8."""
    for path in (Path(argument.split("=", 1)[-1]) for argument in arguments):
        for file in sorted(path.rglob("*.yaml")) if path.is_dir() else [path]:
            try:
                if file.is_file():
                    file.read_text(encoding="utf-8")
            except UnicodeDecodeError as error:
                fail(f"{file} is not UTF-8 text (byte {error.start}); save it in UTF-8")


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
