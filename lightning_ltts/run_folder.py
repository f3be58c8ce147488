"""The folder of a run: one process at a time, and one run, known by what determines its result."""

import errno
import json
import os
import shlex
import shutil
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from lightning.fabric.utilities.rank_zero import _get_rank
from lightning.pytorch.utilities import rank_zero_warn

from lightning_ltts.errors import ConfigError, InUseError, StoreError
from lightning_ltts.files import (
    check_same_settings,
    read_json,
    remove_leftovers,
    sha256_of,
    write_json,
)

try:
    import fcntl
except ImportError:  # Windows: runs are not kept apart there
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
FIT_MANIFEST = "fit.manifest.json"
LAST = "last.ckpt"
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)

# folder -> file descriptor, how often this process took the lock
_held: dict[Path, tuple[int, int]] = {}


def is_first_process() -> bool:
    """Whether this process of a distributed run is the one that writes; needs no Trainer."""
    node = os.environ.get("NODE_RANK", os.environ.get("GROUP_RANK", "0"))
    return not _get_rank() and node in ("", "0")


class FolderLock:
    """Keeps other processes from writing a folder. A process that dies does not keep it.

    It is a POSIX record lock on the file `.lock`, which belongs to the process alone: workers that
    a killed run forked, and that may outlive it for a while, do not hold it. The parts of one run
    that write into the same folder can each take it. Where there are no such locks (Windows, some
    network file systems), runs are not kept apart.

    Args:
        folder: what is locked; it is made where it does not exist.
        active: False does nothing, for the processes of a distributed run that are not the first.
    """

    def __init__(self, folder: str | Path, active: bool = True):
        self.folder = Path(folder)
        self.active = active
        self._taken = False

    def acquire(self) -> None:
        """Takes the lock, once, and removes temporary files of killed processes.

        Raises:
            InUseError: another process holds it; the message says which.
            StoreError: the folder cannot be written.
        """
        if not self.active or self._taken:
            return
        key = self.folder.resolve()
        descriptor, times = _held.get(key, (None, 0))
        if descriptor is None:
            try:
                key.mkdir(parents=True, exist_ok=True)
                descriptor = _lock(key / LOCK, self.folder)
            except OSError as error:
                raise StoreError(
                    f"the folder {self.folder} cannot be written ({error.strerror}); give another"
                ) from error
            remove_leftovers(key)
        _held[key] = (descriptor, times + 1)
        self._taken = True

    def release(self) -> None:
        """Gives the lock back, where it is held."""
        if not self._taken:
            return
        self._taken = False
        key = self.folder.resolve()
        descriptor, times = _held.pop(key)
        if times > 1:
            _held[key] = (descriptor, times - 1)
            return
        with suppress(OSError):  # the folder may be gone
            (key / LOCK).unlink()
        os.close(descriptor)

    def __enter__(self) -> "FolderLock":
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def remove_stale_lock(folder: Path) -> None:
    """Removes the lock file of a killed process from a folder that is only read from now on."""
    if (folder / LOCK).exists():
        with suppress(StoreError), FolderLock(folder):  # in use, or not to be written: it stays
            pass


