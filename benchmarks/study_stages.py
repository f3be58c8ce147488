"""The stages of a row of the study: commands of `ltts`, each run unless what it makes is there."""

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from study_settings import (
    EPOCHS,
    EXPLORERS,
    INFORMATIVE,
    PROBLEMS,
    REINFORCED,
    REINFORCED_ON,
    RM,
    ROWS,
    SELF_TRAINED_ON,
    SIZES,
    TRAININGS,
    Setting,
)


def ltts(command: str, done: Path, *overrides: str) -> None:
    """Runs one command of the demo's pipeline, unless what it makes is there."""
    if done.exists():
        return
    cpu = ("trainer.accelerator=cpu", "trainer.devices=1", "trainer.enable_progress_bar=false")
    print(f"$ ltts {command} {' '.join(overrides)}", flush=True)
    subprocess.run([sys.executable, "-m", "lightning_ltts", command, *overrides, *cpu], check=True)


def train_reasoner(setting: Setting) -> None:
    """The reasoner that all rows of a setting share, at its plateau."""
    fit_reasoner(setting, "reasoner", setting.of_task.epochs)
    (setting.folder / "reasoner.done").touch()


def fit_reasoner(setting: Setting, name: str, epochs: tuple[int, ...], *overrides: str) -> None:
    """A reasoner on the problems with steps: epochs of the chain of thought, and of every stage."""
    task = setting.of_task
    if task.before:
        overrides = (f"reasoner={first_training(setting, task.before)}", *overrides)
    ltts(
        "fit", setting.folder / f"{name}.done", setting.experiment("reasoner"),
        f"name={setting.folder.relative_to('logs')}/{name}",
        f"seed_everything={setting.seed}", f"data.init_args.seed={setting.seed}",
        f"data.init_args.train.init_args.seed={100 * setting.seed}",
        *setting.problems("train", "val", "test"), *task.reasoner, *size(setting),
        f"data.init_args.train.init_args.size={task.trained_on}",
        f"{RM}curriculum.cot_epochs={epochs[0]}",
        f"{RM}curriculum.stage_epochs=[{','.join(map(str, epochs[1:]))}]", f"trainer.max_epochs={sum(epochs)}",
        "trainer.check_val_every_n_epoch=5", *overrides,
    )  # fmt: skip


def first_training(setting: Setting, name: str) -> Path:
    """The checkpoint that the reasoner's training starts from."""
    ltts(
        "fit", setting.folder / f"{name}.done", setting.experiment(name),
        f"name={setting.folder.relative_to('logs')}/{name}",
        f"seed_everything={setting.seed}", f"data.init_args.seed={setting.seed}",
        f"data.init_args.train.init_args.seed={100 * setting.seed + 2}",
    )  # fmt: skip
    (setting.folder / f"{name}.done").touch()
    return setting.best(name)


def size(setting: Setting) -> list[str]:
    """Layers and width of a reasoner for word problems."""
    if "num_steps" not in setting.of_task.problems:
        return []
    layers, width = SIZES[setting.size]
    return [f"{RM}start.backbone.n_layer={layers}", f"{RM}start.backbone.n_embd={width}"]


def searched_reasoner(setting: Setting) -> None:
    """The reasoner that rows share, and what it reaches without a LatentRM."""
    train_reasoner(setting)
    search_alone(setting, "reasoner", setting.folder / "reasoner")


def longer(setting: Setting) -> None:
    """What the reasoner itself makes of the time that mining and the LatentRM take."""
    *first, last = setting.of_task.epochs
    more = round((setting.of_task.longer - 1) * sum(setting.of_task.epochs))
    _fit_and_search(setting, "longer", (*first, last + more))


def trained_otherwise(setting: Setting, name: str) -> None:
    """A reasoner that differs by one thing in its training (`TRAININGS`)."""
    _fit_and_search(setting, name, setting.of_task.epochs, *TRAININGS[name])


def _fit_and_search(setting: Setting, name: str, epochs: tuple[int, ...], *overrides: str) -> None:
    """A reasoner that is trained otherwise, and what it reaches without a LatentRM."""
    fit_reasoner(setting, name, epochs, *overrides)
    (setting.folder / f"{name}.done").touch()
    search_alone(setting, name, setting.folder / name, *_samplers(overrides))


def _samplers(overrides: tuple[str, ...]) -> list[str]:
    return [override for override in overrides if override.startswith("sampler")]


