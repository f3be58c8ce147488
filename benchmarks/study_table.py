"""The table of the study's finished rows, and docs/results.json."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from study_alone import alone, print_alone, summary_of, values_of
from study_settings import FOLDER, ROWS
from torch import Tensor

from lightning_ltts.analysis.lines import Line
from lightning_ltts.analysis.method_names import GREEDY
from lightning_ltts.voting.bootstrap import bootstrap_interval, crossed_interval
from lightning_ltts.voting.selection import Majority, WeightedVote

RESULTS = Path("docs/results.json")


def results(num_samples: int) -> list[dict[str, Any]]:
    """Of every finished row, in plain values: what it reached, and with which selection.

    The selection is the one that does best on the row's validation problems, among those that read
    the LatentRM's scores; the numbers are those of the test problems.
    """
    found = []
    for path in sorted(FOLDER.glob("*/*/search/summary.json")):
        name, _, repeat = path.parent.parent.name.partition(".")
        if name not in ROWS:  # a chain of thought in words has no LatentRM
            continue
        row, setting = path.parent.parent, path.parent.parent.parent
        chosen = summary_of(row / "chosen", num_samples)
        test = summary_of(path.parent, num_samples)
        scored = [method.name for method in chosen.methods if method.scored]
        answering = [method.name for method in chosen.methods if method.chooses]
        untrained = [name for name in answering if name not in (*scored, GREEDY)]
        on_validation = {line.method: line.accuracy for line in chosen.lines}
        best = max(scored, key=lambda name: on_validation[name])
        best_untrained = max(untrained, key=lambda name: on_validation[name])
        lines = {line.method: line for line in test.lines}
        curve = summary_of(path.parent, None).curves["best_of_n"]
        task, _, seed = setting.name.split("-")
        found.append(
            {
                "task": task,
                "seed": int(seed),
                "latent_rm": name,
                "repeat": int(repeat or 0),  # of the LatentRM's training, from another seed
                "problems": test.num_problems,
                "num_samples": num_samples,
                **{
                    name: lines[name].accuracy
                    for name in ("greedy", "pass", "majority", "coverage")
                },
                "headroom_closed": lines[best].headroom,
                "best_selection": _measured(lines[best]),
                "best_untrained": _measured(lines[best_untrained]),
                "selections": [_measured(lines[name]) for name in scored],
                "untrained": [_measured(lines[name]) for name in untrained],
                "recoverable": test.recoverable,
                "beam_against_vote": beam_against_vote(path.parent, num_samples),
                "best_of_n": {str(n): accuracy for n, accuracy in curve.items()},
            }
        )
    return found


def _measured(line: Line) -> dict[str, Any]:
    """A method's accuracy, and its differences to greedy decoding and to majority voting."""
    assert line.against_greedy is not None
    return {
        "name": line.method,
        "accuracy": line.accuracy,
        "against_greedy": asdict(line.against_greedy),
        "against_majority": None if line.over_compared is None else asdict(line.over_compared),
        "recovered": line.recovered,
        "positions": line.positions,
        "flops": line.flops,
        "at_dearest": line.at_dearest,
    }


def beam_against_vote(search: Path, num_samples: int) -> dict[str, Any] | None:
    """Beam search against the weighted vote of as many samples as take no more token forwards.

    Returns the number of samples, accuracies and paired differences; None where there was no beam
    search, or costs are not known.
    """
    whole, one = summary_of(search, num_samples), summary_of(search, 1)
    of_whole, of_one = (
        {line.method: line.positions for line in summary.lines} for summary in (whole, one)
    )
    beam, most = of_whole.get("beam"), of_whole.get(WeightedVote.name)
    least = of_one.get(WeightedVote.name)
    if beam is None or most is None or least is None:
        return None
    # every sample takes as many as the next
    each = (most - least) / (num_samples - 1)
    n = min(num_samples, max(1, 1 + int((beam - least) / each + 1e-6)))
    vote = values_of(summary_of(search, n))[WeightedVote.name]
    entry: dict[str, Any] = {"samples": n, "weighted_vote": float(vote.mean())}
    for name in ("beam", "beam_vote"):
        difference = values_of(whole)[name] - vote
        low, high = bootstrap_interval(difference)
        entry[name] = {"gain": float(difference.mean()), "low": low, "high": high}
    return entry


