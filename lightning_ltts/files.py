"""Writing files at once or not at all, checksums, and refusing to mix results of different settings."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from lightning_ltts.errors import StoreError


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


def check_same_settings(folder: Path, theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    """Refuses to mix results made with different settings.

    Raises:
        StoreError: naming the first setting that differs.
    """
    for name in sorted(theirs.keys() | ours.keys()):
        if theirs.get(name) != ours.get(name):
            raise StoreError(
                f"{folder} was made with {name}={theirs.get(name)!r}, but this run has {ours.get(name)!r}; "
                "give another folder, or delete this one to make it anew"
            )