def self_trained(setting: Setting, name: str = "self_trained", latent_rm: str = "null") -> None:
    """What the reasoner itself makes of as many problems with answers as were mined."""
    train_reasoner(setting)
    folder, stages = setting.folder / name, len(setting.of_task.epochs) - 1
    ltts(
        "fit", folder / "done", "experiment=methods/self_training", f"name={folder.relative_to('logs')}",
        f"reasoner={setting.reasoner}", f"latent_rm={latent_rm}",
        f"seed_everything={setting.seed}", f"data.init_args.seed={setting.seed}",
        f"data.init_args.train.init_args.seed={100 * setting.seed + 1}",
        f"data.init_args.train.init_args.size={SELF_TRAINED_ON[name]}",
        f"{RM}curriculum.thoughts_per_step={stages}", *setting.of_task.elsewhere,
        *setting.problems("train", "val", "test"),
    )  # fmt: skip
    (folder / "done").touch()
    search_alone(setting, name, folder)


def self_trained_by_choice(setting: Setting) -> None:
    """The same, on the trajectories that the LatentRM of `default` chooses."""
    run("default", setting)
    self_trained(setting, "self_trained_by_choice", str(setting.best("default")))


def reinforced(setting: Setting, explorer: str = "noise", method: str = "maxrl") -> None:
    """What the reasoner itself makes of the rewards of trajectories that it explores with a sampler."""
    train_reasoner(setting)
    name = f"{method}_{explorer}"
    folder = setting.folder / name
    ltts(
        "fit", folder / "done", "experiment=methods/grpo", f"name={folder.relative_to('logs')}",
        f"reasoner={setting.reasoner}", f"seed_everything={setting.seed}", f"data.init_args.seed={setting.seed}",
        f"data.init_args.train.init_args.seed={100 * setting.seed + 1}",
        f"data.init_args.train.init_args.size={REINFORCED_ON}", f"{RM}seed={setting.seed}",
        *setting.of_task.elsewhere, *setting.problems("train", "val", "test"), *EXPLORERS[explorer], *REINFORCED[method],
    )  # fmt: skip
    (folder / "done").touch()
    search_alone(setting, name, folder)


def search_alone(setting: Setting, name: str, folder: Path, *overrides: str) -> None:
    """Greedy decoding, votes without training and coverage of a reasoner, on the test problems."""
    search = setting.folder / name / "search"
    ltts(
        "predict", search / "summary.json", setting.experiment("search"), f"name={search.relative_to('logs')}",
        f"reasoner={folder / 'checkpoints' / 'best.ckpt'}", "latent_rm=null", f"{RM}beam=null",
        f"{RM}seed={setting.seed}", f"data.init_args.problems.init_args.size={PROBLEMS}",
        *setting.problems("problems"), *overrides,
    )  # fmt: skip


# what makes the reasoners that rows are searched with
REASONERS: dict[str, Callable[[Setting], None]] = {
    "reasoner": train_reasoner,
    "longer": longer,
    "self_trained": self_trained,
    "maxrl_tokens": partial(reinforced, explorer="tokens"),
    "dropout": partial(trained_otherwise, name="dropout"),
}


def run(name: str, setting: Setting, repeat: int = 0) -> None:
    """All stages of a row; a repeat has another seed of the LatentRM's training, and all else shared."""
    row, folder = ROWS[name], setting.folder / (f"{name}.{repeat}" if repeat else name)
    REASONERS[row.reasoner](setting)
    reasoner = setting.best(row.reasoner)
    # what depends on the reasoner is shared by the rows that have the same one
    of_its_own = [] if row.reasoner == "reasoner" else [row.reasoner]
    problems = 100 * setting.seed + 1 + len(of_its_own)  # others than it learned from by itself
    # a reasoner of its own has one sampler in all its rows; elsewhere a sampler is the row's own
    trained_under, its_sampler = (row.sampler, ()) if of_its_own else ((), row.sampler)
    differing = (part.split(".")[-1] for part in (*row.mine, *its_sampler))
    store = "-".join(["store", *of_its_own, *differing]).replace("=", "")
    ltts(
        "fit", folder / "done", setting.experiment("latent_rm"),
        f"name={folder.relative_to('logs')}", f"reasoner={reasoner}",
        f"seed_everything={setting.seed + 1000 * repeat}", f"data.init_args.seed={setting.seed}",
        f"data.init_args.train.init_args.seed={problems}", f"data.init_args.store={setting.folder / store}",
        *setting.problems("train", "val"), f"data.init_args.informative={INFORMATIVE}", "data.init_args.batch_size=64",
        f"trainer.max_epochs={EPOCHS}",
        "trainer.check_val_every_n_epoch=2",
        *row.mine, *row.sampler, *row.fit,
    )  # fmt: skip
    (folder / "done").touch()
    models = (f"reasoner={reasoner}", f"latent_rm={folder / 'checkpoints' / 'best.ckpt'}")
    # majority's strength and the rules without training are chosen on validation problems, once a
    # setting; so is the selection, for each row; and all is reported on test problems
    tune = setting.folder / "-".join(["tune", *of_its_own])
    ltts(
        "tune", tune / "tuned.yaml", setting.experiment("tune"), f"name={tune.relative_to('logs')}", models[0],
        "latent_rm=null", f"{RM}seed={setting.seed}", *setting.problems("problems"),
        *trained_under,
    )  # fmt: skip
    for split, size, samples, seed in (("valid", 1024, 32, 2), ("test", PROBLEMS, 64, 0)):
        search = folder / ("search" if split == "test" else "chosen")
        ltts(
            "predict", search / "summary.json", setting.experiment("search"), f"name={search.relative_to('logs')}",
            *models, f"{RM}seed={setting.seed}", f"{RM}tuned={tune / 'tuned.yaml'}",
            f"{RM}num_samples={samples}", f"data.init_args.problems.init_args.split={split}",
            f"data.init_args.problems.init_args.size={size}", f"data.init_args.problems.init_args.seed={seed}",
            *setting.problems("problems"), *row.sampler,
        )  # fmt: skip


