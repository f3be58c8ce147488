"""What a prediction run came to: read again from `summary.json` without PyTorch, and shown."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from textwrap import wrap
from typing import Any, Self

from lightning_ltts.analysis.lines import Gain, Line
from lightning_ltts.analysis.method_names import GREEDY, MAJORITY, WEIGHTED_VOTE
from lightning_ltts.analysis.replaced_lines import ReplacedLine, ablation_table

# what the sentence on a run is about, the first that there is
VOTES = {WEIGHTED_VOTE: "weighted vote", MAJORITY: "majority vote"}
_NAME_WIDTH = 19  # of the table, so that all columns fit into 100


@dataclass(frozen=True)
class Result:
    """What a prediction run came to, as `summary.json` holds it."""

    num_problems: int
    against: str  # the method that gains are over
    recoverable: int  # problems where greedy decoding is wrong, and some sample right
    lines: list[Line]
    curves: dict[str, dict[int, float]]  # method -> N -> accuracy
    by_rank: list[
        float
    ]  # accuracy of the samples with the highest, second highest, ... score; empty without scores
    survival: dict[str, list[float]]  # tree search that was traced -> per step, see `_survival`
    replaced: list[ReplacedLine] = field(default_factory=list)  # greedy, with thoughts replaced

    def __getitem__(self, name: str) -> float:
        return next(line.accuracy for line in self.lines if line.name == name)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        lines = {
            line.name: {name: value for name, value in asdict(line).items() if value is not None}
            for line in self.lines
        }
        fixed = {
            "num_problems": self.num_problems,
            "against": self.against,
            "recoverable": self.recoverable,
        }
        return {
            **fixed,
            "results": lines,
            "curves": self.curves,
            "by_rank": self.by_rank,
            "survival": self.survival,
            **({"replaced": [x.as_dict() for x in self.replaced]} if self.replaced else {}),
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """The inverse of `as_dict`.

        Raises:
            KeyError, TypeError, AttributeError: something is missing, or of another kind.
        """
        return cls(
            num_problems=plain["num_problems"],
            against=plain["against"],
            recoverable=plain["recoverable"],
            lines=[Line(**{"n": None, **_typed(x)}) for x in plain["results"].values()],
            curves={
                name: {int(n): accuracy for n, accuracy in curve.items()}
                for name, curve in plain["curves"].items()
            },
            by_rank=plain["by_rank"],
            survival=plain["survival"],
            replaced=[ReplacedLine(**_typed(values)) for values in plain.get("replaced", [])],
        )

    def table(self) -> str:
        """A text table, at most 100 columns wide."""
        width = min(max(len(line.name) for line in self.lines), _NAME_WIDTH)
        both = self.against != GREEDY
        heads = ["against greedy", *([f"against {_cut(self.against, 13)}"] if both else [])]
        columns = "".join(f"{head:23}" for head in heads)
        rows = [f"{'':{width}}  accuracy  95 % interval  {columns}headroom"]
        for line in self.lines:
            interval = f"{line.interval[0]:.1%}..{line.interval[1]:.1%}"
            row = f"{_cut(line.name, width):{width}}   {line.accuracy:6.1%}  {interval:14} "
            gains = [line.against_greedy, *([line.over_compared] if both else [])]
            row += "".join(f"{'' if gain is None else str(gain):23}" for gain in gains)
            row += "" if line.headroom is None else f"{line.headroom:6.0%}"
            if line.samples_used is not None:
                row += f"n={line.samples_used:.4g}"
            rows.append(row.rstrip())
        for name, steps in self.survival.items():
            shares = ", ".join(f"{share:.1%}" for share in steps)
            rows += wrap(
                f"questions whose right branches survive each step of {name}: {shares}", 100
            )
        paired = "differences are paired, in points, with 95 % intervals; n: samples on average"
        return "\n".join(
            [
                f"{self.num_problems} problems; {paired}",
                *rows,
                "",
                *self._costs(),
                *ablation_table(self.replaced),
            ]
        )

    def _costs(self) -> list[str]:
        """Lines of a second table: what each method took, and how it differs from greedy decoding."""
        width = min(max(len(line.name) for line in self.lines), _NAME_WIDTH)
        heads = "as greedy  recovered  positions     MFLOPs  at the dearest's FLOPs"
        rows = [f"{'':{width}}  {heads}"]
        for line in self.lines:
            if line.as_greedy is None:  # gives no answer of its own
                continue
            cells = [f"{line.as_greedy:9.1%}"]
            cells.append(f"{'' if line.recovered is None else format(line.recovered, '.1%'):>9}")
            cells.append(f"{'' if line.positions is None else format(line.positions, '.0f'):>9}")
            mega = "" if line.flops is None else format(line.flops / 1e6, ".1f")
            cells.append(f"{mega:>9}")
            if line.at_dearest is not None:
                cells.append("{1:.1%} @{0}".format(*line.at_dearest))
            rows.append(f"{_cut(line.name, width):{width}}  {'  '.join(cells)}".rstrip())
        about = (
            f"recovered: of {self.recoverable} problems that greedy decoding gets wrong and some "
            "sample right"
        )
        return [*rows, about]

    def bought(self) -> str:
        """One sentence on what the extra compute bought over greedy decoding, whatever that is.

        It is about the weighted vote, or majority voting where nothing is scored, and not about the
        selection that happens to do best on these problems.
        """
        line, gain = self.answer, self.answer.against_greedy
        assert gain is not None, "a vote is compared with greedy decoding"
        points = f"{abs(100 * gain.gain):.1f} points"
        verdict = f"{100 * gain.gain:+.1f} points, level with greedy"
        if gain.low > 0 or gain.high < 0:
            verdict = f"{points} {'above' if gain.low > 0 else 'below'} greedy"
        times = self.times_greedy(line)
        cost = "" if times is None else f", at {_times(times)} times its token forwards"
        samples = f"{line.n} sample{'' if line.n == 1 else 's'}"
        return (
            f"{samples} and the {VOTES[line.method]}: {100 * line.accuracy:.1f} %, {verdict} (95 % "
            f"interval {100 * gain.low:+.1f} to {100 * gain.high:+.1f}, {self.num_problems} "
            f"problems){cost}."
        )

    @property
    def answer(self) -> Line:
        """The line that the run stands for: the weighted vote's, or majority voting's."""
        return next(line for name in VOTES for line in self.lines if line.method == name)

    def times_greedy(self, line: Line) -> float | None:
        """Token forwards of a line over greedy decoding's, of all models; None where not stored."""
        greedy = self.lines[0].positions
        return line.positions / greedy if line.positions and greedy else None


def _times(ratio: float) -> str:
    """A ratio with two digits, or with those before the point."""
    return f"{ratio:.{1 if ratio < 9.95 else 0}f}"


def _cut(name: str, width: int) -> str:
    return name if len(name) <= width else f"{name[: width - 1]}…"


def _typed(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Values out of JSON, where tuples are lists and gains are objects."""
    gains = {name: Gain(**value) for name, value in plain.items() if isinstance(value, dict)}
    pairs = {name: tuple(value) for name, value in plain.items() if isinstance(value, list)}
    return {**plain, **gains, **pairs}
