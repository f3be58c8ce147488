"""The figures of README.md and of the studies, as SVG files in docs/.

    python benchmarks/figures.py accuracy logs/demo/search   # of a finished run: accuracy against N
    python benchmarks/figures.py results                     # of the studies' pages

Those of the first study are drawn from the tables in its page, the others from the numbers that the
study has written, so that no number stands twice.
"""

import argparse
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from study_settings import INFORMATIVE, ROWS

DOCS = Path(__file__).parent.parent / "docs"
FIRST = DOCS / "first_study.md"
SECOND = DOCS / "second_study.json"
NUMBERS = DOCS / "results.json"
# the palette of Okabe and Ito, which colour-blind readers can tell apart
COLORS = {
    "coverage": "#999999",
    "greedy": "#000000",
    "majority": "#E69F00",
    "weighted_vote": "#0072B2",
    "best_of_n": "#D55E00",
    "beam": "#009E73",
}
MARKERS = {"majority": "s", "best_of_n": "^", "weighted_vote": "o", "beam": "D", "coverage": "|"}
TITLES = {
    "coverage": "coverage (the oracle)",
    "majority": "majority",
    "weighted_vote": "weighted vote",
    "best_of_n": "best-of-N",
    "beam": "beam search",
}

Table = list[dict[str, str]]


# -- of the tables


def read_tables(page: Path) -> dict[str, Table]:
    """The tables of a page by the number in the heading above each, `### A1. ...`."""
    tables: dict[str, Table] = {}
    number, header = "", []
    for line in page.read_text(encoding="utf-8").splitlines():
        if heading := re.match(r"#+ (A\d+)\.", line):
            number, header = heading[1], []
        if not number or not line.startswith("|") or line.startswith("|--"):
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not header:
            header = cells
        else:
            tables.setdefault(number, []).append(dict(zip(header, cells, strict=True)))
    return tables


def value(cell: str) -> float:
    """The first number of a cell."""
    return float(cell.split()[0])


def settings(tables: dict[str, Table]) -> Figure:
    """Majority, weighted vote, best-of-32 and coverage of every setting beside greedy decoding."""
    votes = [row for row in tables["A1"] if row["LatentRM"] == "default"][::-1]
    best = {row["setting, seed"]: row for row in tables["A2"] if row["LatentRM"] == "default"}
    names = [row["setting, seed"] for row in votes]
    series = {
        "majority": [value(row["majority"]) for row in votes],
        "best_of_n": [value(best[name]["best-of-32"]) for name in names],
        "weighted_vote": [value(row["weighted vote"]) for row in votes],
        "coverage": [value(row["coverage"]) for row in votes],
    }
    return _beside_greedy(names, [value(row["greedy"]) for row in votes], series)


def _beside_greedy(names: list[str], greedy: list[float], series: dict[str, list[float]]) -> Figure:
    """A line of marks for each setting, from the lowest up, and a bar where greedy decoding is."""
    figure = Figure(figsize=(7.2, 1 + len(names) / 3), layout="constrained")
    axes = figure.subplots()
    for place, number in enumerate(greedy):
        axes.plot([number] * 2, [place - 0.36, place + 0.36], color="black", lw=2)
    axes.plot([], [], color="black", lw=2, label="greedy")
    for name, numbers in series.items():
        style = {"marker": MARKERS[name], "linestyle": "none", "color": COLORS[name], "alpha": 0.9}
        axes.plot(numbers, range(len(names)), label=TITLES[name], markersize=7, **style)
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="accuracy at N = 32, %")
    _plain(axes)
    axes.grid(axis="y", alpha=0.3)
    narrow = {"frameon": False, "handletextpad": 0.3, "columnspacing": 0.9, "fontsize": "small"}
    figure.legend(loc="outside upper left", ncols=6, **narrow)
    return figure


