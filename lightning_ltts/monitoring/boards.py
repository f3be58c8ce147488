"""What goes to loggers outside Lightning's loops: mined stores, their thoughts, and predictions.

Scalars and hyper-parameters go to every logger, by Lightning's own interface. Figures, histograms
and vectors go to those that can show them.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from torch import Tensor
from torch.utils.tensorboard.summary import hparams

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Board:
    """A logger that takes scalars, as every one does.

    Args:
        logger: any of Lightning's.
    """

    def __init__(self, logger: Any):
        self.logger = logger

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Logs numbers by their tags."""
        self.logger.log_metrics({tag: float(value) for tag, value in values.items()}, step)

    def table(self, tag: str, values: Mapping[str, float]) -> None:
        """Shows numbers that make no curve: as a table under a tag, or each by its own tag."""
        self.scalars(values, 0)

    def figure(self, tag: str, figure: "Figure") -> None:
        """Shows a figure of matplotlib, where the logger can."""

    def histogram(self, tag: str, values: Tensor) -> None:
        """Shows how values are distributed, where the logger can."""

    def embedding(
        self, tag: str, vectors: Tensor, rows: list[list[str]], columns: list[str]
    ) -> None:
        """Shows vectors (R, d) with what is known of each, where the logger can."""

    def hyper_parameters(
        self, values: Mapping[str, Any], metrics: Mapping[str, float], step: int
    ) -> None:
        """Logs settings with what came of them."""
        self.logger.log_hyperparams(dict(values))
        self.scalars(metrics, step)

    def flush(self) -> None:
        """Writes what is still held."""
        self.logger.save()


class TensorBoard(Board):
    """TensorBoard, which shows everything."""

    def table(self, tag: str, values: Mapping[str, float]) -> None:  # noqa: D102
        # as a scalar, each would be a chart of one dot
        rows = [f"| {name} | {float(value):.6g} |" for name, value in values.items()]
        self.logger.experiment.add_text(tag, "\n".join(["| | |", "|---|---|", *rows]), 0)

    def figure(self, tag: str, figure: "Figure") -> None:  # noqa: D102
        self.logger.experiment.add_figure(tag, figure)

    def histogram(self, tag: str, values: Tensor) -> None:  # noqa: D102
        self.logger.experiment.add_histogram(tag, values, 0)

    def embedding(  # noqa: D102
        self, tag: str, vectors: Tensor, rows: list[list[str]], columns: list[str]
    ) -> None:
        self.logger.experiment.add_embedding(vectors, rows, tag=tag, metadata_header=columns)

    def hyper_parameters(  # noqa: D102
        self, values: Mapping[str, Any], metrics: Mapping[str, float], step: int
    ) -> None:
        self.logger.log_hyperparams(values, {})
        # Lightning would log each metric once more, as a chart of one dot
        for summary in hparams(dict(values), dict(metrics)):
            self.logger.experiment.file_writer.add_summary(summary)

    def flush(self) -> None:  # noqa: D102
        self.logger.experiment.flush()


class WeightsAndBiases(Board):
    """Weights & Biases, which shows figures, histograms and vectors as a table."""

    def figure(self, tag: str, figure: "Figure") -> None:  # noqa: D102
        self.logger.log_image(tag, [figure])

    def histogram(self, tag: str, values: Tensor) -> None:  # noqa: D102
        import wandb

        self.logger.experiment.log({tag: wandb.Histogram(values.tolist())})

    def embedding(  # noqa: D102
        self, tag: str, vectors: Tensor, rows: list[list[str]], columns: list[str]
    ) -> None:
        names = [*columns, *(f"d{i}" for i in range(vectors.shape[1]))]
        data = [[*row, *vector] for row, vector in zip(rows, vectors.tolist(), strict=True)]
        self.logger.log_table(tag, columns=names, data=data)


class MLFlow(Board):
    """MLflow, which keeps figures as artifacts."""

    def figure(self, tag: str, figure: "Figure") -> None:  # noqa: D102
        self.logger.experiment.log_figure(self.logger.run_id, figure, f"{tag}.png")


_KINDS: tuple[tuple[type[Logger], type[Board]], ...] = (
    (TensorBoardLogger, TensorBoard),
    (WandbLogger, WeightsAndBiases),
    (MLFlowLogger, MLFlow),
)


def boards(loggers: Sequence[Logger]) -> list[Board]:
    """The loggers of a Trainer, each as a board; for process 0."""
    return [
        next((board for kind, board in _KINDS if isinstance(logger, kind)), Board)(logger)
        for logger in loggers
    ]


@contextmanager
def runs_of_their_own() -> Iterator[None]:
    """Ends a run of Weights & Biases with the block, so that the next of a sweep is another."""
    try:
        yield
    finally:
        import sys

        if (wandb := sys.modules.get("wandb")) is not None and wandb.run is not None:
            wandb.finish()
