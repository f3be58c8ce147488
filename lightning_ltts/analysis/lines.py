"""Lines of the table: a method's accuracy, its differences to others, and what it took."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Gain:
    """A paired difference of two accuracies on the same questions, with its 95 % interval."""

    gain: float
    low: float
    high: float

    def __str__(self) -> str:
        gain, low, high = (f"{100 * x:+.1f}" for x in (self.gain, self.low, self.high))
        return f"{gain:>5} ({low}..{high})"


@dataclass(frozen=True)
class Line:
    """One line of the table: a method's accuracy, and its paired difference to another's on the same questions."""

    method: str
    n: int | None
    accuracy: float
    interval: tuple[float, float]
    gain: float | None = None  # over the method it is compared with
    gain_interval: tuple[float, float] | None = None
    p_value: float | None = None  # of McNemar's exact test against that method
    against_greedy: Gain | None = None  # paired, too; None for greedy decoding itself
    headroom: float | None = None  # share of the way from majority to the oracle
    headroom_interval: tuple[float, float] | None = None
    samples_used: float | None = None  # on average, where that is not the same for all questions
    as_greedy: float | None = None  # share of questions that it answers as greedy decoding does
    recovered: float | None = None  # share right of those where greedy is wrong, and a sample right
    positions: float | None = None  # token forwards of all models, per question
    flops: float | None = None  # per question
    # what as many samples reach as the dearest method's FLOPs allow, and the pool has
    at_dearest: tuple[int, float] | None = None

    @property
    def name(self) -> str:
        """The method with its N, such as `majority@32`."""
        return self.method if self.n is None else f"{self.method}@{self.n}"

    @property
    def over_compared(self) -> "Gain | None":
        """The difference to the method that this is compared with."""
        if self.gain is None or self.gain_interval is None:
            return None
        return Gain(self.gain, *self.gain_interval)
