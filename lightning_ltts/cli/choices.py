"""The configurations that there are, and which of them was meant."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path

import yaml

CONFIG_DIR_FLAGS = ("-cd", "--config-dir")


def config_folder() -> Path:
    """Where `configs/` is: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    places = (package / "configs", package.parent / "configs")
    return next(folder for folder in places if folder.is_dir())


def own_folders(arguments: Sequence[str]) -> list[Path]:
    """The folders of configurations that a command line adds by `--config-dir`."""
    following = [Path(value) for flag, value in pairwise(arguments) if flag in CONFIG_DIR_FLAGS]
    joined = [a.partition("=")[2] for a in arguments if a.startswith("--config-dir=")]
    return [*following, *map(Path, joined)]


def choices_of(group: str, folders: Iterable[Path] = ()) -> list[str]:
    """All choices of a config group, `demo/reasoner` among them where it has folders.

    Args:
        group: a folder of configurations, for instance `experiment`.
        folders: where the user's own configurations are, beside those of the package.
    """
    found = set()
    for folder in (config_folder(), *folders):
        for path in (folder / group).rglob("*.yaml"):
            found.add(path.relative_to(folder / group).with_suffix("").as_posix())
    return sorted(found)


def top_level_keys() -> list[str]:
    """The keys that a configuration has at the top, config groups included."""
    content = yaml.safe_load((config_folder() / "config.yaml").read_text(encoding="utf-8"))
    groups = [path.name for path in config_folder().iterdir() if path.is_dir()]
    return sorted({*content, *groups} - {"defaults", "hydra", "task"})


def nearest(name: str, known: Sequence[str]) -> str | None:
    """The choice that a misspelt name may have meant; None where none is near.

    A name without its folder, as `reasoner` for `demo/reasoner`, counts as near, where the choice
    is the only one of that name.
    """
    close = get_close_matches(name, known, 1)
    if close:
        return close[0]
    last = [choice for choice in known if choice.rpartition("/")[2] == name]
    return last[0] if len(last) == 1 else None


def list_experiments(folders: Iterable[Path] = (), command: str | None = None) -> str:
    """The experiments, each with what its file says that it is, a line each.

    Args:
        folders: where the user's own experiments are, beside those of the package.
        command: only those whose line names this command; by default all.
    """
    lines = {}
    for folder in (config_folder(), *folders):
        for path in sorted((folder / "experiment").rglob("*.yaml")):
            about, verbs = about_experiment(path.read_text(encoding="utf-8"))
            name = path.relative_to(folder / "experiment").with_suffix("").as_posix()
            if command is None or command in verbs:
                lines[name] = f"  {name:24} {about}".rstrip()
    return "\n".join(lines[name] for name in sorted(lines))


def about_experiment(text: str) -> tuple[str, list[str]]:
    """What an experiment's file says that it is, and the commands that this line begins with.

    It is the first line of comment that is not Hydra's: `mine or fit: trajectories of ...`.
    """
    comments = (line.removeprefix("# ") for line in text.splitlines() if line.startswith("# "))
    about = next((comment for comment in comments if not comment.startswith("@")), "")
    return about, about.partition(":")[0].split(" or ")
