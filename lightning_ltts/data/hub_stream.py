"""Data sets of the Hub that are streamed once into a file, and read from there."""

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock

from lightning_ltts.data.problems import Problem, say_once
from lightning_ltts.data.stored_problems import StoredProblems
from lightning_ltts.errors import DataError, reason_of
from lightning_ltts.files import atomic

_FORMAT = 1  # of the lines; another one where a row would become another problem
_COMMIT = re.compile(r"[0-9a-f]{40}")


def streamed(
    settings: dict[str, Any], problems: Callable[[str | None], Iterable[Problem]]
) -> StoredProblems:
    """Problems that are written to a file of the cache, unless they are there.

    The file is named after all that determines them: the source's options, and the data set's
    version. It lies in the folder of `datasets`, which HF_HOME or HF_DATASETS_CACHE moves. Of
    several processes one writes, and the others wait for it.

    Args:
        settings: the options of the source, with its `path` and `revision`.
        problems: from the revision to be read to its problems, made as they are taken.

    Raises:
        DataError: the data set cannot be had.
    """
    import datasets  # takes a second to import

    folder = Path(datasets.config.HF_DATASETS_CACHE) / "lightning_ltts"
    folder.mkdir(parents=True, exist_ok=True)
    request = _digest([_FORMAT, settings])
    version = _version(settings, folder, request)
    path = folder / f"{request}-{version}.jsonl"
    # that of the name, whatever is pushed meanwhile
    revision = version if _COMMIT.fullmatch(version) else settings["revision"]
    with FileLock(folder / f"{request}.lock"):
        if not path.exists():
            with atomic(path) as temporary, temporary.open("w", encoding="utf-8") as file:
                for problem in problems(revision):
                    file.write(json.dumps(asdict(problem)) + "\n")
    return StoredProblems([path], _problem)


def _problem(where: str, row: Any) -> Problem:
    """The problem of a line, which names the place that its row came from."""
    return Problem(**row | {"steps": tuple(row["steps"])})


def _version(settings: dict[str, Any], folder: Path, request: str) -> str:
    """The commit of a data set of the Hub, or what tells the files of a folder from others.

    Without a network it is the latest that was streamed before.
    """
    name, revision = settings["path"], settings["revision"]
    if Path(name).is_dir():
        found = sorted(path for path in Path(name).resolve().rglob("*") if path.is_file())
        states = [(str(path), path.stat()) for path in found]
        return _digest([(path, state.st_size, state.st_mtime_ns) for path, state in states])
    if revision is not None and _COMMIT.fullmatch(revision):
        return str(revision)
    from huggingface_hub import HfApi

    try:
        return str(HfApi().dataset_info(name, revision=revision).sha)
    except Exception as error:  # no network, no such name, no access: it cannot be had
        before = sorted(folder.glob(f"{request}-*.jsonl"), key=lambda path: path.stat().st_mtime)
        reason = reason_of(error)
        if not before:
            raise DataError(f"the data set {name} cannot be loaded: {reason}") from None
        say_once(f"the Hub cannot be asked for {name}: what was streamed before is used ({reason})")
        return before[-1].stem.removeprefix(f"{request}-")


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
