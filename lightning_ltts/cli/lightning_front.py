"""LightningCLI with `mine` and `tune`, errors of one line, and what is given above what a checkpoint holds."""

import inspect
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, NamedTuple, NoReturn

from jsonargparse import ActionConfigFile
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI

from lightning_ltts.analysis.prediction_files import PREDICTIONS
from lightning_ltts.cli.class_paths import name_the_class
from lightning_ltts.cli.early_end import why_it_ended
from lightning_ltts.cli.messages import fail, tidy_parser
from lightning_ltts.cli.run_checkpoints import KEYWORDS, find_checkpoint
from lightning_ltts.cli.run_guard import FinishedError, RunGuard
from lightning_ltts.cli.run_record import RunRecord, best_metric, shown_path
from lightning_ltts.data.ranges import MAX_SEED, require_whole
from lightning_ltts.errors import ConfigError
from lightning_ltts.models.weights import read_pickle
from lightning_ltts.monitoring.boards import runs_of_their_own
from lightning_ltts.monitoring.terminal import JSON_STREAM
from lightning_ltts.prediction.writer import PredictionWriter
from lightning_ltts.trainer import Trainer


class Needs(NamedTuple):
    """What a command asks of model and data."""

    steps: tuple[str, ...]  # methods of the model, one of which must be its own
    loader: str
    experiment: str  # an example of what can do it


NEEDS = {
    "fit": Needs(("training_step",), "train_dataloader", "demo/reasoner"),
    "validate": Needs(("validation_step",), "val_dataloader", "demo/reasoner"),
    "test": Needs(("test_step",), "test_dataloader", "demo/reasoner"),
    "predict": Needs(("predict_step", "forward"), "predict_dataloader", "demo/search"),
    "tune": Needs(("predict_step",), "predict_dataloader", "demo/tune"),
}


def _check_classes(command: str, config: Any) -> None:
    """Refuses a model or data that cannot do a command.

    Raises:
        ConfigError: naming an experiment that can.
    """
    needs = NEEDS[command]
    model, data = (resolve_name(config[part].class_path) for part in ("model", "data"))

    def has(cls: type, base: type, method: str) -> bool:
        return getattr(cls, method, None) is not getattr(base, method, None)

    hint = f"give an experiment for it, for instance experiment={needs.experiment}"
    if not any(has(model, LightningModule, step) for step in needs.steps):
        raise ConfigError(
            f"'ltts {command}' cannot be done with the model {model.__name__}; {hint}"
        )
    own = has(model, LightningModule, needs.loader) or has(data, LightningDataModule, needs.loader)
    if not own:
        raise ConfigError(f"'ltts {command}' cannot be done with the data {data.__name__}; {hint}")


class _Parser(LightningArgumentParser):
    """Says what is wrong in one line, without the usage text of several hundred options."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        fail(name_the_class(tidy_parser(message)))


class LTTSCLI(LightningCLI):
    """LightningCLI with `mine` and one-line errors; what is given wins over a checkpoint's.

    Args:
        guard: keeps the run apart from others in its folder; by default one of its own.
    """

    def __init__(self, *args: Any, guard: RunGuard | None = None, **kwargs: Any):
        self.guard = guard or RunGuard()
        # a parser takes long to make, and a command needs its own alone
        commands = self.subcommands()
        command = next(iter(sys.argv[1:]), None)
        if command in commands:
            self.subcommands = lambda: {command: commands[command]}  # type: ignore[method-assign]
        super().__init__(*args, **kwargs)

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """A parser whose errors are one line."""
        parser = _Parser(**kwargs)
        parser.add_argument(
            "-c", "--config", action=ActionConfigFile, help="Path to a configuration file in YAML."
        )
        return parser

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Lightning's, `mine` and `tune`."""
        own = {"model", "datamodule"}
        return {**LightningCLI.subcommands(), "mine": own, "tune": own}

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Refuses a seed that Lightning would fail on, without the option's name.

        Raises:
            ConfigError: it is out of range.
        """
        super().parse_arguments(parser, args)
        seed = self.config[self.config.subcommand].get("seed_everything")
        if seed is not None and not isinstance(seed, bool):  # true draws one, false leaves it
            require_whole("the command", "seed_everything", seed, 0, MAX_SEED)

    def before_instantiate_classes(self) -> None:
        """Fails early on a wrong model, data or checkpoint, and looks into the run's folder."""
        config = self.config[self.subcommand]
        if self.subcommand in NEEDS:
            _check_classes(self.subcommand, config)
        if "return_predictions" in config and config["return_predictions"] is None:
            config["return_predictions"] = False  # nobody gets them here, and they may be millions
        found = self.guard.check(str(self.subcommand), config.as_dict())
        if found is not None:
            config["ckpt_path"] = found
        given = config.get("ckpt_path")
        if given and given not in KEYWORDS:
            read_pickle(Path(given))

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Lets the guard know when the run begins."""
        trainer = super().instantiate_trainer(**kwargs)
        trainer.callbacks += self.guard.callbacks()  # type: ignore[attr-defined]
        return trainer  # type: ignore[return-value]

    def after_instantiate_classes(self) -> None:
        """Finds the checkpoint that `ckpt_path=best`, `last` or `hpc` means."""
        given = self._get(self.config_init, "ckpt_path")
        if given in KEYWORDS:
            found = find_checkpoint(given, str(self.subcommand), self.trainer)
            self.config_init[self.subcommand]["ckpt_path"] = found

    def after_fit(self) -> None:
        """Notes that the run is finished, and says where the result is, and how good."""
        trainer = self.trainer
        self.guard.finish(trainer)
        callbacks = [c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint)]
        best = next((c for c in callbacks if c.best_model_path), None)
        reason = why_it_ended(trainer)
        if reason is not None and trainer.is_global_zero:
            print(reason)
        if best is None or not trainer.is_global_zero:
            return
        done = f"after {trainer.current_epoch} epochs and {trainer.global_step} steps"
        metric = best_metric(trainer, best)
        print(
            f"{done}: {shown_path(best)}"
            + ("" if metric is None else ", {} {:.4g}".format(*metric))
        )

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


def run_lightning(guard: RunGuard | None = None) -> Mapping[str, Any]:
    """Parses sys.argv and runs the command.

    Args:
        guard: of the run's folder, where the caller wants to know what it found.

    Returns:
        The metrics that it ended with.
    """
    # Lightning takes this one variable for Slurm, and fails for want of the others
    if "SLURM_NTASKS" in os.environ and "SLURM_JOB_ID" not in os.environ:
        del os.environ["SLURM_NTASKS"]
    with guard or RunGuard() as guard, runs_of_their_own():
        try:
            cli = LTTSCLI(
                LightningModule,
                LightningDataModule,
                guard=guard,
                subclass_mode_model=True,
                subclass_mode_data=True,
                trainer_class=Trainer,
                save_config_callback=RunRecord,
                save_config_kwargs={"overwrite": True},
                auto_configure_optimizers=False,
            )
        except FinishedError as finished:
            return finished.metrics
        return cli.trainer.callback_metrics