def falling(tables: dict[str, Table]) -> Figure:
    """Best-of-N against N, with the default LatentRM and with the paper's, on three reasoners."""
    seeds = ("easy, small, 0", "easy, small, 1", "easy, small, 2")
    greedy = {row["setting, seed"]: value(row["greedy"]) for row in tables["A1"]}
    figure = Figure(figsize=(7.2, 3), layout="constrained")
    for axes, seed in zip(figure.subplots(1, 3, sharey=True), seeds, strict=True):
        axes.axhline(greedy[seed], color=COLORS["greedy"], linestyle=":", label="greedy")
        for kind, color in (("default", COLORS["weighted_vote"]), ("paper", COLORS["best_of_n"])):
            rows = (row for row in tables["A2"] if row["setting, seed"] == seed)
            row = next(row for row in rows if row["LatentRM"] == kind)
            numbers = [value(row[f"best-of-{n}"]) for n in (8, 32, 64)]
            axes.plot((8, 32, 64), numbers, marker="o", color=color, label=f"LatentRM: {kind}")
        axes.set_xscale("log", base=2)
        axes.set_xticks((8, 32, 64), ("8", "32", "64"))
        axes.set_title(seed, loc="left", fontsize="medium")
        axes.set(xlabel="N")
        _plain(axes)
    figure.axes[0].set(ylabel="accuracy of best-of-N, %")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper left", ncols=3)
    figure.legends[0].set_frame_on(False)
    return figure


# rows that differ by their informative questions alone
SIZES = ("few", "some", "default", "many", "most")

# title, colour, marker, and where the labels stand, in points
FAMILIES = {
    "noise": ("Gaussian noise", "#0072B2", "o", (-4, 7)),
    "dropout": ("dropout", "#D55E00", "^", (-6, -12)),
    "held": ("dropout, one mask per trajectory", "#E69F00", "s", (4, -10)),
    "prompt": ("dropout, prompt too", "#009E73", "D", (-4, 7)),
}


def samplers(tables: dict[str, Table]) -> Figure:
    """Coverage against the accuracy of one sample, for every sampler and strength."""
    figure = Figure(figsize=(7.2, 3.8), layout="constrained")
    axes = figure.subplots()
    for family, (title, color, marker, shift) in FAMILIES.items():
        rows = [row for row in tables["A9"] if _family(row["sampler"]) == family]
        singles, covered = ([value(row[name]) for row in rows] for name in ("pass@1", "coverage"))
        axes.plot(singles, covered, marker=marker, color=color, label=title)
        for row, x, y in zip(rows, singles, covered, strict=True):
            strength = next(part for part in re.findall(r"[\d.]+", row["sampler"]))
            axes.annotate(strength, (x, y), shift, textcoords="offset points", fontsize=7)
    axes.invert_xaxis()  # more noise to the right
    axes.set(xlabel="accuracy of one sample, % (noise grows to the right)")
    axes.set(ylabel="coverage of 32 samples, %")
    _plain(axes)
    axes.legend(frameon=False)
    return figure


def _family(sampler: str) -> str:
    return "prompt" if "prompt" in sampler else sampler.split()[0]


# -- of the study's numbers


def informative(row: str) -> int:
    """How many questions with right and wrong trajectories a row's LatentRM learns from."""
    given = [option.split("=")[1] for option in ROWS[row].mine if "informative=" in option]
    return int(given[0]) if given else INFORMATIVE


def reached(entries: list[dict[str, Any]]) -> Figure:
    """What search finds in every setting, beside greedy decoding, majority and coverage."""
    found = [one for one in entries if (one["latent_rm"], one["repeat"]) == ("default", 0)][::-1]
    series: dict[str, list[float]] = {"majority": [100 * one["majority"] for one in found]}
    for name in ("best_of_n", "weighted_vote", "beam"):
        chosen = (next(x for x in one["selections"] if x["name"] == name) for one in found)
        series[name] = [100 * one["accuracy"] for one in chosen]
    series["coverage"] = [100 * one["coverage"] for one in found]
    names = [f"{one['task']}, {one['seed']}" for one in found]
    return _beside_greedy(names, [100 * one["greedy"] for one in found], series)