def explicit(setting: Setting) -> None:
    """What thoughts compete with: the same model, trained to write its steps, and its samples' votes."""
    whole, folder = sum(setting.of_task.epochs), setting.folder / "explicit"
    ltts(
        "fit", folder / "done", *writing(setting), f"name={folder.relative_to('logs')}",
        f"seed_everything={setting.seed}", f"data.init_args.seed={setting.seed}",
        f"data.init_args.train.init_args.seed={100 * setting.seed}",
        f"data.init_args.train.init_args.size={setting.of_task.trained_on}",
        *setting.problems("train", "val", "test"),
        f"{RM}curriculum.cot_epochs={whole}", f"trainer.max_epochs={whole}", "trainer.check_val_every_n_epoch=5",
    )  # fmt: skip
    (folder / "done").touch()
    search_written(setting, folder / "search")


def writing(setting: Setting) -> list[str]:
    """The experiment by which a reasoner learns to write its steps, and overrides of it."""
    task = setting.of_task
    if task.before:  # it wrote steps there, and goes on with them, as the reasoner goes on without
        start = first_training(setting, task.before)
        goes_on = ["start@model.init_args.start=checkpoint", f"reasoner={start}", f"{RM}lr=1e-3"]
        return [setting.experiment(task.before), *goes_on]
    # a step is written in at most nine tokens
    tokens = 9 * task.problems["num_steps"] + 8
    room = (f"{RM}start.backbone.n_positions=128", f"{RM}max_answer_tokens={tokens}")
    return ["experiment=demo/explicit", *task.reasoner, *size(setting), *room]


def explicit_latent_rm(setting: Setting) -> None:
    """The same with a LatentRM, mined and trained as that of the thoughts."""
    explicit(setting)
    folder, written = setting.folder / "explicit_latent_rm", setting.folder / "explicit"
    ltts(
        "fit", folder / "done", "experiment=demo/explicit_latent_rm", f"name={folder.relative_to('logs')}",
        f"reasoner={written / 'checkpoints' / 'best.ckpt'}",
        f"seed_everything={setting.seed}", f"data.init_args.seed={setting.seed}",
        f"data.init_args.train.init_args.seed={100 * setting.seed + 1}",
        *setting.problems("train", "val"), f"data.init_args.informative={INFORMATIVE}", "data.init_args.batch_size=64",
        f"trainer.max_epochs={EPOCHS}", "trainer.check_val_every_n_epoch=2",
    )  # fmt: skip
    (folder / "done").touch()
    search_written(setting, folder / "search", str(folder / "checkpoints" / "best.ckpt"))


def search_written(setting: Setting, search: Path, latent_rm: str = "null") -> None:
    """Samples and votes of the reasoner that writes its steps, on the test problems."""
    ltts(
        "predict", search / "summary.json", setting.experiment("search"), f"name={search.relative_to('logs')}",
        f"reasoner={setting.best('explicit')}", f"latent_rm={latent_rm}", "sampler=token_sampling", f"{RM}beam=null",
        f"{RM}seed={setting.seed}", f"data.init_args.problems.init_args.size={PROBLEMS}",
        *setting.problems("problems"),
    )  # fmt: skip
