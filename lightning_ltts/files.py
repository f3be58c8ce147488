"""Writing files at once or not at all, checksums, not mixing results of different settings."""

import hashlib
import inspect
import json
import os
import re
import secrets
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lightning_ltts.errors import CheckpointError, ConfigError, OtherSettingsError, StoreError

# a name beside the target that nothing else would have: `.NAME.PROCESS-RANDOM.tmp`
_TEMPORARY = re.compile(r"\..+\.\d+-[0-9a-f]{8}\.tmp")


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its place at the end of the block, or goes away.

    The file is on the disk before it is renamed, and so is its new name afterwards: whatever
    happens, `path` is the whole previous file or the whole new one. Temporary files of the same
    target that a killed process left are removed, so that only one process may write a target.
    """
    remove_leftovers(path.parent, path.name)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    _sync(path.parent)


def remove_leftovers(folder: Path, name: str | None = None) -> None:
    """Removes temporary files of killed processes, of one target or of all in the folder."""
    for path in folder.glob(".*.tmp"):
        if _TEMPORARY.fullmatch(path.name) and (name is None or path.name.startswith(f".{name}.")):
            path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk."""
    if path.is_dir() and os.name == "nt":  # Windows cannot open folders
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Writes a text file at once or not at all."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes a JSON file that people read, at once or not at all."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def public_name(path: str) -> str:
    """What tells nothing of this machine: the last part of a local path; other names as they are.

    >>> public_name("/home/me/models/mine"), public_name("openai-community/gpt2")
    ('mine', 'openai-community/gpt2')
    """
    local = path[:1] in ("/", ".", "~", "\\") or path[1:2] == ":" or Path(path).exists()
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1] if local else path


def read_json(path: Path, advice: str, keys: tuple[str, ...] = ()) -> dict[str, Any]:
    """The object in a JSON file that this package wrote.

    Args:
        path: an existing file.
        advice: what to do where it is damaged.
        keys: entries that it must have.

    Raises:
        StoreError: it is not JSON, not an object, or lacks one of the keys.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # also bytes that are not UTF-8
        reason = getattr(error, "msg", type(error).__name__)
        raise StoreError(f"{path} is damaged ({reason}); {advice}") from None
    if not isinstance(content, dict):
        raise StoreError(f"{path} is damaged (it holds no object); {advice}")
    for key in keys:
        if key not in content:
            raise StoreError(f"{path} is damaged (it lacks '{key}'); {advice}")
    return content


def read_at(path: Path, offset: int, size: int) -> bytes:
    """So many bytes of a file from a place on. It is opened each time, so that nothing stays open."""
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        return file.read(size)


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


def check_checkpoint(path: Path) -> None:
    """Compares what a PyTorch file holds with the CRC-32 of every entry; 0.1 seconds for 100 MB.

    PyTorch writes these checksums but does not compare them when it reads. Files of older formats
    have none.

    Raises:
        CheckpointError: they differ, or the file's directory is damaged.
    """
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":
            return
    try:
        with zipfile.ZipFile(path) as archive:
            # PyTorch reads nothing for an entry that is marked as a folder: its tensor stays unset
            hidden = (
                entry
                for entry in archive.infolist()
                if entry.external_attr & 0x10 and entry.file_size
            )
            damaged = next((entry.filename for entry in hidden), None) or archive.testzip()
    except (
        zipfile.BadZipFile,
        OSError,
        EOFError,
        NotImplementedError,
        RuntimeError,
        ValueError,
    ) as error:
        raise CheckpointError(
            f"checkpoint {path} cannot be read, it may be cut off or damaged ({error}); use another"
        ) from None
    if damaged is not None:
        raise CheckpointError(
            f"checkpoint {path} is damaged: '{damaged}' does not match its checksum; use another, "
            "or train again"
        )


def check_same_settings(
    folder: Path,
    theirs: dict[str, Any],
    ours: dict[str, Any],
    older: dict[str, Any] | None = None,
    advice: str = "give another folder, or delete this one to make it anew",
) -> None:
    """Refuses to mix results made with different settings.

    Args:
        folder: where the results are.
        theirs: the settings that they were made with.
        ours: the settings of this run.
        older: by name of a setting, the form in which an earlier version wrote the same value.
        advice: what to do about a difference.

    Raises:
        OtherSettingsError: naming the first setting that differs.
    """
    older = older or {}
    for name in sorted(theirs.keys() | ours.keys()):
        if name in older and theirs.get(name) == older[name]:
            continue
        if theirs.get(name) != ours.get(name):
            raise OtherSettingsError(
                f"{folder} was made with {name}={theirs.get(name)!r}, but this run has "
                f"{ours.get(name)!r}; {advice}"
            )
