"""Checkpoints that are whole: written at once or not at all, and checked when they are read."""

from pathlib import Path
from typing import IO, Any

import torch
from lightning.fabric.utilities.cloud_io import _is_local_file_protocol
from lightning.pytorch.plugins import TorchCheckpointIO

from lightning_ltts.errors import CheckpointError
from lightning_ltts.files import atomic, check_checkpoint


class WholeCheckpoints(TorchCheckpointIO):
    """Lightning's files, written beside their target and renamed.

    Lightning writes into the temporary folder and moves. Where that is on another disk, moving is
    copying onto the previous checkpoint, and a kill or a full disk leaves neither.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """Writes a checkpoint; until it is whole, the previous one of the same name stays.

        Raises:
            CheckpointError: it cannot be written, for instance because the disk is full.
        """
        if storage_options is not None or not _is_local_file_protocol(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        path, file = Path(path), None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic(path) as temporary, temporary.open("wb") as opened:
                file = _Watched(opened)
                torch.save(checkpoint, file)  # type: ignore[arg-type]
        except (OSError, RuntimeError) as error:
            # torch's writer turns a failed write into an error of its own
            cause = (
                error if isinstance(error, OSError) else file.error if file is not None else None
            )
            if cause is None:
                raise
            kept = "; the previous one is kept" if path.exists() else ""
            raise CheckpointError(
                f"the checkpoint {path} cannot be written ({cause.strerror}){kept}; make room or "
                "give another folder, and give the same command again"
            ) from error

    def load_checkpoint(self, path: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Reads a checkpoint.

        Raises:
            CheckpointError: bytes in it have changed since it was written.
        """
        if _is_local_file_protocol(path) and Path(path).is_file():
            check_checkpoint(Path(path))
        return super().load_checkpoint(path, *args, **kwargs)


class _Watched:
    """A file that remembers what kept it from being written."""

    def __init__(self, file: IO[bytes]):
        self._file = file
        self.error: OSError | None = None

    def write(self, content: Any) -> int:
        try:
            return self._file.write(content)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        try:
            self._file.flush()
        except OSError as error:
            self.error = error
            raise
