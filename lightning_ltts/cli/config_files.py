"""The configuration files that a command line names, looked at before anything reads them.

A few lines of YAML can stand for more than any memory holds, and what libraries say about a file
that they cannot use does not name it.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from lightning_ltts.cli.choices import own_folders
from lightning_ltts.data.ranges import RAISE_IT, Bound
from lightning_ltts.errors import ConfigError, shorten

MAX_BYTES = Bound(10_000_000)
MAX_VALUES = Bound(100_000)  # aliases counted as what they stand for
MAX_DEPTH = Bound(100)


def check_config_files(arguments: Sequence[str]) -> None:
    """Refuses configuration files that cannot be used.

    Args:
        arguments: a command line, in Hydra's form or in LightningCLI's.

    Raises:
        ConfigError: naming the file, and the line where there is one.
    """
    for path in dict.fromkeys(_named(arguments)):
        tree = _read(path)
        if tree is not None or path in _whole(arguments):
            _check_tree(tree, path)


def _whole(arguments: Sequence[str]) -> list[Path]:
    """The files given as `--config`, which must hold something."""
    flags = ("-c", "--config")
    following = [Path(value) for flag, value in pairwise(arguments) if flag in flags]
    joined = [a.partition("=")[2] for a in arguments if a.startswith("--config=")]
    return [path for path in (*following, *map(Path, joined)) if path.is_file()]


def _named(arguments: Sequence[str]) -> Iterator[Path]:
    """All files that are named: by path, or as a choice below a folder of the user's."""
    yield from _whole(arguments)
    for argument in arguments:
        path = Path(argument.rpartition("=")[2])
        if path.suffix in (".yaml", ".yml") and path.is_file():
            yield path
    for folder in own_folders(arguments):
        for argument in arguments:
            group, _, choice = argument.lstrip("+").partition("=")
            path = folder / group / f"{choice}.yaml"
            if choice and path.is_file():
                yield path


def _read(path: Path) -> Any:
    """What a file holds, once it is known to be small enough."""
    if path.stat().st_size > MAX_BYTES.raised:
        raise ConfigError(
            f"{path} is larger than {MAX_BYTES.raised:,} bytes; give a configuration in YAML, "
            f"or {RAISE_IT}"
        )
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} is not UTF-8 text (byte {error.start}); save it in UTF-8"
        ) from None
    try:
        _check_size(text, path)
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f", line {mark.line + 1}"
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or error
        reason = " ".join(str(problem).split())
    except (ValueError, TypeError, RecursionError) as error:  # such as a number of 10,000 digits
        line, reason = "", (str(error) or type(error).__name__).partition(";")[0]
    raise ConfigError(f"{path}{line} is not YAML that can be used ({reason[:200]}); correct it")


class _Frame:
    """A container of YAML that is being read."""

    def __init__(self, anchor: str | None, mapping: bool):
        self.anchor = anchor
        self.mapping = mapping
        self.keys: set[str] = set()
        self.values = 1  # in it, and itself
        self.children = 0


def _check_size(text: str, path: Path) -> None:
    """Refuses what becomes too large or too deep, refers to itself, or has a key twice."""
    sizes: dict[str | None, int] = {}  # of what an anchor stands for
    frames = [_Frame(None, mapping=False)]
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        line = f"{path}, line {event.start_mark.line + 1 if event.start_mark else 1}"
        if isinstance(event, yaml.CollectionStartEvent):
            frames.append(_Frame(event.anchor, isinstance(event, yaml.MappingStartEvent)))
            if len(frames) > MAX_DEPTH.raised:
                raise ConfigError(
                    f"{line} is nested more than {MAX_DEPTH.raised} levels deep; flatten it, or {RAISE_IT}"
                )
            continue
        size, key = 1, None
        if isinstance(event, yaml.CollectionEndEvent):
            done = frames.pop()
            size = sizes[done.anchor] = done.values
        elif isinstance(event, yaml.ScalarEvent):
            key, sizes[event.anchor] = event.value, 1
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise ConfigError(
                    f"{line} refers to '{event.anchor}', which is not complete there; write it out"
                )
            size = sizes[event.anchor]
        else:
            continue  # beginning or end of the file
        frame = frames[-1]
        frame.values += size
        frame.children += 1
        if frame.values > MAX_VALUES.raised:
            raise ConfigError(
                f"{line} stands for more than {MAX_VALUES.raised:,} values; give fewer, or {RAISE_IT}"
            )
        if frame.mapping and frame.children % 2 == 1 and key is not None:
            if key in frame.keys:
                raise ConfigError(f"{line} has the key {shorten(key)} twice; remove one")
            frame.keys.add(key)


def _check_tree(tree: Any, path: Path) -> None:
    if not isinstance(tree, dict):
        held = "nothing" if tree is None else f"a {type(tree).__name__}"
        raise ConfigError(
            f"{path} holds {held}, but options by their names are needed, for instance "
            "'trainer: {max_epochs: 3}'"
        )
    for place, key, value in _entries(tree):
        if not isinstance(key, str):
            raise ConfigError(
                f"{path}: the option {shorten(key)}{place and f' of {place}'} must be a name"
            )
        kinds = {"class_path": (str, "the name of a class"), "init_args": (dict, "options by name")}
        kind, what = kinds.get(key, (object, ""))
        if value is not None and not isinstance(value, kind):
            name = f"{place}.{key}" if place else key
            raise ConfigError(f"{path}: {name}={shorten(value)} must be {what}")


def _entries(tree: Any, place: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Place, key and value of all entries of nested containers."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield place, key, value
            yield from _entries(value, f"{place}.{key}" if place else str(key))
    elif isinstance(tree, list):
        for number, value in enumerate(tree):
            yield from _entries(value, f"{place}.{number}")
