"""What the classes that a configuration names accept.

A class given on the command line does not inherit options that belong to the one before, and an
option that is refused is told with the class it was given to.
"""

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from jsonargparse import ArgumentParser
from lightning.pytorch.utilities import rank_zero_info


def swap_classes(
    tree: dict[str, Any], overrides: Sequence[str], experiment: dict[str, Any] | None = None
) -> None:
    """Drops the `init_args` that belong to a class which was replaced by another, in place.

    LightningCLI does the same. What the command line or the experiment gives itself stays, so that
    a wrong name is refused.

    Args:
        tree: the composed configuration.
        overrides: Hydra overrides of one job, such as `data.init_args.train.class_path=x.Y`.
        experiment: the experiment's own file, which may replace classes, too.
    """
    given = [*_leaves((), experiment or {}), *_given_keys(overrides)]
    for place in [key[:-1] for key in given if key[-1] == "class_path"]:
        node = _select(tree, place)
        accepted = _options(node.get("class_path")) if node else None
        if accepted is None:
            continue
        options = node.get("init_args") or {}
        own = [key[len(place) :] for key in given if key[: len(place)] == place]
        kept = accepted | {key[1] for key in own if key[0] == "init_args" and len(key) > 1}
        dropped = [name for name in options if name not in kept]
        for name in dropped:
            del options[name]
        if dropped:
            rank_zero_info(
                f"{'.'.join(place)}: left out {', '.join(dropped)} of the class replaced"
            )


def name_the_class(message: str) -> str:
    """A parser's message on an option that is not accepted, with the class and what it accepts.

    The class is looked for in the configuration files of the command line; a message on anything
    else, or on an option that stands in none of them, stays as it is.
    """
    found = re.fullmatch(r"Option '(\w+)' is not accepted", message.strip())
    for tree in _given_files() if found else ():
        for class_path, init_args in _classes(tree):
            accepted = _options(class_path) if found and found[1] in init_args else None
            if found and accepted is not None and found[1] not in accepted:
                options = ", ".join(sorted(accepted)) or "none"
                return f"option '{found[1]}' is not accepted by {class_path}; its options are {options}"
    return message


def _given_files() -> Iterator[Any]:
    """The configurations that the command line names."""
    for argument in sys.argv[1:]:
        path = Path(argument.split("=", 1)[-1])
        if path.suffix in (".yaml", ".yml") and path.is_file():
            yield yaml.safe_load(path.read_text(encoding="utf-8"))


def _classes(tree: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every class that a configuration names, with the options that it gives it."""
    if isinstance(tree, dict):
        if isinstance(tree.get("class_path"), str):
            options = tree.get("init_args")
            yield tree["class_path"], options if isinstance(options, dict) else {}
        for value in tree.values():
            yield from _classes(value)
    elif isinstance(tree, list):
        for item in tree:
            yield from _classes(item)


def _given_keys(overrides: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """The keys that overrides set, each as a path; dictionaries are followed."""
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        if not override.is_delete():
            yield from _leaves(tuple(override.key_or_group.split(".")), override.value())


def _leaves(path: tuple[str, ...], value: Any) -> Iterator[tuple[str, ...]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves((*path, str(key)), inner)
    else:
        yield path


def _select(tree: Any, path: tuple[str, ...]) -> dict[str, Any]:
    """The dictionary at a path, or an empty one."""
    for key in path:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree if isinstance(tree, dict) else {}


def _options(class_path: Any) -> set[str] | None:
    """The parameters of a class, or None where there is no such class, which LightningCLI says."""
    try:
        cls = resolve_name(class_path)
        return set(ArgumentParser().add_class_arguments(cls, fail_untyped=False))
    except (ImportError, AttributeError, ValueError, TypeError):
        return None
