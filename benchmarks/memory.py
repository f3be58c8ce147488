"""Resident memory of `ltts fit`, `mine`, `predict` and `report`, against the number of questions.

    python benchmarks/memory.py --sizes 2000 20000 200000

The questions are in a JSON Lines file; the reasoner is a tiny random one with few samples and short
thoughts, so that what grows is what the questions take, and passes are small enough for the fewest
questions to fill one, as every run of a real size does. `train` trains that reasoner on, an epoch,
and `fit` a LatentRM on the mined store. `report` computes every number anew, for another stopping
rule than the stored one; `page` is `report -o page.html`. Both need what the commands before them
leave. Each command runs in a process of its own, forked after the libraries are imported, whose
highest resident memory is told. The goal is that it stays within 1.2 times that of the fewest
questions.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path

import torch

from lightning_ltts.cli import main as ltts
from lightning_ltts.data.tokenization import WordTokenizer
from lightning_ltts.data.word_problems import WordProblems
from lightning_ltts.models.folders import save_folder
from lightning_ltts.models.latent_lm import new_reasoner

GOAL = 1.2
TOKEN_BUDGET = 2**13  # positions of a pass
BACKBONE = {"model_type": "gpt2", "n_layer": 1, "n_embd": 16, "n_head": 2, "n_positions": 96}
QUIET = ["trainer.accelerator=cpu", "trainer.enable_progress_bar=false"]
HEAVY = (
    "lightning.pytorch.cli",
    "torch.utils.tensorboard",
    "transformers.models.gpt2.modeling_gpt2",
    "lightning_ltts.trainer",
    "lightning_ltts.cli.lightning_front",
    "lightning_ltts.report.page",
)


def commands(size: int) -> dict[str, list[str]]:
    files = [f"train={size}.jsonl", f"test={size}.jsonl", "valid=valid.jsonl"]
    mine = [
        "experiment=demo/latent_rm", *files[::2], "reasoner=reasoner", f"name=mine-{size}", *QUIET,
        "data.init_args.num_samples=2", "data.init_args.num_rollouts=1", "data.init_args.val_num_samples=2",
        "data.init_args.informative=null", "data.init_args.keep_uninformative=true",
        f"data.init_args.token_budget={TOKEN_BUDGET}",
    ]  # fmt: skip
    predict = [
        "experiment=demo/search", files[1], "reasoner=reasoner", f"name=predict-{size}", *QUIET,
        "latent_rm=null", "model.init_args.beam=null", "model.init_args.num_samples=2",
        "callbacks.writer.init_args.keep_thoughts=0", f"model.init_args.token_budget={TOKEN_BUDGET}",
    ]  # fmt: skip
    fit = ["trainer.max_epochs=1", "trainer.enable_model_summary=false", "logger=csv"]
    train = [
        "experiment=files/reasoner", files[0], "valid=valid.jsonl", "test=test.jsonl", f"name=train-{size}", *QUIET,
        "start@model.init_args.start=checkpoint", "reasoner=reasoner",
        "model.init_args.curriculum.cot_epochs=0", "model.init_args.curriculum.stage_epochs=[1]",
    ]  # fmt: skip
    return {
        "train": ["fit", *train, *fit],
        "mine": ["mine", *mine],
        "fit": ["fit", *mine, *fit],
        "predict": ["predict", *predict],
        "report": ["report", f"logs/predict-{size}", "--confidence", "0.9"],
        "page": ["report", f"logs/predict-{size}", "-o", f"page-{size}.html"],
    }


def write_inputs(sizes: list[int]) -> None:
    """Problem files of every size, and the reasoner."""
    torch.manual_seed(0)
    reasoner = new_reasoner("coconut", BACKBONE, WordTokenizer(20).build(), 2, max_answer_tokens=3)
    save_folder(reasoner, Path("reasoner"))
    problems = WordProblems("train", max(sizes), num_steps=4).load()
    lines = [
        json.dumps({"question": p.question, "steps": p.steps, "answer": p.answer}) + "\n"
        for p in problems
    ]
    for size in sizes:
        Path(f"{size}.jsonl").write_text("".join(lines[:size]))
    for split in ("valid", "test"):
        few = WordProblems(split, 64, num_steps=4).load()
        rows = [json.dumps({"question": p.question, "answer": p.answer}) + "\n" for p in few]
        Path(f"{split}.jsonl").write_text("".join(rows))


def forked(work) -> tuple[float, float]:
    """Highest resident memory in MiB, and seconds, of a function in a process of its own."""
    began, child = time.perf_counter(), os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        finally:
            sys.stdout.flush()
            os._exit(code)
    _, status, usage = os.wait4(child, 0)
    if status:
        raise SystemExit(f"a command failed with {status}; its message is above")
    return usage.ru_maxrss / 1024, time.perf_counter() - began


def run(arguments: list[str]) -> None:
    sys.argv = ["ltts", *arguments]
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    ltts()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[2000, 20000, 200000])
    parser.add_argument("--commands", nargs="+", default=list(commands(0)))
    options = parser.parse_args()
    torch.set_num_threads(1)
    for module in HEAVY:
        import_module(module)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        forked(lambda: write_inputs(options.sizes))  # what it takes is not measured
        found: dict[str, list[float]] = {}
        for size in options.sizes:
            for name, arguments in commands(size).items():
                if name in options.commands:
                    mebibytes, seconds = forked(lambda given=arguments: run(given))
                    found.setdefault(name, []).append(mebibytes)
                    ratio = mebibytes / found[name][0]
                    verdict = "" if ratio <= GOAL else f"  above {GOAL}"
                    print(
                        f"{name:8} {size:>8} questions  {mebibytes:7.0f} MiB  {ratio:.2f}x  "
                        f"{seconds:7.1f} s{verdict}",
                        flush=True,
                    )
            page = Path(f"page-{size}.html")
            if page.exists():
                print(f"the page of {size} questions has {page.stat().st_size / 1e6:.1f} MB")
        print(table(options.sizes, found))
        os.chdir("/")


def table(sizes: list[int], found: dict[str, list[float]]) -> str:
    """As `docs/scale.md` has it."""
    rows = [
        ["resident memory, MiB", *(f"{size:,}" for size in sizes), "last over first"],
        ["---"] * (len(sizes) + 2),
    ]
    for name, values in found.items():
        rows.append([f"`{name}`", *(f"{v:.0f}" for v in values), f"{values[-1] / values[0]:.2f}"])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    main()
