"""Reasoners of the study that learned otherwise than by a LatentRM, on the same test problems."""

from functools import cache
from pathlib import Path
from typing import Any

import torch
from study_settings import EXPLORERS, FOLDER, REINFORCED, SELF_TRAINED_ON, TRAININGS
from torch import Tensor

from lightning_ltts.analysis.methods import GREEDY
from lightning_ltts.analysis.predictions import read_rows
from lightning_ltts.analysis.summary import Summary, summarize
from lightning_ltts.voting.bootstrap import bootstrap_interval, crossed_interval
from lightning_ltts.voting.selection import Majority

ALONE = (
    "reasoner",
    *TRAININGS,
    "explicit",
    "longer",
    *SELF_TRAINED_ON,
    *(f"{method}_{name}" for method in REINFORCED for name in EXPLORERS),
)


@cache
def summary_of(search: Path, num_samples: int | None) -> Summary:
    """The summary of a folder of predictions, which is worked out once."""
    return summarize(read_rows(search), num_samples=num_samples)


def alone(num_samples: int) -> dict[str, list[dict[str, Any]]]:
    """What each reached by itself, and its greedy decoding against the setting's reasoner.

    That is, against greedy decoding of it and against its majority vote.

    Returns entries for single settings, and for a task's seeds together with intervals over seeds and
    problems.
    """
    entries, gains = [], dict[tuple[str, str], list[Tensor]]()
    for name in ALONE:
        for path in sorted(FOLDER.glob(f"*/{name}/search/summary.json")):
            setting = path.parents[2]
            searched = (setting / row / "search" for row in ("default", "reasoner"))
            before = next((x for x in searched if (x / "summary.json").exists()), None)
            if before is None:
                continue
            task, _, seed = setting.name.split("-")
            old, new = summary_of(before, num_samples), summary_of(path.parent, num_samples)
            assert old.num_problems == new.num_problems, "both are of the same test problems"
            differences = {
                f"against_{kind}": values_of(new)[GREEDY] - values_of(old)[method]
                for kind, method in (("before", GREEDY), ("majority_before", Majority.name))
            }
            gains.setdefault((task, name), []).append(differences["against_before"])
            lines = {line.method: line for line in new.lines}
            shares = {x: lines[x].accuracy for x in (GREEDY, "pass", Majority.name, "coverage")}
            entries.append(
                {
                    "task": task, "seed": int(seed), "reasoner": name, **shares,
                    "greedy_before": float(values_of(old)[GREEDY].mean()),
                    **{kind: _paired(difference) for kind, difference in differences.items()},
                    "positions": {x: lines[x].positions for x in (GREEDY, Majority.name)},
                }
            )  # fmt: skip
    return {"settings": entries, "over_seeds": [_together(*item) for item in gains.items()]}


def values_of(summary: Summary) -> dict[str, Tensor]:
    """1 where a method is right, for each problem (Q,), by the method's name."""
    return {method.name: method.values for method in summary.methods}


def _paired(difference: Tensor) -> dict[str, float]:
    low, high = bootstrap_interval(difference)
    return {"gain": float(difference.mean()), "low": low, "high": high}


def _together(row: tuple[str, str], differences: list[Tensor]) -> dict[str, Any]:
    stacked = torch.stack(differences)
    low, high = crossed_interval(stacked)
    gain = {"gain": float(stacked.mean()), "low": low, "high": high}
    return {"task": row[0], "reasoner": row[1], "seeds": len(stacked), "against_before": gain}


def print_alone(found: dict[str, list[dict[str, Any]]]) -> None:
    """A line for each, in percent and points with paired 95 % intervals."""

    def gain(entry: dict[str, Any], of: str = "against_before") -> str:
        numbers = (100 * x for x in entry[of].values())
        return "{:+.1f} ({:+.1f} to {:+.1f})".format(*numbers)

    print(
        "| task, seed | reasoner | greedy | against before | against majority before | one sample "
        "| majority | coverage |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for one in found["settings"]:
        sampled = [f"{100 * one[name]:.1f}" for name in ("pass", Majority.name, "coverage")]
        cells = [f"{one['task']}, {one['seed']}", one["reasoner"], f"{100 * one[GREEDY]:.1f}"]
        # entries of a machine that made them earlier have the first difference alone
        compared = ("against_before", "against_majority_before")
        gains = [gain(one, x) if x in one else "" for x in compared]
        print(f"| {' | '.join([*cells, *gains, *sampled])} |")
    for one in found["over_seeds"]:
        print(f"{one['task']}, {one['reasoner']}, {one['seeds']} seeds: {gain(one)}")
