"""How mistakes of the user are told: one sentence on stderr and exit code 2."""

import re
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from lightning_ltts.errors import LTTSError
from lightning_ltts.stopping import Stopping, is_first


def fail(message: str) -> NoReturn:
    """Tells a mistake of the user, and exits with code 2.

    Most mistakes are found by all processes of a distributed run: the first one tells them and ends
    the others, which wait for that.
    """
    if not is_first():
        time.sleep(1)
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
            if Stopping.current is not None:  # before anybody shows a traceback
                Stopping.current.wait_for_others(error)
            raise
        fail(message)


def _explained(error: Exception) -> str | None:
    """What to tell of an error; None where it is a bug."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    if isinstance(error, HydraException | OmegaConfBaseException):
        wrapped = error.__cause__ or error.__context__ or type(error).__name__
        override = getattr(error, "override", None)  # the one that cannot be read
        return f"{override}: " * bool(override) + tidy_hydra(str(error) or str(wrapped))
    # jsonargparse wraps what a class raises when it is made
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, LTTSError) and not _is_lightnings(cause):
        cause = cause.__cause__ or cause.__context__
    if cause is not None:
        return str(cause)
    if isinstance(error, YAMLError):
        return f"a configuration is not YAML: {error}"
    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}{error.strerror}; check the path, its permissions and the free space"
    if isinstance(error, ValueError | RuntimeError) and _raised_by_a_front(error):
        return str(error)
    return None


def _is_lightnings(error: BaseException) -> bool:
    """Whether Lightning refuses an option. It is not imported for that, if nothing else did."""
    module = sys.modules.get("lightning.fabric.utilities.exceptions")
    return module is not None and isinstance(error, module.MisconfigurationException)


def _raised_by_a_front(error: Exception) -> bool:
    """Whether Lightning or Hydra itself found the fault: a strategy, a metric, a choice there is not."""
    frames = traceback.walk_tb(error.__traceback__)
    *_, (innermost, _) = frames
    return str(innermost.f_globals.get("__name__")).startswith(("lightning.", "hydra."))


def tidy_hydra(message: str) -> str:
    """A Hydra error without search paths and hints on stack traces, and with what was meant."""
    hint = _hydra_hint(message)
    message = re.split("Config search path|full_key|See https://hydra.cc", message)[0].strip()
    if "Cannot merge DictConfig with ListConfig" in message:
        message += "; options are written by their names, not as a list"
    if "Could not find 'experiment/" in message:  # the list of them is long
        message = message.split("Available options")[0].strip()
    return message + hint


def _hydra_hint(message: str) -> str:
    """What to do about a choice or a key that there is not, with the one that may be meant."""
    from lightning_ltts.cli.choices import choices_of, nearest, top_level_keys

    if found := re.search(r"Could not find '([^/']+)/([^']+)'", message):
        group, name = found.groups()
        own = [Path(path) for path in re.findall(r"path=file://(\S+)", message)]
        close = nearest(name, choices_of(group, own))
        meant = f"; did you mean {close}?" if close else ";" if group == "experiment" else ""
        return meant + (" 'ltts list' lists the experiments" if group == "experiment" else "")
    if found := re.search(r"Could not override '(\w+)", message):
        close = nearest(found[1], top_level_keys())
        return f"; did you mean {close}?" if close else ""
    return ""


def tidy_parser(message: str) -> str:
    """A jsonargparse error without the configuration it quotes and the types nobody meant."""
    message = message.split("Given value type")[0]
    kinds = r"Subclass types expect one of:.*"
    message = re.sub(kinds, "give its class_path and init_args", message, flags=re.S)
    union = r"Does not validate against any of the Union subtypes.*?Errors:\s*-\s*"
    message = re.sub(union, "", message, flags=re.S)
    return re.sub(r"- Expected a <class 'NoneType'>", "", message)
