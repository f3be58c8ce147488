"""Errors a user can cause. Each message is one sentence: what is wrong, where, and what to do."""


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


class TrainingError(LTTSError):
    """A training that cannot come to anything, found out early."""


def shorten(value: object, limit: int = 80) -> str:
    """A value as messages show it, in quotes where it is a text, cut so that a message stays one line."""
    shown = repr(value[: limit + 1] if isinstance(value, str) else value)
    return shown if len(shown) <= limit + 2 else f"{shown[: limit - 1]}..."
