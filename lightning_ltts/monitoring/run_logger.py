"""TensorBoard's folders, one per run, with names that sort."""

from datetime import datetime
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger


class RunLogger(TensorBoardLogger):
    """Lightning's TensorBoardLogger, whose folders are `SAVE_DIR/NAME/DATE_TIME` and so sort by time.

    Lightning's own are numbered, and `version_10` comes before `version_2`.

    Args:
        save_dir: parent of all.
        name: a folder in it, for instance the command.
        version: the run's folder, instead of date and time.
        default_hp_metric: log a placeholder metric beside the hyper-parameters; final metrics come with `RunRecord`.
        kwargs: other options of TensorBoardLogger.
    """

    def __init__(
        self,
        save_dir: str,
        name: str = "tensorboard",
        version: int | str | None = None,
        default_hp_metric: bool = False,
        **kwargs: Any,
    ):
        version = datetime.now().strftime("%Y-%m-%d_%H-%M-%S") if version is None else version
        super().__init__(save_dir, name, version, default_hp_metric=default_hp_metric, **kwargs)
