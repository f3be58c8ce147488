import errno
import os
import signal
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.plugins import TorchCheckpointIO

from lightning_ltts.checkpoint_io import WholeCheckpoints
from lightning_ltts.errors import CheckpointError
from lightning_ltts.trainer import Trainer

STATE = {"state_dict": {"w": torch.arange(100_000.0)}, "epoch": 2}


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "deep/er/last.ckpt"
    WholeCheckpoints().save_checkpoint(STATE, path)
    read = WholeCheckpoints().load_checkpoint(path)
    assert torch.equal(read["state_dict"]["w"], STATE["state_dict"]["w"])
    assert [x.name for x in path.parent.iterdir()] == ["last.ckpt"]


class FullDisk:
    """`Path.open` on a disk that has room for some bytes only."""

    def __init__(self, room: int):
        self.room = room

    def open(self, path: Path, mode: str):
        file, disk = open(path, mode), self  # noqa: SIM115  # closed by what is returned

        class File:
            def __enter__(self):
                return self

            def __exit__(self, *_):
                file.close()

            def write(self, content):
                disk.room -= len(content)
                if disk.room < 0:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                return file.write(content)

            def flush(self):
                file.flush()

        return File()


@pytest.mark.parametrize("room", [0, 1000, 300_000])
def test_a_full_disk_keeps_the_previous_checkpoint(tmp_path: Path, monkeypatch, room: int) -> None:
    path = tmp_path / "last.ckpt"
    WholeCheckpoints().save_checkpoint(STATE, path)
    before = path.read_bytes()
    with monkeypatch.context() as patched:
        disk = FullDisk(room)
        patched.setattr(Path, "open", lambda path, mode: disk.open(path, mode))
        with pytest.raises(
            CheckpointError,
            match=r"last\.ckpt cannot be written \(No space left.*previous one is kept",
        ):
            WholeCheckpoints().save_checkpoint({**STATE, "epoch": 3}, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_device_that_is_really_full(tmp_path: Path, monkeypatch) -> None:
    """PyTorch's own writer meets the error, in its buffers and when it is closed."""
    real = Path.open
    monkeypatch.setattr(
        Path,
        "open",
        lambda path, *a: real(Path("/dev/full") if path.suffix == ".tmp" else path, *a),
    )
    with pytest.raises(CheckpointError, match="No space left on device"):
        WholeCheckpoints().save_checkpoint(STATE, tmp_path / "last.ckpt")


@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_a_kill_before_the_rename_keeps_the_previous_checkpoint(
    tmp_path: Path, monkeypatch, moment: str
) -> None:
    """What the killed process left goes with the next checkpoint."""
    path = tmp_path / "last.ckpt"
    WholeCheckpoints().save_checkpoint(STATE, path)
    before = path.read_bytes()
    child = os.fork()
    if child == 0:
        setattr(os, moment, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        WholeCheckpoints().save_checkpoint({**STATE, "epoch": 3}, path)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 2
    WholeCheckpoints().save_checkpoint({**STATE, "epoch": 4}, path)
    assert list(tmp_path.iterdir()) == [path]
    assert WholeCheckpoints().load_checkpoint(path)["epoch"] == 4


def test_a_changed_byte_is_found_when_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    WholeCheckpoints().save_checkpoint(STATE, path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    torch.load(path, weights_only=True)  # PyTorch alone trusts it
    with pytest.raises(
        CheckpointError,
        match=r"last\.ckpt is damaged: 'archive/data/0' does not match its checksum",
    ):
        WholeCheckpoints().load_checkpoint(path)


def test_the_trainer_uses_it_unless_another_is_given() -> None:
    assert isinstance(
        Trainer(accelerator="cpu", logger=False).strategy.checkpoint_io, WholeCheckpoints
    )
    assert isinstance(
        Trainer(accelerator="cpu", logger=False, strategy="ddp").strategy.checkpoint_io,
        WholeCheckpoints,
    )

    class Own(TorchCheckpointIO):
        pass

    assert isinstance(
        Trainer(accelerator="cpu", logger=False, plugins=[Own()]).strategy.checkpoint_io, Own
    )
    assert (
        type(pl.Trainer(accelerator="cpu", logger=False).strategy.checkpoint_io)
        is TorchCheckpointIO
    )
