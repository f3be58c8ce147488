"""What the study varies: tasks, sizes, seeds, and the rows of its tables, as data."""

from dataclasses import dataclass, replace
from pathlib import Path

FOLDER = Path("logs/study")
RM = "model.init_args."
_Training = tuple[int, tuple[int, ...]]  # problems with steps, and epochs
UNMIXED = f"{RM}uniform_prob=0"  # no batch of other stages
DROPOUT = ("sampler=mc_dropout", "sampler.init_args.p=0.1", "sampler.init_args.prompt=true")


@dataclass(frozen=True)
class Task:
    """A task of the study, and how a reasoner is trained on it."""

    experiments: str  # the folder of its experiment files
    problems: dict[str, float]  # options of its problems
    trained_on: int  # problems with steps
    epochs: tuple[int, ...]  # of the chain of thought, and of every stage after it
    reasoner: tuple[str, ...] = ()  # overrides of its training
    elsewhere: tuple[str, ...] = ()  # overrides of experiments that are not in its folder
    before: str = ""  # the experiment that a reasoner's training starts from, if any
    longer: float = 3.5  # how many times as long as the reasoner all stages of a row take


def _words(steps: int, largest: int, positions: int, training: _Training, *overrides: str) -> Task:
    """Word problems of so many steps, with numbers up to the largest."""
    reasoner = (
        *overrides,
        f"{RM}start.tokenizer.init_args.max_number={largest}",
        f"{RM}start.backbone.n_positions={positions}",
    )
    problems: dict[str, float] = {"num_steps": steps, "max_number": largest}
    return Task("demo", problems, *training, reasoner)


# so few problems with steps that greedy decoding ends where more epochs do not help, and as many as
# that allows; chosen on validation problems (docs/results.md)
TASKS = {
    "easy": replace(_words(3, 20, 64, (1100, (40, 12, 12, 236))), longer=2.8),
    "hard": replace(_words(4, 30, 128, (1600, (30, 10, 10, 10, 480))), longer=1.5),
    # those of short trainings on more problems, and those of the second study (docs/second_study.md)
    "short_easy": _words(3, 20, 64, (1400, (40, 12, 12, 60))),
    "short_hard": _words(4, 30, 128, (2500, (30, 10, 10, 10, 50))),
    "early_easy": _words(3, 20, 64, (1750, (10, 10, 10, 30)), UNMIXED),
    "early_hard": _words(4, 30, 128, (4000, (6, 6, 6, 6, 16)), UNMIXED),
    "graph": Task(
        "graph",
        {"hops": 4, "fewest_hops": 2, "distractors": 2, "density": 1.1},
        40000,
        (4, 2, 2, 2, 6),
        elsewhere=("data=graph_problems",),
        before="paths",
    ),
}
# layers and width of a reasoner for word problems; that of the graph task has one size
SIZES = {"small": (3, 64), "large": (4, 128)}
PROBLEMS = 2048  # that are reported on
INFORMATIVE, EPOCHS = 6000, 16  # questions with right and wrong trajectories; of LatentRM training
REINFORCED_ON = 16384  # problems with answers alone
# how reinforcement weighs groups, and the course of its learning rate
REINFORCED = {
    "grpo": (f"{RM}relative=false", f"{RM}warmup=0", f"{RM}schedule=constant"),
    "maxrl": (f"{RM}relative=true", f"{RM}warmup=0.05", f"{RM}schedule=cosine"),
}
# what it explores with; the answers' tokens are drawn in all of them
EXPLORERS = {
    "tokens": ("sampler=deterministic",),
    "noise": ("sampler=gaussian_noise",),
    "dropout": ("sampler=mc_dropout",),
    "held": ("sampler=mc_dropout", "+sampler.init_args.lifetime=per_trajectory"),
    # so that a sample is right as often as under the noise, see benchmarks/samplers.py
    "svp": (
        "sampler=singular_values",
        "sampler.init_args.alpha=0.45",
        "sampler.init_args.prompt=false",
    ),
}
# problems with answers alone of self-training, by row: about half as many as are mined, and twice
SELF_TRAINED_ON = {
    "self_trained": 13312,
    "self_trained_by_choice": 13312,
    "self_trained_on_more": 51200,
}
# reasoners that are trained otherwise than all else here, for as many epochs, by what differs
TRAININGS = {
    "unsupervised": (
        f"{RM}step_factor=0",
    ),  # no decoder writes each step from its thoughts (SIM-CoT)
    "unmixed": (UNMIXED,),
    "dropout": DROPOUT,
    "reset": (f"{RM}reset_optimizer=true",),
    "slow": (f"{RM}lr=1.5e-3",),
    "warm": (f"{RM}warmup=0.2",),
    # kept is an average of the weights of about 500 steps
    "averaged": (
        "+callbacks.averaging.class_path=lightning.pytorch.callbacks.EMAWeightAveraging",
        "+callbacks.averaging.init_args.decay=0.998",
    ),
    # the same problems, and other weights at the start, batches and noise
    "other_start": ("seed_everything=1000", "data.init_args.seed=1000"),
}


