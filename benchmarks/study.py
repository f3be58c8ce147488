"""The study behind docs/results.md: one command per row.

    python benchmarks/study.py default --seed 1          # reasoner, mining, LatentRM and search of one row; what exists is kept
    python benchmarks/study.py paper --task hard
    python benchmarks/study.py scaling --seed 1          # rows that differ by the LatentRM's data, layers, epochs, N or M
    python benchmarks/study.py default --task graph      # the second built-in task
    python benchmarks/study.py default --repeat 1        # its LatentRM trained from another seed, all else shared
    python benchmarks/study.py explicit                  # a reasoner that writes its steps, sampled likewise
    python benchmarks/study.py explicit_latent_rm        # the same, judged by a LatentRM
    python benchmarks/study.py reasoner                  # the reasoner by itself, for seeds without a LatentRM
    python benchmarks/study.py longer                    # the reasoner, trained on for as long as all else takes
    python benchmarks/study.py unsupervised              # the reasoner, its steps not supervised (SIM-CoT)
    python benchmarks/study.py unmixed                   # the reasoner, trained stage by stage and no other batch mixed in
    python benchmarks/study.py reset slow warm           # moments forgotten between stages; half the rate; a longer warm-up
    python benchmarks/study.py averaged                  # the reasoner, an average of its weights over the last steps
    python benchmarks/study.py other_start               # the same problems, other weights at the start, batches and noise
    python benchmarks/study.py dropout                   # the reasoner under dropout over the prompt instead of noise
    python benchmarks/study.py self_trained              # the reasoner, trained on with the problems that are mined
    python benchmarks/study.py self_trained_by_choice    # the same on trajectories that its LatentRM chooses
    python benchmarks/study.py self_trained_on_more      # on four times as many problems
    python benchmarks/study.py after_longer              # a LatentRM and search on the reasoner of `longer`
    python benchmarks/study.py after_self_training       # a LatentRM and search on top of that
    python benchmarks/study.py after_reinforcement       # the same on top of a reasoner that is reinforced
    python benchmarks/study.py after_dropout             # the same, all under dropout over the prompt
    python benchmarks/study.py maxrl --explorer svp      # the reasoner, reinforced on problems with answers alone
    python benchmarks/study.py grpo                      # the same by advantages that are not relative
    python benchmarks/study.py own_answers               # what a LatentRM would answer itself
    python benchmarks/study.py outliers                  # what the best-scored samples have in common
    python benchmarks/study.py beams                     # one budget spent on beams of many shapes, and what pruning loses
    python benchmarks/study.py rules                     # trajectory scores made of step scores in many ways
    python benchmarks/study.py table                     # of all that is finished

Every row is a handful of overrides to the demo's experiments; runs go to logs/study/TASK-SIZE-SEED/ROW.
"""

import argparse
import os
from functools import partial

import torch
from study_probes import beams, outliers, own_answers, rules
from study_settings import EXPLORERS, REINFORCED, ROWS, SCALING, SIZES, TASKS, TRAININGS, Setting
from study_stages import (
    explicit,
    explicit_latent_rm,
    longer,
    reinforced,
    run,
    searched_reasoner,
    self_trained,
    self_trained_by_choice,
    trained_otherwise,
)
from study_table import table

WHOLE = {
    "explicit": explicit,
    "explicit_latent_rm": explicit_latent_rm,
    "longer": longer,
    "reasoner": searched_reasoner,
    "self_trained": self_trained,
    "self_trained_by_choice": self_trained_by_choice,
    "self_trained_on_more": partial(self_trained, name="self_trained_on_more"),
    **{name: partial(trained_otherwise, name=name) for name in TRAININGS},
    "own_answers": own_answers,
    "outliers": outliers,
    "beams": beams,
    "rules": rules,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "rows",
        nargs="+",
        choices=[*ROWS, *WHOLE, *REINFORCED, "scaling", "table"],
        metavar="ROW",
        help=", ".join(ROWS),
    )
    parser.add_argument("--task", choices=list(TASKS), default="easy")
    parser.add_argument("--size", choices=list(SIZES), default="small")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--repeat", type=int, default=0, help="another seed of the LatentRM's training, for a row"
    )
    parser.add_argument(
        "--explorer", choices=list(EXPLORERS), default="noise", help="the sampler of reinforcement"
    )
    parser.add_argument("--num-samples", type=int, default=32, help="N of the table")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", str(torch.get_num_threads()))
    setting = Setting(options.task, options.size, options.seed)
    if options.task == "graph" and "explicit_latent_rm" in options.rows:
        parser.error("explicit_latent_rm is there for word problems alone; choose another --task")
    rows = [row for name in options.rows for row in (SCALING if name == "scaling" else [name])]
    for name in rows:
        if name == "table":
            table(options.num_samples)
        elif name in REINFORCED:
            reinforced(setting, options.explorer, name)
        elif name in WHOLE:
            WHOLE[name](setting)
        else:
            run(name, setting, options.repeat)


if __name__ == "__main__":
    main()
