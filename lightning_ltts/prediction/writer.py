"""Streams predictions to JSON Lines, resumes a killed run, and sums up at the end."""

import json
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_info

from lightning_ltts.analysis.predictions import MANIFEST, PREDICTIONS, TIMING, read_rows
from lightning_ltts.analysis.summary import Summary, summarize
from lightning_ltts.analysis.thought_store import write_thoughts
from lightning_ltts.data.problems import hash_problems
from lightning_ltts.errors import ConfigError
from lightning_ltts.files import check_same_settings, write_text
from lightning_ltts.monitoring.tensorboard import writers
from lightning_ltts.prediction.data import PredictionData
from lightning_ltts.prediction.module import LatentSearch
from lightning_ltts.prediction.tensorboard import log_predictions


class PredictionWriter(Callback):
    """Streams predictions to JSON Lines, resumes a killed run, and sums up at the end.

    Each process appends to a file of its own, one line per problem as it is finished. At the end these are merged, in the
    order of the problems, into `predictions.jsonl`, the same whatever the number of devices.

    Args:
        folder: where the files go; a run with other settings must have another folder.
        temperature: of the weighted vote in the summary; by default the one fitted when the LatentRM was trained.
        keep_thoughts: of how many problems, the first ones, the thoughts are stored, for the report (half a megabyte each for
            64 samples of 6 thoughts of size 768).
    """

    def __init__(self, folder: str, temperature: float | None = None, keep_thoughts: int = 0):
        self.keep_thoughts = keep_thoughts
        self.folder = Path(folder)
        self.temperature = temperature
        self.summary: Summary | None = None
        self._made, self._began = 0, time.perf_counter()  # questions finished by this process, and since when

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Finds out what is done, and tells the DataModule.

        Raises:
            StoreError: the folder holds predictions made with other settings.
        """
        if stage != "predict":
            return
        data = trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(pl_module, LatentSearch) or not isinstance(data, PredictionData):
            raise ConfigError("PredictionWriter needs the model LatentSearch and the data PredictionData")
        done: list[str] = []
        if trainer.is_global_zero:
            self.folder.mkdir(parents=True, exist_ok=True)
            settings = {
                **pl_module.settings(),
                "problems": hash_problems(data.problems or data.source.load()),
                "precision": str(trainer.precision),
            }
            manifest = self.folder / MANIFEST
            if manifest.exists() and any(path.stat().st_size for path in self._files()):
                check_same_settings(self.folder, json.loads(manifest.read_text()), settings)
            else:
                write_text(manifest, json.dumps(settings, indent=2) + "\n")
            for path in self._files():
                _drop_torn_line(path)
                done += [json.loads(line)["id"] for line in path.read_text(encoding="utf-8").splitlines()]
            if done:
                rank_zero_info(f"{len(set(done))} problems were predicted before and are kept")
        self._numbers = {p.id: n for n, p in enumerate((data.problems or data.source.load())[: self.keep_thoughts])}
        pl_module.keep_thoughts = set(self._numbers)
        data.done = set(trainer.strategy.broadcast(done))  # also keeps others from writing before this is read
        self._file = (self.folder / f"predictions.rank{trainer.global_rank}.jsonl").open("a", encoding="utf-8")

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts the clock."""
        self._made, self._began = 0, time.perf_counter()

    def on_predict_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int, _: int = 0
    ) -> None:
        """Writes and flushes finished problems."""
        assert isinstance(pl_module, LatentSearch)
        while pl_module.kept:  # before the rows, so that a kill never leaves a row without them
            thoughts = pl_module.kept.pop()
            write_thoughts(self.folder, self._numbers[thoughts.id], thoughts)
        self._made += len(outputs or [])
        for row in outputs or []:
            self._file.write(json.dumps(row) + "\n")
        self._file.flush()

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Merges the files, prints the table, and logs the curves."""
        self._file.close()
        trainer.strategy.barrier()
        if trainer.is_global_zero:
            self._merge([problem.id for problem in trainer.datamodule.problems])  # type: ignore[attr-defined]
            rows = read_rows(self.folder)
            self.summary = summarize(rows, self.temperature)
            write_text(self.folder / "summary.json", json.dumps(self.summary.as_dict(), indent=2) + "\n")
            print(f"\n{self.summary.table()}\n\npredictions: {self.folder / PREDICTIONS}")
            if self._made and isinstance(pl_module, LatentSearch):
                timing = {"questions": self._made, "device": str(pl_module.device), "devices": trainer.world_size}
                seconds = {part: value / self._made for part, value in pl_module.seconds.items()}
                write_text(self.folder / TIMING, json.dumps({**timing, "seconds_per_question": seconds}, indent=2) + "\n")
            speed = self._made / (time.perf_counter() - self._began) if self._made else None
            for board in writers(trainer.loggers):
                log_predictions(board, self.summary, rows, speed)
        trainer.strategy.barrier()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Closes the file also after an error."""
        if stage == "predict" and hasattr(self, "_file"):
            self._file.close()

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("predictions*.jsonl"))

    def _merge(self, order: list[str]) -> None:
        files = self._files()
        lines = {json.loads(line)["id"]: line for path in files for line in path.read_text("utf-8").splitlines()}
        write_text(self.folder / PREDICTIONS, "".join(lines[name] + "\n" for name in order if name in lines))
        for path in files:
            if path.name != PREDICTIONS:
                path.unlink()


def _drop_torn_line(path: Path) -> None:
    """Removes a last line that a killed run did not finish."""
    text = path.read_bytes()
    whole = text[: text.rfind(b"\n") + 1]
    if whole != text:
        path.write_bytes(whole)
