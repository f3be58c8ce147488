"""LightningCLI with `mine`, errors of one line, and what is given above what a checkpoint holds."""

import inspect
import json
from pathlib import Path
from typing import Any, NoReturn

from jsonargparse import ActionConfigFile
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from lightning_ltts.analysis.predictions import PREDICTIONS
from lightning_ltts.cli.messages import fail, tidy_parser
from lightning_ltts.cli.run_record import RunRecord
from lightning_ltts.models.weights import read_pickle
from lightning_ltts.monitoring.terminal import JSON_STREAM
from lightning_ltts.prediction.writer import PredictionWriter
from lightning_ltts.trainer import Trainer


class _Parser(LightningArgumentParser):
    """Says what is wrong in one line, without the usage text of several hundred options."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        fail(tidy_parser(message))


class LTTSCLI(LightningCLI):
    """LightningCLI with `mine` and one-line errors; what is given wins over a checkpoint's."""

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """A parser whose errors are one line."""
        parser = _Parser(**kwargs)
        parser.add_argument(
            "-c", "--config", action=ActionConfigFile, help="Path to a configuration file in YAML."
        )
        return parser

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Lightning's, and `mine`."""
        return {**LightningCLI.subcommands(), "mine": {"model", "datamodule"}}

    def before_instantiate_classes(self) -> None:
        """Fails early when the checkpoint path is wrong."""
        given = self.config[self.subcommand].get("ckpt_path") if self.subcommand else None
        if given and given not in ("best", "last", "hpc", "registry"):
            read_pickle(Path(given))

    def after_fit(self) -> None:
        """Says where the result is."""
        trainer = self.trainer
        best = next(
            (
                c
                for c in trainer.checkpoint_callbacks
                if isinstance(c, ModelCheckpoint) and c.best_model_path
            ),
            None,
        )
        if best is None or not trainer.is_global_zero:
            return
        score = (
            ""
            if best.best_model_score is None
            else f", {best.monitor} {float(best.best_model_score):.4g}"
        )
        done = f"after {trainer.current_epoch} epochs and {trainer.global_step} steps"
        print(f"{done}: {best.best_model_path}{score}")

    def after_predict(self) -> None:
        """With `--json`, prints the summary as `ltts report --json` does."""
        stream = JSON_STREAM.get()
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if (
                stream is not None
                and isinstance(callback, PredictionWriter)
                and callback.summary is not None
            ):
                line = {"file": str(callback.folder / PREDICTIONS), **callback.summary.as_dict()}
                print(json.dumps(line), file=stream, flush=True)

    def _parse_ckpt_path(self) -> None:
        """Leaves the configuration as given; Lightning would let the checkpoint's values win."""


def command_keys(*commands: str) -> set[str]:
    """The top-level keys of the configurations of commands, by default of all.

    They are those of every LightningCLI, and the arguments of the Trainer's method.
    """
    keys = {"seed_everything", "trainer", "model", "data"}
    left_out = LTTSCLI.subcommands()
    for command in commands or left_out:
        arguments = inspect.signature(getattr(Trainer, command)).parameters
        keys |= set(arguments) - {"self"} - left_out[command]
    return keys


def run_lightning() -> LTTSCLI:
    """Parses sys.argv and runs the command."""
    return LTTSCLI(
        LightningModule,
        LightningDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        trainer_class=Trainer,
        save_config_callback=RunRecord,
        save_config_kwargs={"overwrite": True},
        auto_configure_optimizers=False,
    )
