"""Streams predictions to JSON Lines, resumes a killed run, and sums up at the end."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_info

from lightning_ltts.analysis.prediction_files import PAGE, PREDICTIONS, TIMING
from lightning_ltts.analysis.predictions import open_rows
from lightning_ltts.analysis.stored_result import write_result
from lightning_ltts.analysis.summary import Summary, summarize
from lightning_ltts.analysis.thought_store import has_thoughts, write_thoughts
from lightning_ltts.cluster.replicas import Replica
from lightning_ltts.data.problems import hash_problems
from lightning_ltts.data.ranges import require_number, require_whole
from lightning_ltts.errors import ConfigError
from lightning_ltts.files import write_text
from lightning_ltts.monitoring.boards import boards
from lightning_ltts.prediction.boards import log_predictions
from lightning_ltts.prediction.data import PredictionData
from lightning_ltts.prediction.module import LatentSearch
from lightning_ltts.prediction.row_files import merge, open_folder, rank_file
from lightning_ltts.prediction.rows import Prediction, stored_thoughts
from lightning_ltts.run_folder import FolderLock
from lightning_ltts.voting.adaptive import BetaStopping


class PredictionWriter(Callback):
    """Streams predictions to JSON Lines, resumes a killed run, and sums up at the end.

    Each process appends to a file of its own, one line per problem as it is finished. At the end
    these are merged, in the order of the problems, into `predictions.jsonl`, the same whatever the
    number of devices.

    Args:
        folder: where the files go; a run with other settings must have another folder.
        temperature: temperature of the weighted vote in the summary; by default the one fitted when
            the LatentRM was trained.
        keep_thoughts: number of problems, the first ones, whose thoughts are stored for the report
            (half a megabyte each for 64 samples of 6 thoughts of size 768).
        page: whether to write `report.html` into the folder at the end, as `ltts report` does.

    Raises:
        ConfigError: a number is out of range.
    """

    def __init__(
        self,
        folder: str,
        temperature: float | None = None,
        keep_thoughts: int = 0,
        page: bool = False,
    ):
        require_whole("PredictionWriter", "keep_thoughts", keep_thoughts)
        if temperature is not None:
            require_number("PredictionWriter", "temperature", temperature, open_ends=True)
        self.keep_thoughts = keep_thoughts
        self.folder = Path(folder)
        self.temperature = temperature
        self.page = page
        self.summary: Summary | None = None
        # ids of problems whose thoughts are stored, and their place
        self.kept: dict[str, int] = {}
        self._file: TextIO | None = None
        self._lock = FolderLock(self.folder, active=False)
        self._settings: dict[str, Any] = {}
        # questions finished by this process, and since when
        self._finished, self._began = 0, time.perf_counter()

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Finds out what has been predicted before, and has the DataModule leave that out.

        Raises:
            ConfigError: model or data are of another kind than `ltts predict` has.
            DataError: a problem cannot be read.
            StoreError: the folder holds predictions made with other settings, or another process
                writes there.
        """
        if stage != "predict":
            return
        data = trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(pl_module, LatentSearch) or not isinstance(data, PredictionData):
            raise ConfigError(
                "PredictionWriter needs the model LatentSearch and the data PredictionData"
            )
        if pl_module.step_decoder is not None and not self.keep_thoughts:
            raise ConfigError(
                "the step decoder reads thoughts that are stored, and none are; set keep_thoughts of "
                "PredictionWriter above 0, or model.init_args.step_decoder=null"
            )
        pl_module.check_problems(data.problems)
        before = None
        self._lock = FolderLock(self.folder, trainer.is_global_zero)
        self._lock.acquire()
        if trainer.is_global_zero:
            self._settings = {
                **pl_module.settings(),
                "problems": hash_problems(data.problems),
                "precision": str(trainer.precision),
            }
            before = open_folder(self.folder, self._settings, pl_module.older_settings())
            if len(before):
                rank_zero_info(f"{len(before)} problems were predicted before and are kept")
        # this also keeps others from writing before process 0 has read
        data.leave_out(trainer.strategy.broadcast(before))
        thinks = pl_module.reasoner.spec.num_thoughts > 0
        first = data.problems[: self.keep_thoughts if thinks else 0]
        self.kept = {problem.id: place for place, problem in enumerate(first)}
        finished = [place for place, problem in enumerate(first) if data.is_finished(problem)]
        lacking = sum(not has_thoughts(self.folder, place) for place in finished)
        if lacking:
            rank_zero_info(
                f"{lacking} of the first {len(first)} problems were predicted before without keeping "
                "their thoughts, and have none in the report; for these, predict under another name"
            )
        replica = Replica.of(trainer)
        if replica.speaks:
            self._file = rank_file(self.folder, replica.number).open("a", encoding="utf-8")

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts the clock."""
        self._finished, self._began = 0, time.perf_counter()

    def on_predict_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        _: int = 0,
    ) -> None:
        """Writes and flushes finished problems."""
        assert isinstance(pl_module, LatentSearch)
        predictions: Sequence[Prediction] = outputs or []
        self._finished += len(predictions)
        if self._file is None:  # another process of the replica writes
            return
        for prediction in predictions:
            if prediction["id"] in self.kept and prediction.samples is not None:
                # before the row, so that a kill never leaves a row without them; under the
                # precision of the search, as all that the model computes
                with trainer.precision_plugin.predict_step_context():
                    decoder = pl_module.step_decoder
                    thoughts = stored_thoughts(pl_module.reasoner, prediction, decoder)
                write_thoughts(self.folder, self.kept[prediction["id"]], thoughts)
            self._file.write(json.dumps(prediction) + "\n")
            self._file.flush()

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Merges the files, prints the table, and logs the curves."""
        assert isinstance(pl_module, LatentSearch), "checked in setup"
        self._close()
        trainer.strategy.barrier()
        if trainer.is_global_zero:
            order = (problem.id for problem in trainer.datamodule.problems)  # type: ignore[attr-defined]
            merge(self.folder, self._settings, order, pl_module.older_settings())
            rows = open_rows(self.folder)
            self.summary = summarize(rows, self.temperature)
            write_result(self.folder, self.summary, by_default=self.temperature is None)
            print(f"\n{self.summary.table()}\n\n{self.summary.bought()}")
            print(f"predictions: {self.folder / PREDICTIONS}")
            if self.page:
                self._write_page()
            if self._finished:
                self._write_timing(pl_module, trainer.world_size)
            seconds = time.perf_counter() - self._began
            speed = self._finished / seconds if self._finished else None
            for board in boards(trainer.loggers):
                log_predictions(board, self.summary, rows, speed)
        trainer.strategy.barrier()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Closes the file also after an error."""
        self._close()

    def _write_timing(self, module: LatentSearch, devices: int) -> None:
        """Seconds per question of each part of the search, on this process's device."""
        timing = {
            "questions": self._finished,
            "device": str(module.device),
            "devices": devices,
            "seconds_per_question": {
                part: seconds / self._finished for part, seconds in module.seconds.items()
            },
        }
        write_text(self.folder / TIMING, json.dumps(timing, indent=2) + "\n")

    def _write_page(self) -> None:
        """The page of this run alone."""
        from lightning_ltts.report.page import write_html  # which reads plotly's scripts
        from lightning_ltts.report.runs import load_runs

        runs = load_runs(
            [str(self.folder)], self.temperature, "sum", "majority", BetaStopping(), None
        )
        write_html(runs, self.folder / PAGE)
        print(f"page: {self.folder / PAGE}")

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._lock.release()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Closes the file, and lets other runs into the folder.

        Lightning does not come to `teardown` after an error.
        """
        self._close()
