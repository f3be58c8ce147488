"""Progress bars that count questions."""

from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm

from lightning_ltts.monitoring.bars import Bar


def same_text(answer: str | None, row: Any) -> bool:
    """Whether an answer has the text of the right answer of a row."""
    return bool(answer == row["answer"])


class QuestionBar(TQDMProgressBar):
    """Lightning's bars with questions/s, remaining time and running accuracy, on stderr.

    In prediction, `greedy` and `majority` are the accuracies among the questions of this process so
    far, and `each` are the questions/s of each worker of an engine.

    Args:
        is_right: whether the stored text of an answer, if any, is right for a row; by default where
            it is the text of the right one.
    """

    def __init__(self, is_right: Callable[[str | None, Any], bool] = same_text):
        super().__init__()
        self._is_right = is_right
        self._seen, self._right = 0, {"greedy": 0, "majority": 0}
        self.each = ""  # the speeds of an engine's workers, which the loop knows

    def init_train_tqdm(self) -> Tqdm:
        """Counts questions, a batch at a time."""
        size = getattr(self.trainer.datamodule, "batch_size", 1) * self.trainer.world_size  # type: ignore[attr-defined]
        return self._bar(
            self.train_description, " questions", leave=True, unit_scale=size if size > 1 else False
        )

    def init_validation_tqdm(self) -> Tqdm:
        """Counts batches, below the bar of training where there is one."""
        inside = self.trainer.state.fn == "fit"
        return self._bar(
            self.validation_description, " batches", leave=not inside, position=int(inside)
        )

    def init_test_tqdm(self) -> Tqdm:
        """Counts batches."""
        return self._bar(self.test_description, " batches", leave=True)

    def init_predict_tqdm(self) -> Tqdm:
        """Counts questions."""
        return self._bar(self.predict_description, " questions", leave=True)

    def _bar(
        self,
        description: str,
        unit: str,
        leave: bool,
        position: int = 0,
        unit_scale: float | bool = False,
    ) -> Tqdm:
        return Bar(
            desc=description,
            position=position,
            disable=self.is_disabled,
            leave=leave,
            unit=unit,
            unit_scale=unit_scale,
            dynamic_ncols=True,
            smoothing=0,
            bar_format=self.BAR_FORMAT,
        )

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """Those logged with `prog_bar`, without the run's version and what is not a number."""
        items = super().get_metrics(trainer, pl_module).items()
        return {name: value for name, value in items if name != "v_num" and value == value}

    def on_exception(self, *_: Any) -> None:
        """Ends the line, so that the error begins one of its own."""
        bars = (
            self._train_progress_bar,
            self._val_progress_bar,
            self._test_progress_bar,
            self._predict_progress_bar,
        )
        for bar in (bar for bar in bars if bar is not None):
            bar.close()

    def on_predict_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Tells the bar how many questions there are; several start before the first is finished."""
        self.predict_progress_bar.total = trainer.num_predict_batches[0]

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Closes the bar, which there is none of where all questions had been predicted before."""
        if self._predict_progress_bar is not None:
            super().on_predict_end(trainer, pl_module)

    def on_predict_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        _: int = 0,
    ) -> None:
        """Counts finished questions and those that are right."""
        rows = (
            [row for row in outputs if "choices" in row] if isinstance(outputs, list) else []
        )  # others' have no answers
        for row in rows:
            given = {"greedy": row["greedy"]["answer"], "majority": None}
            if row["choices"]["majority"] >= 0:
                given["majority"] = row["samples"][row["choices"]["majority"]]["answer"]
            self._seen += 1
            for name, answer in given.items():
                self._right[name] += self._is_right(answer, row)
        if rows:
            shares = {name: f"{right / self._seen:.3f}" for name, right in self._right.items()}
            speeds = {"each": self.each} if self.each else {}
            self.predict_progress_bar.set_postfix(shares | speeds, refresh=False)
        self.predict_progress_bar.update()
