"""Greedy decoding with thoughts replaced: its lines, and their table."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lightning_ltts.analysis.lines import Gain

TITLES = {
    "zero": "zero",
    "mean": "mean of other questions",
    "other": "another question's",
    "noise": "noise of equal norm",
}


@dataclass(frozen=True)
class ReplacedLine:
    """Greedy decoding with thoughts replaced: its accuracy, and how it differs."""

    by: str  # what is in their place
    step: int | None  # which thought, from 0; None for all
    accuracy: float
    interval: tuple[float, float]
    gain: Gain  # over greedy decoding with its own thoughts, on the same questions
    same: float  # share of questions that are answered alike

    @property
    def title(self) -> str:
        """What is in the thoughts' place, in words."""
        return TITLES.get(self.by, self.by)

    @property
    def place(self) -> str:
        """Which thoughts, in words."""
        return "all" if self.step is None else f"thought {self.step + 1}"

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def ablation_table(lines: Sequence[ReplacedLine]) -> list[str]:
    """Lines of a text table, at most 100 columns wide; none where nothing was replaced."""
    if not lines:
        return []
    width = max(len(line.title) for line in lines)
    heads = "place      accuracy  95 % interval   against greedy         as greedy"
    table = ["", f"{'thoughts replaced by':{max(width, 20)}}  {heads}"]
    for line in lines:
        interval = f"{line.interval[0]:.1%}..{line.interval[1]:.1%}"
        table.append(
            f"{line.title:{max(width, 20)}}  {line.place:10} {line.accuracy:7.1%}  {interval:14}  "
            f"{line.gain!s:21}  {line.same:9.1%}"
        )
    return table
