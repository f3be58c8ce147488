"""Samplers compared at equal accuracy of a sample, and at equal diversity of the answers.

    python benchmarks/samplers.py --reasoner logs/demo/reasoner/checkpoints/best.ckpt

Every sampler is tuned by `ltts tune` over a range of strengths, on the same problems. What it
reaches between two strengths is interpolated: coverage and majority voting of 32 samples, where a
single sample is right as often, or where two samples differ as often.

The learned noise is trained first, on the task that the overrides name, or give its file:

    python benchmarks/samplers.py --reasoner PATH data=search_graph_problems
    python benchmarks/samplers.py --reasoner PATH --learned-noise FILE OVERRIDES
"""

import argparse
import re
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import yaml

FOLDER = Path("logs/samplers")
FACTORS = (0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
# name -> overrides; the strength 1 of each is that of its paper
SAMPLERS: dict[str, tuple[str, ...]] = {
    "Gaussian noise": ("sampler=gaussian_noise",),
    "dropout, fresh in every pass": ("sampler=mc_dropout",),
    "dropout, prompt too": ("sampler=mc_dropout", "sampler.init_args.prompt=true"),
    "Gaussian noise, relative": (
        "sampler=gaussian_noise",
        "~sampler.init_args.std",
        "+sampler.init_args.relative_std=0.4",
    ),
    "dropout, held": ("sampler=mc_dropout", "+sampler.init_args.lifetime=per_trajectory"),
    "SVP, thoughts alone": ("sampler=singular_values", "sampler.init_args.prompt=false"),
    "SVP, prompt too": ("sampler=singular_values",),
}
CPU = ("trainer.accelerator=cpu", "trainer.devices=1", "trainer.enable_progress_bar=false")
PROBLEMS = ("data", "train", "valid", "test", "problems_dir")  # keys that say which they are
LOST = (0.01, 0.03, 0.06)  # accuracy that a sample has lost against greedy decoding
DIVERSE = (0.1, 0.2, 0.3)  # the chance that two samples differ


def all_samplers(learned: str) -> dict[str, tuple[str, ...]]:
    """Those above, and the learned noise of a file."""
    return SAMPLERS | {
        "learned noise (GTS)": ("sampler=learned_noise", f"sampler.init_args.path={learned}")
    }


def training_data(overrides: Sequence[str]) -> list[str]:
    """The overrides of `ltts tune` that choose the problems, as `ltts fit` takes them.

    What is searched over as data=search_NAME is trained on as data=NAME.
    """
    kept = [one for one in overrides if one.partition("=")[0] in PROBLEMS]
    return [re.sub("^data=search_", "data=", one) for one in kept]


def train_noise(reasoner: str, overrides: Sequence[str]) -> str:
    """Trains a noise for this reasoner on this task, once, and gives its file."""
    folder = FOLDER / "learned_noise"
    path = folder / "learned_noise.safetensors"
    if not path.exists():
        command = [
            sys.executable, "-m", "lightning_ltts", "fit", "experiment=methods/learned_noise",
            f"name={folder.relative_to('logs')}", f"reasoner={reasoner}", *CPU,
            *training_data(overrides),
        ]  # fmt: skip
        subprocess.run(command, check=True)
    return str(path)


def tune(name: str, reasoner: str, *overrides: str) -> list[dict[str, float]]:
    """The table of one sampler, a line for each strength; made once."""
    folder = FOLDER / re.sub(r"\W+", "_", name).strip("_")
    if not (folder / "tuned.yaml").exists():
        command = [
            sys.executable, "-m", "lightning_ltts", "tune", "experiment=demo/tune",
            f"name={folder.relative_to('logs')}", f"reasoner={reasoner}", "latent_rm=null",
            f"factors=[{','.join(map(str, FACTORS))}]", *CPU, *overrides,
        ]  # fmt: skip
        subprocess.run(command, check=True)
    table: list[dict[str, float]] = yaml.safe_load((folder / "tuned.yaml").read_text())["table"]
    return table


def at(lines: Sequence[dict[str, float]], field: str, value: float, wanted: str) -> float | None:
    """`wanted` where `field` has this value, between neighbouring strengths; None beyond the ends."""
    for one, other in pairwise(lines):
        low, high = one[field], other[field]
        if min(low, high) <= value <= max(low, high) and low != high:
            share = (value - low) / (high - low)
            return one[wanted] + share * (other[wanted] - one[wanted])
    return None


def rows_of(tables: dict[str, list[dict[str, float]]]) -> list[list[str]]:
    """A line for each sampler: coverage and majority at every value that is compared at."""

    def cell(lines: list[dict[str, float]], field: str, value: float) -> str:
        found = [at(lines, field, value, wanted) for wanted in ("coverage", "majority")]
        return " / ".join("-" if x is None else f"{100 * x:.1f}" for x in found)

    rows = []
    for name, lines in tables.items():
        greedy = lines[0]["greedy"]
        equal = [cell(lines, "pass", greedy - lost) for lost in LOST]
        rows.append([name, *equal, *(cell(lines, "diversity", value) for value in DIVERSE)])
    return rows


def main() -> None:
    """Prints the table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--reasoner", default="logs/demo/reasoner/checkpoints/best.ckpt")
    parser.add_argument(
        "--learned-noise", help="a file of methods/learned_noise; trained if absent"
    )
    parser.add_argument("overrides", nargs="*", help="as `ltts tune` takes them")
    options = parser.parse_args()
    learned = options.learned_noise or train_noise(options.reasoner, options.overrides)
    tables = {
        name: tune(name, options.reasoner, *sampler, *options.overrides)
        for name, sampler in all_samplers(learned).items()
    }
    heads = [f"a sample {100 * lost:.0f} below greedy" for lost in LOST]
    heads += [f"two differ in {100 * value:.0f} %" for value in DIVERSE]
    lines = [["coverage@32 / majority@32, %", *heads], ["---"] * (1 + len(heads))]
    for line in [*lines, *rows_of(tables)]:
        print(f"| {' | '.join(line)} |")


if __name__ == "__main__":
    main()
