"""Errors a user can cause. Each message is one sentence: what is wrong, where, and what to do."""

import reprlib


class LTTSError(Exception):
    """Base of all user-facing errors; the command line prints the message alone and exits with code 2."""


class ConfigError(LTTSError):
    """An option or a combination of options that cannot work."""


class DataError(LTTSError):
    """A problem file, row or text that cannot be used."""


class CheckpointError(LTTSError):
    """A checkpoint that is missing, damaged or of another kind."""


class StoreError(LTTSError):
    """A trajectory store or prediction file that does not belong to this run."""


class OtherSettingsError(StoreError):
    """A folder that holds results of other settings; nothing in it was changed."""


class InUseError(StoreError):
    """A folder that another process is writing; nothing in it was changed."""


class TrainingError(LTTSError):
    """A training that cannot come to anything, found out early."""


class WorkerError(LTTSError):
    """Workers that cannot be had, or that were lost too often."""


def shorten(value: object, limit: int = 80) -> str:
    """A value as messages show it, a text in quotes, cut so that a message stays one line."""
    if type(value) is str:
        shown = repr(value[: limit + 1])
    else:  # of long or deeply nested values only the beginning is looked at
        bounded = reprlib.Repr()
        bounded.maxstring = bounded.maxother = bounded.maxlong = 2 * limit
        shown = bounded.repr(value)
    return shown if len(shown) <= limit + 2 else f"{shown[: limit - 1]}..."


def reason_of(error: Exception, length: int = 200) -> str:
    """What an error says, for a message of one line: its first line, cut, or else its class.

    Where that only leads to the second, as of transformers' validation, both are told.
    """
    first, *others = str(error).splitlines() or [type(error).__name__]
    return (f"{first} {others[0].strip()}" if first.endswith(":") and others else first)[:length]
