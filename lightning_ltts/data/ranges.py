"""The ranges of options that are whole numbers."""

from numbers import Integral

from lightning_ltts.errors import ConfigError, shorten

MAX_SEED = 2**32 - 1  # as of Lightning's seed_everything


def require_whole(
    owner: str,
    name: str,
    value: object,
    low: int = 0,
    high: int | None = None,
    remedy: str = "",
) -> None:
    """Refuses an option that is no whole number from `low` to `high`, both included.

    Args:
        owner: the class whose option it is.
        name: name of the option.
        value: value of the option.
        low: the smallest that can work.
        high: the largest that can work; by default there is none.
        remedy: what to do about it, where the range does not say so.

    Raises:
        ConfigError: it is outside, a fraction, a bool or no number at all.
    """
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if whole and value >= low and (high is None or value <= high):  # type: ignore[operator]
        return
    limits = f"of at least {low}" if high is None else f"from {low} to {high}"
    raise ConfigError(
        f"{name}={shorten(value)} of {owner} must be a whole number {limits}{remedy and '; '}{remedy}"
    )