@dataclass(frozen=True)
class Row:
    """One line of a table: what differs from the demo."""

    reasoner: str = "reasoner"  # the row whose reasoner is mined and searched
    fit: tuple[str, ...] = ()  # of the LatentRM
    mine: tuple[str, ...] = ()
    sampler: tuple[str, ...] = ()


_NO_ANSWER = (f"{RM}reads_answer=false", f"{RM}answer_prediction=0")
_PAPER = (f"{RM}reference=false", *_NO_ANSWER)
_INFORMATIVE = "data.init_args.informative={}"
ROWS = {
    "default": Row(),
    "paper": Row(fit=_PAPER),
    "answer": Row(fit=(f"{RM}reference=false",)),
    "reference": Row(fit=_NO_ANSWER),
    "scores_alone": Row(fit=(f"{RM}answer_prediction=0",)),
    "shallow": Row(fit=(f"{RM}extra_layers=0",)),
    "short": Row(fit=("trainer.max_epochs=8",)),
    "long": Row(fit=("trainer.max_epochs=32",)),
    "few": Row(mine=(_INFORMATIVE.format(1500),)),
    "some": Row(mine=(_INFORMATIVE.format(3000),)),
    "many": Row(mine=(_INFORMATIVE.format(12000),)),
    "most": Row(mine=(_INFORMATIVE.format(50000), "data.init_args.train.init_args.size=262144")),
    "bce": Row(fit=(f"{RM}loss=bce",)),
    "pairwise": Row(fit=(f"{RM}loss=pairwise",)),
    "unnormalized": Row(fit=(f"{RM}loss=contrastive_unnormalized",)),
    "hard_negatives": Row(fit=(f"{RM}hard_negatives=4",)),
    "noise_free": Row(fit=(f"{RM}noise_free=true",), mine=("data.init_args.keep_clean=true",)),
    "m0": Row(mine=("data.init_args.num_rollouts=0",)),
    "n16": Row(mine=("data.init_args.num_samples=16",)),
    "noise_0.3": Row(sampler=("sampler.init_args.std=0.3",)),
    "after_longer": Row("longer"),
    "after_self_training": Row("self_trained"),
    "after_reinforcement": Row("maxrl_tokens"),
    "after_dropout": Row("dropout", sampler=DROPOUT),
}
# the rows whose LatentRMs differ by one thing, on one reasoner
SCALING = (
    "few",
    "some",
    "default",
    "most",
    "m0",
    "n16",
    "shallow",
    "short",
    "long",
    "scores_alone",
)


@dataclass(frozen=True)
class Setting:
    """A task, a model size and a seed: what rows share a reasoner for."""

    task: str
    size: str
    seed: int

    @property
    def folder(self) -> Path:
        return FOLDER / f"{self.task}-{self.size}-{self.seed}"

    @property
    def of_task(self) -> Task:
        return TASKS[self.task]

    @property
    def reasoner(self) -> Path:
        return self.best("reasoner")

    def experiment(self, name: str) -> str:
        """The override that chooses the task's own experiment of this name."""
        return f"experiment={self.of_task.experiments}/{name}"

    def best(self, row: str) -> Path:
        """The checkpoint that a row's training keeps."""
        return self.folder / row / "checkpoints" / "best.ckpt"

    def problems(self, *parts: str) -> list[str]:
        """The options of the task's problems, for parts of the data."""
        return [
            f"data.init_args.{part}.init_args.{option}={number}"
            for part in parts
            for option, number in self.of_task.problems.items()
        ]