def scaling(entries: list[dict[str, Any]], task: str = "easy", seed: int = 1) -> Figure:
    """What is gained over greedy decoding, against the questions that the LatentRM learned from."""
    wanted = (task, seed, 0)
    sizes = {
        informative(one["latent_rm"]): one
        for one in entries
        if one["latent_rm"] in SIZES and (one["task"], one["seed"], one["repeat"]) == wanted
    }
    figure = Figure(figsize=(7.2, 3.2), layout="constrained")
    axes = figure.subplots()
    for place, name in enumerate(("weighted_vote", "best_of_n", "beam")):
        gains = [
            next(x for x in sizes[size]["selections"] if x["name"] == name)["against_greedy"]
            for size in sorted(sizes)
        ]
        middle, low, high = ([100 * gain[x] for gain in gains] for x in ("gain", "low", "high"))
        reach = [
            [m - x for m, x in zip(middle, low, strict=True)],
            [x - m for m, x in zip(middle, high, strict=True)],
        ]
        # side by side, where intervals would lie on each other
        across = [size * 1.04 ** (place - 1) for size in sorted(sizes)]
        axes.errorbar(across, middle, reach, marker="o", color=COLORS[name], label=TITLES[name])
    axes.axhline(0, color=COLORS["greedy"], linestyle=":")
    axes.set_xscale("log", base=2)
    axes.set_xticks(sorted(sizes), [f"{size:,}" for size in sorted(sizes)])
    axes.minorticks_off()
    axes.set(xlabel="informative questions", ylabel="gain over greedy decoding, points")
    _plain(axes)
    axes.legend(frameon=False)
    return figure


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)


# -- files


def draw_run(run: Path, path: Path) -> None:
    """Accuracy against the number of samples N of a finished run, as the package draws it."""
    # here, because the figures of the tables need nothing of the package
    from lightning_ltts.analysis.predictions import read_rows
    from lightning_ltts.analysis.summary import summarize
    from lightning_ltts.report.picture import write_svg

    write_svg(summarize(read_rows(run)), path)
    print(path)


def sign(source: Any) -> str:
    """What a figure holds of what it was drawn from, so that a test sees an old one."""
    text = json.dumps(source, sort_keys=True)
    return f"tables {hashlib.sha256(text.encode()).hexdigest()[:16]}"


def save(figure: Figure, path: Path, source: str) -> None:
    """Writes a figure and what it was drawn from; the same one gives the same file."""
    with matplotlib.rc_context({"svg.hashsalt": "lightning_ltts"}):
        figure.savefig(path, metadata={"Date": None, "Source": source})
    print(path)


FIGURES = {
    "first_study_settings.svg": settings,
    "first_study_best_of_n.svg": falling,
    "first_study_samplers.svg": samplers,
}


def sources() -> dict[str, tuple[Callable[[Any], Figure], Any]]:
    """The figures of the studies by file: what draws each, and from what."""
    tables = read_tables(FIRST)
    before, now = (json.loads(path.read_text())["settings"] for path in (SECOND, NUMBERS))
    return {
        **{name: (draw, tables) for name, draw in FIGURES.items()},
        "second_study_scaling.svg": (scaling, before),
        "results.svg": (reached, now),
        "results_scaling.svg": (scaling, now),
    }


def main() -> None:
    """Writes the figures that are asked for."""
    options = {"description": __doc__, "formatter_class": argparse.RawDescriptionHelpFormatter}
    parser = argparse.ArgumentParser(**options)
    kinds = parser.add_subparsers(dest="kind", required=True)
    of_run = kinds.add_parser("accuracy", help="accuracy against N, of a finished run")
    of_run.add_argument("run", type=Path, help="folder of the predictions")
    of_run.add_argument("-o", "--output", type=Path, default=DOCS / "accuracy_against_n.svg")
    of_page = kinds.add_parser("results", help="the figures of the studies")
    of_page.add_argument("-o", "--output", type=Path, default=DOCS, help="folder")
    given = parser.parse_args()
    if given.kind == "accuracy":
        draw_run(given.run, given.output)
        return
    for name, (draw, source) in sources().items():
        save(draw(source), given.output / name, sign(source))


if __name__ == "__main__":
    main()
