"""Writing files at once or not at all, checksums, and refusing to mix results of different settings."""

import hashlib
import inspect
import json
import os
from pathlib import Path
from typing import Any

from lightning_ltts.errors import ConfigError, StoreError


def write_text(path: Path, text: str) -> None:
    """Writes a text file at once or not at all."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes a JSON file that people read, at once or not at all."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def settings_of(thing: object) -> dict[str, Any]:
    """The class name of an object and every option of its constructor, as plain JSON values.

    The options are those of the constructor's signature, so that none can be forgotten. Each has
    to be kept as an attribute of the same name.

    Raises:
        ConfigError: an option is not kept, or is no plain value.
    """
    name = type(thing).__name__
    settings: dict[str, Any] = {"class": name}
    for option in inspect.signature(type(thing)).parameters:
        if not hasattr(thing, option):
            raise ConfigError(
                f"{name} has no attribute '{option}', the option of its constructor; keep it as "
                f"self.{option}, because results made with other options are told apart by it"
            )
        settings[option] = getattr(thing, option)
    try:
        plain: dict[str, Any] = json.loads(json.dumps(settings))
    except TypeError as error:
        raise ConfigError(
            f"an option of {name} is no plain value ({error}); keep numbers, texts and lists of them "
            "under the options' names"
        ) from None
    return plain


def check_same_settings(
    folder: Path,
    theirs: dict[str, Any],
    ours: dict[str, Any],
    older: dict[str, Any] | None = None,
) -> None:
    """Refuses to mix results made with different settings.

    Args:
        folder: the results.
        theirs: the settings that they were made with.
        ours: the settings of this run.
        older: by name of a setting, the form in which an earlier version wrote the same value.

    Raises:
        StoreError: naming the first setting that differs.
    """
    older = older or {}
    for name in sorted(theirs.keys() | ours.keys()):
        if name in older and theirs.get(name) == older[name]:
            continue
        if theirs.get(name) != ours.get(name):
            raise StoreError(
                f"{folder} was made with {name}={theirs.get(name)!r}, but this run has "
                f"{ours.get(name)!r}; give another folder, or delete this one to make it anew"
            )
