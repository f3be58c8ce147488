"""What a command finds in its folder: another process, a finished run, or other settings."""

import os
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint, Timer
from lightning.pytorch.utilities import rank_zero_info

from lightning_ltts.cli.commands import OVERWRITE
from lightning_ltts.cli.run_settings import fit_settings
from lightning_ltts.run_folder import FitFolder, FolderLock, is_first_process
from lightning_ltts.stopping import Stopping

GO_ON_FROM = "LTTS_GO_ON_FROM"  # environment variable, for the other processes of a distributed run
WRITING = ("fit", "mine", "predict")  # the commands that fill a folder


class FinishedError(Exception):
    """There is nothing to do: the folder holds the finished run.

    Args:
        metrics: what it ended with.
    """

    def __init__(self, metrics: Mapping[str, Any]):
        super().__init__()
        self.metrics = metrics


class RunGuard:
    """Keeps a command from mixing its results with another run's, and lets it go on by itself.

    Use it as a context manager around the command: the folder is locked meanwhile.
    """

    def __init__(self) -> None:
        self.accepted = False  # the folder takes this run: it may write there
        self._resources = ExitStack()
        self._fit: FitFolder | None = None
        self._resumes = False
        self.metrics: dict[str, float] = {}  # those of the checkpoint that a training goes on from

    def __enter__(self) -> "RunGuard":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._resources.close()

    def check(self, command: str, config: dict[str, Any]) -> str | None:
        """Looks into the run's folder before anything is made.

        Args:
            command: one of LightningCLI's.
            config: its whole configuration.

        Returns:
            The checkpoint to go on from; None where the configuration's own counts.

        Raises:
            FinishedError: the same run was done before.
            StoreError: the folder is in use, or holds a run of other settings.
        """
        trainer = config.get("trainer") or {}
        checkpoints = _checkpoint_folder(trainer) if command == "fit" else None
        writes = checkpoints is not None if command == "fit" else command in WRITING
        if not writes or trainer.get("fast_dev_run"):
            return None  # nothing is written that could be mixed
        if GO_ON_FROM in os.environ:  # the first process of a distributed run has looked
            self._resumes = bool(os.environ[GO_ON_FROM])
            return os.environ[GO_ON_FROM] or None
        if Stopping.current is not None:
            Stopping.current.sentence = partial(self._sentence, command, Stopping.current.command)
        if checkpoints is None:
            if trainer.get("default_root_dir"):
                self._lock(Path(trainer["default_root_dir"]))
            return None
        folder = checkpoints.parent if checkpoints.name == "checkpoints" else checkpoints
        self._lock(folder)
        overwrite, given = OVERWRITE in os.environ, config.get("ckpt_path")
        return self._look(FitFolder(folder, checkpoints, fit_settings(config), overwrite, given))

    def _lock(self, folder: Path) -> None:
        self._resources.enter_context(FolderLock(folder, is_first_process()))

    def _look(self, folder: FitFolder) -> str | None:
        outcome = folder.look()
        if outcome.finished is not None:
            if is_first_process():
                print(_finished_line(folder.folder, outcome.finished))
            raise FinishedError(outcome.finished.get("metrics", {}))
        self._fit = folder
        self._resumes = outcome.go_on_from is not None
        found = str(outcome.go_on_from) if outcome.go_on_from is not None else None
        os.environ[GO_ON_FROM] = found or ""
        self._resources.callback(os.environ.pop, GO_ON_FROM, None)
        if found is not None:
            rank_zero_info(f"goes on from {found}; --overwrite would start anew")
        return found

    def callbacks(self) -> list[Callback]:
        """What notes that the run has begun."""
        return [_Beginning(self)]

    @property
    def waits_for_training(self) -> bool:
        """Whether the run has begun only when its training has."""
        return self._fit is not None

    def begin(self, trainer: pl.Trainer) -> None:
        """The training starts: writes the manifest, and removes what is to be overwritten."""
        if self._fit is not None and trainer.is_global_zero:
            self._fit.begin()
        self.accepted = True
        if self._resumes:
            _stop_where_it_had_stopped(trainer)

    def finish(self, trainer: pl.Trainer) -> None:
        """The training has ended by itself; one that ran out of its `max_time` has not."""
        callbacks: Any = trainer.callbacks  # type: ignore[attr-defined]
        timers = [callback for callback in callbacks if isinstance(callback, Timer)]
        left = [timer.time_remaining() for timer in timers]
        out_of_time = any(seconds is not None and seconds <= 0 for seconds in left)
        if self._fit is None or not trainer.is_global_zero or out_of_time:
            return
        # a training that was killed after its last epoch has no metrics of this process
        metrics = self.metrics | numbers(trainer.callback_metrics)
        best = next(
            (
                c
                for c in trainer.checkpoint_callbacks
                if isinstance(c, ModelCheckpoint) and c.best_model_path
            ),
            None,
        )
        score = (
            None
            if best is None or best.best_model_score is None
            else {best.monitor: float(best.best_model_score)}
        )
        self._fit.finish({
            "epochs": trainer.current_epoch,
            "steps": trainer.global_step,
            "best": None if best is None else Path(best.best_model_path).name,
            "score": score,
            "metrics": metrics,
        })  # fmt: skip

    def _sentence(self, command: str, given: str) -> str:
        """What is there when the command is stopped, and how it goes on."""
        again = given.replace(" --overwrite", "")
        if command == "mine":
            return f"the shards mined so far are kept, and this goes on: {again}"
        if command == "predict":
            return f"the problems predicted so far are kept, and this goes on: {again}"
        if self._fit is None or (self._fit.overwrite and not self.accepted):
            return f"nothing was changed; to start again: {given}"
        if self._fit.last.exists():
            return f"the last whole epoch is kept in {self._fit.last}, and this goes on: {again}"
        return f"no epoch had ended yet; to start again: {again}"


def numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Metrics as plain numbers."""
    return {name: float(value) for name, value in metrics.items()}


class _Beginning(Callback):
    """Tells the guard when the run has begun, and keeps its metrics in checkpoints."""

    def __init__(self, guard: RunGuard):
        self.guard = guard
        self._trainer: pl.Trainer | None = None

    def state_dict(self) -> dict[str, Any]:
        """The metrics so far; one that is not logged anew after a kill outlives a second kill."""
        own = {} if self._trainer is None else numbers(self._trainer.callback_metrics)
        return {"metrics": self.guard.metrics | own}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up the metrics of a run that goes on."""
        self.guard.metrics = dict(state_dict["metrics"])

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """The stores and prediction files take this run; a training may still be refused."""
        self.guard.accepted = self.guard.accepted or not self.guard.waits_for_training

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Nothing is left that could refuse the training."""
        self._trainer = trainer
        self.guard.begin(trainer)


def _checkpoint_folder(trainer: dict[str, Any]) -> Path | None:
    """Where ModelCheckpoint writes; None where Lightning finds a new folder for every run."""
    callbacks = trainer.get("callbacks") or []
    for callback in callbacks if isinstance(callbacks, list) else [callbacks]:
        options = callback.get("init_args") or {}
        if str(callback.get("class_path")).endswith("ModelCheckpoint") and options.get("dirpath"):
            return Path(options["dirpath"])
    return None


def _stop_where_it_had_stopped(trainer: pl.Trainer) -> None:
    """Ends a training at once whose last epoch ended by early stopping and was followed by a kill.

    Lightning stores that the patience was used up but not that it stopped, and would train on.
    """
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, EarlyStopping) and callback.stopped_epoch > 0:
            progress: Any = trainer.fit_loop.epoch_progress.current
            if callback.stopped_epoch + 1 == progress.processed:
                trainer.should_stop = True
                progress.completed = progress.processed


def _finished_line(folder: Path, result: dict[str, Any]) -> str:
    score = "".join(f", {name} {value:.4g}" for name, value in (result.get("score") or {}).items())
    return (
        f"{folder} holds the finished run of these settings ({result['epochs']} epochs, "
        f"{result['steps']} steps, {result['best']}{score}); nothing was done, and --overwrite "
        "would train it anew"
    )
