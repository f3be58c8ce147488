"""COCONUT, CODI and CoLaR beside explicit chain of thought and no thought at all: built-in task, same data, same budget.

    python benchmarks/methods.py --seeds 0 1 2      # trains what is missing, then prints the table

Every method has the demo's backbone, 25,600 problems and 7 epochs; greedy accuracy on 2,048 held-out problems.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import torch

from lightning_ltts import RolloutEngine, load_reasoner
from lightning_ltts.data.word_problems import WordProblems
from lightning_ltts.engine.grading import read_answers
from lightning_ltts.models.latent_lm import left_pad
from lightning_ltts.voting.bootstrap import bootstrap_interval

METHODS = ("coconut", "codi", "colar", "chain_of_thought", "no_thoughts")
LONGEST_TEXT = 40  # tokens, of all steps and the answer


def train(method: str, seed: int) -> Path:
    """The best checkpoint of a method."""
    folder = Path("logs/methods") / f"{method}-{seed}"
    if not (folder / "done").exists():
        options = [
            f"name=methods/{method}-{seed}",
            f"seed_everything={seed}",
            f"data.init_args.train.init_args.seed={100 * seed}",
        ]
        options += [
            "trainer.accelerator=cpu",
            "trainer.devices=1",
            "trainer.enable_progress_bar=false",
        ]
        subprocess.run(
            [
                sys.executable,
                "-m",
                "lightning_ltts",
                "fit",
                f"experiment=methods/{method}",
                *options,
            ],
            check=True,
        )
        (folder / "done").touch()
    return folder / "checkpoints" / "best.ckpt"


@torch.no_grad()
def greedy(path: Path) -> tuple[torch.Tensor, int, float]:
    """Which of 2,048 problems (P,) are right, positions read after the prompts, and mean number of thoughts."""
    reasoner, problems = load_reasoner(path), WordProblems("test", 2048, 0).load()
    ids, mask = left_pad(
        [reasoner.encode_prompt(problem.question) for problem in problems], reasoner.pad_id
    )
    longest = LONGEST_TEXT if reasoner.spec.num_thoughts == 0 else reasoner.spec.max_answer_tokens
    rollouts = RolloutEngine(reasoner).rollout(ids, mask, max_answer_tokens=longest)
    answers = read_answers(reasoner, rollouts.answer_ids[:, 0])
    right = torch.tensor(
        [answer == problem.value for answer, problem in zip(answers, problems, strict=True)]
    ).float()
    return (
        right,
        rollouts.token_forwards - int(mask.sum()),
        float(rollouts.thought_counts.float().mean()),
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", str(torch.get_num_threads()))
    print(
        "| method | thoughts | positions read per problem | greedy accuracy, one per seed, with 95 % intervals |"
    )
    print("|---|---|---|---|")
    for method in options.methods:
        cells, read, thoughts = [], 0, 0.0
        for seed in options.seeds:
            right, positions, thoughts = greedy(train(method, seed))
            low, high = bootstrap_interval(right)
            cells.append(f"{100 * right.mean():.1f} ({100 * low:.1f} .. {100 * high:.1f})")
            read = positions // len(right)
        print(f"| {method} | {thoughts:.1f} | {read} | {', '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
