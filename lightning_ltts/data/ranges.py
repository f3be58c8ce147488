"""The ranges of options that are numbers."""

import math
import os
from numbers import Integral

from lightning_ltts.errors import ConfigError, shorten

MAX_SEED = 2**32 - 1  # as of Lightning's seed_everything
SIZE_FACTOR = "LTTS_SIZE_FACTOR"  # environment variable: what all bounds are multiplied by


class Bound(int):
    """A size that is beyond all use today, so that more is a mistake or an attack.

    It is refused before anything is allocated. The environment variable `LTTS_SIZE_FACTOR` raises
    all bounds, in all processes of a run.
    """

    @property
    def raised(self) -> int:
        """The bound, times the factor that the environment asks for.

        Raises:
            ConfigError: the factor is no number of at least 1.
        """
        given = os.environ.get(SIZE_FACTOR, "1")
        try:
            factor = float(given)
        except ValueError:
            factor = math.nan
        if not 1 <= factor < math.inf:
            raise ConfigError(
                f"{SIZE_FACTOR}={shorten(given)} in the environment must be a number of at least 1"
            )
        return round(self * factor)


IN_MEMORY = 2**22  # bytes of files that are held; larger ones are read piece by piece
RAISE_IT = f"{SIZE_FACTOR}=10 in the environment allows ten times as much"
MAX_SAMPLES = Bound(1_000_000)  # of one question
MAX_TOKENS = Bound(1_000_000)  # thoughts, or tokens of an answer


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
        high: the largest that can work, or a bound; by default there is none.
        remedy: what to do about it, where the range does not say so.

    Raises:
        ConfigError: it is outside, a fraction, a bool or no number at all.
    """
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if isinstance(high, Bound):
        high = high.raised
        if whole and value > high:  # type: ignore[operator]
            remedy = remedy or RAISE_IT
    if whole and value >= low and (high is None or value <= high):  # type: ignore[operator]
        return
    limits = f"of at least {low}" if high is None else f"from {low} to {high}"
    raise ConfigError(
        f"{name}={shorten(value)} of {owner} must be a whole number {limits}{remedy and '; '}{remedy}"
    )


def require_number(
    owner: str,
    name: str,
    value: object,
    low: float = 0.0,
    high: float = math.inf,
    open_ends: bool = False,
    remedy: str = "",
) -> None:
    """Refuses an option that is no number from `low` to `high`, which NaN and infinity never are.

    Args:
        owner: the class whose option it is.
        name: name of the option.
        value: value of the option.
        low: the smallest that can work.
        high: the largest that can work; by default every finite number.
        open_ends: whether `low` and `high` themselves cannot.
        remedy: what to do about it, where the range does not say so.

    Raises:
        ConfigError: it is outside, a bool or no number at all.
    """
    finite = (
        isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf
    )
    if finite and (low < value < high if open_ends else low <= value <= high):  # type: ignore[operator]
        return
    if high < math.inf:
        limits = (
            f"{'between' if open_ends else 'from'} {low:g} {'and' if open_ends else 'to'} {high:g}"
        )
    else:
        limits = f"{'above' if open_ends else 'of at least'} {low:g}"
    raise ConfigError(
        f"{name}={shorten(value)} of {owner} must be a number {limits}{remedy and '; '}{remedy}"
    )