def together(found: list[dict[str, Any]], num_samples: int) -> list[dict[str, Any]]:
    """Of each task and row with all its seeds: the gains of the selections that were chosen.

    Trainings of the LatentRM from several seeds, on one reasoner, are averaged first.

    The intervals are over seeds and problems, see `crossed_interval`.
    """
    gains: dict[tuple[str, str], dict[int, list[tuple[Tensor, Tensor]]]] = {}
    for one in found:
        row = one["latent_rm"] + (f".{one['repeat']}" if one["repeat"] else "")
        search = FOLDER / f"{one['task']}-small-{one['seed']}" / row / "search"
        test = summary_of(search, num_samples)
        values = {method.name: method.values for method in test.methods}
        best = values[one["best_selection"]["name"]]
        differences = (best - values[GREEDY], best - values[Majority.name])
        of_row = gains.setdefault((one["task"], one["latent_rm"]), {})
        of_row.setdefault(one["seed"], []).append(differences)
    entries = []
    for (task, row), of_seeds in gains.items():
        entry: dict[str, Any] = {"task": task, "latent_rm": row, "seeds": len(of_seeds)}
        for i, name in enumerate(("against_greedy", "against_majority")):
            stacked = torch.stack(
                [torch.stack([pair[i] for pair in pairs]).mean(0) for pairs in of_seeds.values()]
            )
            low, high = crossed_interval(stacked)
            entry[name] = {"gain": float(stacked.mean()), "low": low, "high": high}
        entries.append(entry)
    return entries


def kept(new: list[dict[str, Any]], old: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The entries that are there now, and those of before that none of these takes the place of.

    Of two for the same seeds together, the one over more seeds stays.
    """
    names = ("task", "seed", "latent_rm", "reasoner", "repeat")
    entries = {tuple(entry.get(name) for name in names): entry for entry in old}
    for entry in new:
        key = tuple(entry.get(name) for name in names)
        if entry.get("seeds", 1) >= entries.get(key, {}).get("seeds", 1):
            entries[key] = entry
    return sorted(entries.values(), key=lambda entry: [str(entry.get(name)) for name in names])


def table(num_samples: int) -> None:
    """A line per finished row, in percent and points with paired 95 % intervals; also as JSON.

    What the file holds of rows that this machine has not run stays as it is.
    """
    old: dict[str, Any] = {"settings": [], "over_seeds": [], "alone": {}}
    if RESULTS.exists():
        old = json.loads(RESULTS.read_text())
    finished = results(num_samples)
    found = kept(finished, old["settings"])
    over_seeds = kept(together(finished, num_samples), old["over_seeds"])
    by_themselves = {
        part: kept(entries, old["alone"].get(part, []))
        for part, entries in alone(num_samples).items()
    }
    content = {"settings": found, "over_seeds": over_seeds, "alone": by_themselves}
    RESULTS.write_text(json.dumps(content, indent=1) + "\n")
    print(
        "| task, seed | LatentRM | greedy | one sample | majority | coverage | best without training "
        "| chosen on validation | against greedy | against majority | headroom |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for one in found:
        best = one["best_selection"]
        shares = [f"{100 * one[name]:.1f}" for name in ("greedy", "pass", "majority", "coverage")]
        gains = [
            "{:+.1f} ({:+.1f} to {:+.1f})".format(*(100 * x for x in best[name].values()))
            for name in ("against_greedy", "against_majority")
        ]
        headroom = f"{100 * one['headroom_closed']:.0f} %"
        plain = one["best_untrained"]
        cells = [f"{one['task']}, {one['seed']}", one["latent_rm"], *shares]
        cells.append(f"{plain['name']} {100 * plain['accuracy']:.1f}")
        cells += [f"{best['name']} {100 * best['accuracy']:.1f}", *gains]
        print(f"| {' | '.join([*cells, headroom])} |")
    for entry in over_seeds:
        gains = [
            "{:+.1f} ({:+.1f} to {:+.1f})".format(*(100 * x for x in entry[name].values()))
            for name in ("against_greedy", "against_majority")
        ]
        print(f"{entry['task']}, {entry['latent_rm']}, {entry['seeds']} seeds: {', '.join(gains)}")
    print_alone(by_themselves)