def _lock(path: Path, folder: Path) -> int:
    """The descriptor of the locked file; who holds it is written there for others."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if fcntl is not None:
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_ino == path.stat().st_ino:
                break
        except FileNotFoundError:
            pass  # the one before has removed the file since it was opened: lock the new one
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                os.close(descriptor)
                raise InUseError(
                    f"{folder} is in use{_holder(path)}; wait until that has ended, or give "
                    "another folder"
                ) from None
            if error.errno not in _NO_LOCKS:
                os.close(descriptor)
                raise
            rank_zero_warn(
                f"the file system of {folder} has no locks; start no second run in this folder"
            )
            break
        os.close(descriptor)
    about = {
        "process": os.getpid(),
        "host": socket.gethostname(),
        "command": shlex.join(sys.argv),
        "since": datetime.now().isoformat(" ", "seconds"),
    }
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(about).encode(), 0)
    return descriptor


def _holder(path: Path) -> str:
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        return f" by process {about['process']} on {about['host']} since {about['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return " by another process"


@dataclass
class Outcome:
    """What a repeated `fit` finds: a finished run, a checkpoint to go on from, or neither."""

    finished: dict[str, Any] | None = None
    go_on_from: Path | None = None


@dataclass
class FitFolder:
    """A folder with the checkpoints of one training, and the manifest of what determined them.

    Args:
        folder: where the manifest is.
        checkpoints: where the checkpoints are.
        settings: all that determines the training's result.
        overwrite: start anew, whatever is there.
        given: the checkpoint that the user names to go on from.
    """

    folder: Path
    checkpoints: Path
    settings: dict[str, Any]
    overwrite: bool = False
    given: str | None = None
    _continues: bool = field(init=False, default=False)

    @property
    def last(self) -> Path:
        """The checkpoint of the last whole epoch."""
        return self.checkpoints / LAST

    def look(self) -> Outcome:
        """Finds out what there is to do; changes nothing.

        Raises:
            OtherSettingsError: the folder holds a training with other settings; one is named.
            StoreError: it holds checkpoints without a manifest, or the manifest is damaged.
            ConfigError: the checkpoint to go on from would be overwritten.
        """
        self.settings = json.loads(json.dumps(self.settings, default=str))
        self._continues = self.given is not None and self._is_inside(self.given)
        if self._continues:
            if self.overwrite:
                raise ConfigError(
                    f"--overwrite would remove the checkpoint given as ckpt_path={self.given}; "
                    "leave one of them out"
                )
            before = self._read() if (self.folder / FIT_MANIFEST).exists() else {"settings": {}}
            # the training goes on, and what it once started from stays as it was
            self.settings["ckpt_path"] = before["settings"].get("ckpt_path")
            return Outcome()
        self.settings["ckpt_path"] = None if self.given is None else identity(self.given)
        if self.overwrite or not self._has_checkpoints():
            return Outcome()
        if not (self.folder / FIT_MANIFEST).exists():
            raise StoreError(
                f"{self.checkpoints} holds checkpoints of a training whose settings are not known; "
                f"go on from one with ckpt_path={self.last}, give another folder, or start anew "
                "with --overwrite"
            )
        manifest = self._read()
        check_same_settings(self.folder, manifest["settings"], self.settings, advice=self._advice)
        if manifest["finished"] is not None:
            return Outcome(finished=manifest["finished"])
        return Outcome(go_on_from=self.last if self.last.exists() else None)

    def begin(self) -> None:
        """Writes the manifest, and with `overwrite` removes what was there.

        For one process, before any checkpoint. The manifest goes first, so that a kill never leaves
        old checkpoints that pass for those of this training.
        """
        manifest = self.folder / FIT_MANIFEST
        if self.overwrite:
            manifest.unlink(missing_ok=True)
            for path in self.checkpoints.glob("*.ckpt"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        remove_leftovers(self.checkpoints)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(manifest, {"settings": self.settings, "finished": None})

    def finish(self, result: dict[str, Any]) -> None:
        """Notes that the training has ended by itself, and with what."""
        write_json(self.folder / FIT_MANIFEST, {"settings": self.settings, "finished": result})

    @property
    def _advice(self) -> str:
        return (
            f"give another folder, go on with the new settings from ckpt_path={self.last}, or "
            "start anew with --overwrite"
        )

    def _read(self) -> dict[str, Any]:
        advice = f"go on from ckpt_path={self.last} without it, or start anew with --overwrite"
        manifest = read_json(self.folder / FIT_MANIFEST, advice, ("settings", "finished"))
        if not isinstance(manifest["settings"], dict):
            raise StoreError(
                f"{self.folder / FIT_MANIFEST} is damaged ('settings' is no object); {advice}"
            )
        return manifest

    def _has_checkpoints(self) -> bool:
        return self.checkpoints.is_dir() and any(self.checkpoints.glob("*.ckpt"))

    def _is_inside(self, checkpoint: str) -> bool:
        """Whether a checkpoint is one of this folder's; Lightning's words (last, best, hpc) are."""
        path = Path(checkpoint)
        return not path.suffix or path.resolve().is_relative_to(self.checkpoints.resolve())


def _saved_files(value: str) -> list[Path]:
    """The files of a folder that `datasets` saved, FOLDER or FOLDER:PART; none of another path."""
    for folder in (Path(value), Path(value.rpartition(":")[0] or value)):
        if any((folder / name).is_file() for name in ("state.json", "dataset_dict.json")):
            return sorted(part for part in folder.rglob("*") if part.is_file())
    return []


def identity(value: str) -> str:
    """What a path stands for: a checksum of the file, or of a model's or data set's folder.

    Other text is itself.
    """
    path = Path(value)
    try:
        if saved := _saved_files(value):
            return "a data set with SHA-256 " + " ".join(sha256_of(part)[:16] for part in saved)
        if path.suffix and path.is_file():
            return f"a file with SHA-256 {sha256_of(path)[:16]}"
        if (path / "config.json").is_file():
            parts = sorted(part for part in path.iterdir() if part.is_file())
            return "a folder with SHA-256 " + " ".join(
                f"{part.name}:{sha256_of(part)[:8]}" for part in parts
            )
    except (OSError, ValueError):  # a name that no file can have
        pass
    return value
