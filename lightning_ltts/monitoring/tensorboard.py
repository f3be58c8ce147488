"""What goes to TensorBoard outside Lightning's loops: mined stores, their thoughts, and predictions."""

from collections.abc import Sequence

from lightning.pytorch.loggers import Logger, TensorBoardLogger
from torch.utils.tensorboard import SummaryWriter


def writers(loggers: Sequence[Logger]) -> list[SummaryWriter]:
    """TensorBoard's writers among the loggers of a Trainer; for process 0."""
    return [logger.experiment for logger in loggers if isinstance(logger, TensorBoardLogger)]
