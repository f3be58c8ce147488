"""`make demo`: the five commands of the README on the built-in task, then one summary.

    python -m lightning_ltts.demo --seed 1 --processes 1 --threads 2

Numbers depend on seed, processor, processes and threads, since training adds up in another order.
All but the processor are fixed here, so that a machine tells the same story each time.
"""

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lightning_ltts.analysis.predictions import read_rows
from lightning_ltts.analysis.summary import summarize
from lightning_ltts.mining.store import read_manifest
from lightning_ltts.models.cost import Cost

FOLDER = Path("logs/demo")
COMMANDS = {
    "reasoner": "fit experiment=demo/reasoner",
    "mine": "mine experiment=demo/latent_rm",
    "latent_rm": "fit experiment=demo/latent_rm",
    "search": "predict experiment=demo/search",
    "report": "report logs/demo/search",
}
BATCHES = {"reasoner": 64, "latent_rm": 32}  # of trainings, over all processes


def main(arguments: list[str]) -> None:
    """Runs every stage anew in its folder of `logs/demo`.

    Overrides that are given go to all stages but the report.
    """
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=0, help="of weights, problems and samples")
    parser.add_argument("--processes", type=int, default=2, help="that share every stage's work")
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    parser.add_argument("overrides", nargs="*", help="as `ltts` takes them, for instance KEY=VALUE")
    options = parser.parse_args(arguments)
    for name in ("reasoner", "latent_rm", "search"):  # what else is there is the user's
        shutil.rmtree(FOLDER / name, ignore_errors=True)
    threads = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
    seconds: dict[str, float] = {}
    for stage, command in COMMANDS.items():
        line = shlex.split(command)
        if stage != "report":
            line += on_cpu(stage, options.processes)
            line += [*seeds(stage, options.seed), *options.overrides]
        print(f"\n$ ltts {shlex.join(line)}", flush=True)
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "lightning_ltts", *line], check=True, env=threads)
        seconds[stage] = round(time.perf_counter() - began, 1)
    seconds["total"] = round(sum(seconds.values()), 1)
    summary = summarize_demo(seconds)
    print(summary.pop("bought"))
    path = FOLDER / "summary.json"
    path.write_text(json.dumps(summary, indent=2) + "\n")
    stages = ", ".join(f"{stage} {value:.0f} s" for stage, value in seconds.items())
    print(f"{stages}\nsummary: {path}   curves: tensorboard --logdir {FOLDER}")


def on_cpu(stage: str, processes: int) -> list[str]:
    """Overrides that share a stage's work among processes; a training's batches keep their size."""
    overrides = ["trainer.accelerator=cpu", f"trainer.devices={processes}"]
    if processes > 1:
        overrides.append("trainer.strategy=ddp")
        if stage in BATCHES:
            overrides.append(f"data.init_args.batch_size={BATCHES[stage] // processes}")
    return overrides


def seeds(stage: str, seed: int) -> list[str]:
    """Overrides that give a stage another seed than its own; none for seed 0, which that is.

    Problems to train on and samples are other ones, too; those that are reported on are the same.
    """
    if seed == 0:
        return []
    if stage == "search":
        return [f"seed_everything={seed}", f"model.init_args.seed={seed}"]
    offset = 0 if stage == "reasoner" else 1
    problems = f"data.init_args.train.init_args.seed={100 * seed + offset}"
    return [f"seed_everything={seed}", f"data.init_args.seed={seed}", problems]


def summarize_demo(seconds: dict[str, float]) -> dict[str, Any]:
    """Accuracies, gains over greedy decoding, seconds and token-forward ratios of a finished demo."""
    rows = read_rows(FOLDER / "search")
    summary = summarize(rows)
    costs = {}
    for split in ("train", "val"):
        counts = read_manifest(FOLDER / "latent_rm" / "trajectories" / split)["counts"]
        costs[f"mine/{split}"] = Cost(int(counts["token_forwards"]), int(counts["tree_nodes"]))
    for part in rows[0]["cost"]:
        costs[part] = Cost(
            round(sum(row["cost"][part]["token_forwards"] for row in rows)),
            round(sum(row["cost"][part]["tree_nodes"] for row in rows)),
        )
    # greedy decoding, samples and beams share the prompt
    costs["search together"] = sum((costs[part] for part in rows[0]["cost"]), Cost())
    return {
        "num_problems": summary.num_problems,
        **{line.name: line.accuracy for line in summary.lines},
        "against_greedy": {
            line.name: asdict(line.against_greedy) for line in summary.lines if line.against_greedy
        },
        "bought": summary.bought(),
        "seconds": seconds,
        "token_forward_ratio": {stage: round(cost.ratio, 4) for stage, cost in costs.items()},
    }


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except subprocess.CalledProcessError as error:
        raise SystemExit(error.returncode) from None  # the stage has said what is wrong
