"""The checkpoints of a run that `ckpt_path=best`, `last` and `hpc` mean."""

from pathlib import Path

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_info

from lightning_ltts.errors import CheckpointError
from lightning_ltts.models.weights import read_pickle

KEYWORDS = ("best", "last", "hpc")


def find_checkpoint(which: str, command: str, trainer: pl.Trainer) -> str | None:
    """The path of the newest checkpoint of a kind in the run's folders.

    Lightning itself knows the best only of a fit in the same process.

    Args:
        which: `best` (by the monitored metric), `last`, or `hpc` (written by Slurm's signal).
        command: the command that asks; `fit` may begin without a last checkpoint.
        trainer: its checkpoint callbacks say where checkpoints are.

    Returns:
        The path, or None where `fit` shall begin anew.

    Raises:
        CheckpointError: there is none, or it cannot be read.
    """
    callbacks = [c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint)]
    folders = dict.fromkeys(Path(c.dirpath) for c in callbacks if c.dirpath)
    if which == "best":
        named = [c for c in callbacks if c.monitor and c.dirpath and c.filename]
        found = [Path(str(c.dirpath)) / f"{c.filename}.ckpt" for c in named]
    elif which == "last":
        found = [path for folder in folders for path in folder.glob("*last*.ckpt")]
    else:
        folders = {Path(trainer.default_root_dir): None}
        found = [path for folder in folders for path in folder.glob("hpc_ckpt_*.ckpt")]
    found = [path for path in found if path.exists()]
    if found:
        newest = max(found, key=lambda path: path.stat().st_mtime)
        if newest.is_file():
            read_pickle(newest)
        return str(newest)
    where = ", ".join(map(str, folders)) or "the folders of this run, which names none"
    if which == "last" and command == "fit":
        rank_zero_info(f"no last checkpoint in {where}: training begins anew")
        return None
    raise CheckpointError(
        f"ckpt_path={which}: there is no such checkpoint in {where}; train first, or give the path "
        "of a checkpoint"
    )
