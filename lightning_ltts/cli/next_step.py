"""What to run next: the last line of a command.

Experiments are linked by their files: one whose `reasoner` or `latent_rm` is the checkpoint that
another writes comes after it.
"""

import shlex
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from lightning_ltts.analysis.prediction_files import PAGE
from lightning_ltts.cli.choices import (
    CONFIG_DIR_FLAGS,
    about_experiment,
    config_folder,
    own_folders,
)
from lightning_ltts.cli.own_files import FILE_KEYS

# what the next command is likely to need, too
_CARRIED = (*FILE_KEYS, "problems_dir", "train_files", "trainer.accelerator", "trainer.devices")
_VERBS = ("mine", "fit", "predict")  # in the order of the pipeline


class Run(NamedTuple):
    """A command that has ended."""

    command: str
    arguments: Sequence[str]  # as they were given
    experiment: str | None
    tree: dict[str, Any]  # its configuration
    folder: Path


class _Link(NamedTuple):
    """An experiment that comes after another."""

    name: str
    verb: str
    content: dict[str, Any]


def next_step(run: Run) -> str | None:
    """The command that comes after one; None where there is none to name."""
    if run.command == "mine":
        # a LatentRM is trained whole on every device
        divided = "trainer=tensor_parallel" in run.arguments
        of_it = ("trainer=tensor_parallel", "trainer.strategy")
        words = [x for x in run.arguments if not (divided and x.startswith(of_it))]
        return _line("fit", words)
    if run.command == "predict" and (run.folder / PAGE).is_file():
        return f"open {shlex.quote(_shown(run.folder / PAGE))} in a browser"
    if run.command == "predict":
        return f"ltts report {shlex.quote(_shown(run.folder))} -o report.html"
    if run.command == "fit":
        return _after_training(run, run.folder / "checkpoints/best.ckpt")
    if run.command in ("validate", "test"):
        return _after_checking(run)
    if run.command == "tune" and (run.folder / "tuned.yaml").is_file():
        after = _after(run, "reasoner", _content(run).get("reasoner"), ("predict",))
        tuned = f"model.init_args.tuned={_shown(run.folder / 'tuned.yaml')}"
        return after and f"{_following(run, after, {})} name={run.tree['name']}_search {tuned}"
    return None


def _after_training(run: Run, checkpoint: Path) -> str | None:
    """What a checkpoint is for: the experiment that begins with it, or giving it away."""
    if not checkpoint.is_file():
        return None
    key = "latent_rm" if _class(run, "data") == "MiningData" else "reasoner"
    written = f"logs/{_content(run).get('name')}/checkpoints/best.ckpt"
    after = _after(run, key, written)
    if after is None:
        return f"ltts export {shlex.quote(_shown(checkpoint))} FOLDER"
    return _following(run, after, {key: _shown(checkpoint)})


def _after_checking(run: Run) -> str | None:
    """After the accuracy of a checkpoint: its accuracy on test problems, then what it is for."""
    given = run.tree.get("ckpt_path")
    if not given:  # nothing was trained
        return _line("fit", run.arguments)
    has_test = ((run.tree.get("data") or {}).get("init_args") or {}).get("test")
    if run.command == "validate" and has_test:
        return _line("test", run.arguments)
    named = run.folder / f"checkpoints/{given}.ckpt"  # best or last
    return _after_training(run, named if named.is_file() else Path(given).absolute())


def _after(run: Run, key: str, value: Any, verbs: Sequence[str] = _VERBS) -> _Link | None:
    """The experiment that begins with what a run has written, the earliest in the pipeline."""
    found = [
        link for link in _experiments(run) if link.content.get(key) == value and link.verb in verbs
    ]
    return min(found, key=lambda link: (verbs.index(link.verb), link.name), default=None)


def _following(run: Run, after: _Link, written: dict[str, str]) -> str:
    """The command of an experiment, with the checkpoints that are not where its file says."""
    own_name = run.tree.get("name") != _content(run).get("name")
    given = {key: run.tree.get(key) for key in ("reasoner", "latent_rm")} | written
    words = [f"experiment={after.name}"]
    if own_name and written:
        words.append(f"name={run.tree.get('name')}_{after.name.rpartition('/')[2]}")
    words += [
        f"{key}={path}"
        for key, path in given.items()
        if path and key in after.content and after.content[key] != path
    ]
    flags, carried = [], []
    for folder in own_folders(run.arguments):
        flags += [CONFIG_DIR_FLAGS[-1], str(folder)]
    for argument in run.arguments:
        key = argument.lstrip("+").partition("=")[0]
        if key in _CARRIED or key.partition(".")[0] == "sampler":
            carried.append(argument)
    return _line(after.verb, [*flags, *words, *carried])


def _line(command: str, words: Sequence[str]) -> str:
    return shlex.join(["ltts", command, *words])


def _experiments(run: Run) -> Iterator[_Link]:
    """Every experiment, the user's own included, with the first command of its line."""
    for folder in (*own_folders(run.arguments), config_folder()):
        for path in sorted((folder / "experiment").rglob("*.yaml")):
            text = path.read_text(encoding="utf-8")
            content = _parsed(text)
            if isinstance(content, dict):
                name = path.relative_to(folder / "experiment").with_suffix("").as_posix()
                yield _Link(name, about_experiment(text)[1][0], content)


@cache
def _parsed(text: str) -> Any:
    """The content of a file, to be read only: parsing all experiments takes a quarter of a second."""
    return yaml.safe_load(text)


def _content(run: Run) -> dict[str, Any]:
    """What the run's experiment file holds."""
    return next((x.content for x in _experiments(run) if x.name == run.experiment), {})


def _class(run: Run, part: str) -> str:
    return str((run.tree.get(part) or {}).get("class_path")).rpartition(".")[2]


def _shown(path: Path) -> str:
    """A path from the working directory, where it is below that."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
