"""The keys for what is the user's own: `train=`, `valid=`, `test=` for problems, `pretrained=`.

They mean the same in every command and experiment, whatever the data was before: a file or a list
of files takes the place of the problems that the data trains on, validates on, or tests on.
"""

from collections.abc import Iterator, Sequence, Set
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from lightning_ltts.data.tables import exists
from lightning_ltts.errors import ConfigError, shorten

FILE_KEYS = ("train", "valid", "test")
PROBLEM_FILES = "lightning_ltts.data.problems.ProblemFiles"
# options of a source that stay when files take its place
_KEPT = ("answers", "ids")
# the problems that a command reads, by the names of the data's options
_READ = {
    "fit": ("train", "val", "test"),
    "mine": ("train", "val"),
    "validate": ("val",),
    "test": ("test",),
}


def resolved(
    command: str, cfg: DictConfig, overrides: Sequence[str] = (), experiment: Any = None
) -> dict[str, Any]:
    """The composed configuration without references, with what is the user's own in its place.

    Args:
        command: one of LightningCLI's.
        cfg: as Hydra composed it.
        overrides: Hydra overrides of one job, such as `train=my.json`.
        experiment: what the experiment's own file holds.

    Raises:
        ConfigError: a key is no path or list of paths, or cannot be used here.
    """
    _make_lists(cfg)
    tree: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)  # type: ignore[assignment]
    given = {override.lstrip("+").partition("=")[0] for override in overrides} | {
        *(experiment or ())
    }
    files = {key: tree[key] for key in FILE_KEYS if key in given and tree.get(key)}
    if files:
        limits = {option for option in given if option.endswith(".limit")}
        _place_files(command, tree, files, "problems_dir" in given, limits)
    if tree.get("pretrained"):
        _place_pretrained(tree)
    return tree


def check_files(command: str, tree: dict[str, Any]) -> None:
    """Refuses problem files that do not exist, before anything is imported that takes seconds.

    Raises:
        ConfigError: naming the first, and the keys that give others.
    """
    options = _options(tree, "data")
    sources = [options.get(name) for name in _READ.get(command, ("problems",))]
    missing = [path for source in sources for path in _paths(source) if not exists(path)]
    if missing:
        raise ConfigError(
            f"problem file {missing[0]} does not exist; check the path (it is relative to the "
            f"working directory), or give your own problems: {_example(command)}"
        )


def _example(command: str) -> str:
    searches = command in ("predict", "tune")
    keys = f"{_searched(command)}=FILE" if searches else "train=FILE valid=FILE"
    return f"{keys}, each a JSON, JSON Lines, CSV or Parquet file or a list [FILE,FILE]"


def _searched(command: str) -> str:
    """The key of the problems that are searched over."""
    return "valid" if command == "tune" else "test"


def _make_lists(cfg: DictConfig) -> None:
    """One path stands for a list of one, so that it makes no other run."""
    for key in (*FILE_KEYS, "train_files"):
        value = cfg.get(key)
        if isinstance(value, str):
            with open_dict(cfg):
                cfg[key] = [value]
        elif value is not None and not OmegaConf.is_list(value):
            raise ConfigError(
                f"{key}={shorten(value)} must be a problem file, or a list of them: "
                f"{key}=[FILE,FILE]"
            )


def _options(tree: dict[str, Any], part: str) -> dict[str, Any]:
    """The options of a part, which may be missing."""
    return _inner(tree.get(part))


def _inner(node: Any) -> dict[str, Any]:
    """The `init_args` of a class; empty where it has none."""
    options = node.get("init_args") if isinstance(node, dict) else None
    return options if isinstance(options, dict) else {}


def _place_files(
    command: str,
    tree: dict[str, Any],
    files: dict[str, list[str]],
    has_folder: bool,
    limits: Set[str] = frozenset(),
) -> None:
    """Puts files in the place of the data's problems.

    How many are read is that of the old ones only where it is given beside the files (`limits`, the
    names of such options).
    """
    options = _options(tree, "data")
    kind = str((tree.get("data") or {}).get("class_path")).rpartition(".")[2]
    if "problems" in options:
        places = {_searched(command): "problems"}
    else:
        places = {"train": "train", "valid": "val", "test": "test"}
        if kind == "MiningData":
            del places["test"]
    used = {key: paths for key, paths in files.items() if key in places}
    if not used:
        given, wanted = (" ".join(f"{key}=" for key in keys) for keys in (files, places))
        raise ConfigError(
            f"'ltts {command}' reads no problems of {given} here; give {wanted} (the data is "
            f"{kind})"
        )
    for key, paths in used.items():
        place = places[key]
        limit = _inner(options.get(place)).get("limit")
        options[place] = new = _with_paths(options.get(place), paths)
        if limit is not None:
            is_given = f"data.init_args.{place}.init_args.limit" in limits
            new["init_args"] |= {"limit": limit if is_given else None}
    measured = [*files.get("valid", ()), *files.get("test", ())]
    copies = _inner(options.get("train"))
    if "exclude" in copies and measured:  # copies with other numbers must not become any of them
        named = {"class_path": PROBLEM_FILES, "init_args": {"paths": measured}}
        own = "train" in used and not has_folder
        copies["exclude"] = [named] if own else [*copies["exclude"], named]
    if "train" in used and not has_folder:  # no others go with problems of one's own
        if "valid" not in used:
            raise ConfigError(
                f"train={shorten(used['train'])} needs valid=FILE beside it: problems to validate "
                "on, none of which is among those to train on"
            )
        if "test" in places and "test" not in used:
            options["test"] = None


def _with_paths(source: Any, paths: list[str]) -> Any:
    """A source of problems that reads files.

    One that reads them already, `PerturbedProblems` of a file for instance, stays.
    """
    if paths in [node["paths"] for node in _file_options(source)]:
        return source
    is_files = isinstance(source, dict) and source.get("class_path") == PROBLEM_FILES
    names = (*_KEPT, "columns") if is_files else _KEPT  # columns are those of the old source
    kept = {name: value for name, value in _inner(source).items() if name in names}
    return {"class_path": PROBLEM_FILES, "init_args": {"paths": paths, **kept}}


def _file_options(source: Any) -> Iterator[dict[str, Any]]:
    """The options of every `ProblemFiles` in a source of problems."""
    if not isinstance(source, dict):
        return
    if str(source.get("class_path")).endswith("ProblemFiles"):
        if isinstance(_inner(source).get("paths"), list):
            yield _inner(source)
        return
    for inner in source.values():
        for node in inner if isinstance(inner, list) else [inner]:
            yield from _file_options(node)


def _paths(source: Any) -> Iterator[str]:
    for options in _file_options(source):
        yield from (path for path in options["paths"] if isinstance(path, str))


def _place_pretrained(tree: dict[str, Any]) -> None:
    """Has a reasoner's training start from a model, in place of what it started from."""
    options, path = _options(tree, "model"), tree["pretrained"]
    start = options.get("start")
    if not isinstance(start, dict) or not isinstance(path, str):
        kind = str((tree.get("model") or {}).get("class_path")).rpartition(".")[2]
        raise ConfigError(
            f"pretrained={shorten(path)} is the folder or Hub name of a model that a reasoner's "
            f"training starts from, which {kind} has no place for; give it to 'ltts fit' of a "
            "reasoner (a LatentRM and a search start from reasoner=CHECKPOINT)"
        )
    kept = {name: start[name] for name in ("lora",) if name in start}
    options["start"] = {"pretrained": path, **kept}
