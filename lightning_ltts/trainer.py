"""Lightning's Trainer with a prediction loop for search, `mine` and `tune`."""

import math
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import (
    Callback,
    DeviceStatsMonitor,
    LearningRateMonitor,
    ProgressBar,
)
from lightning.pytorch.loops.prediction_loop import _PredictionLoop
from lightning.pytorch.loops.utilities import _no_grad_context
from lightning.pytorch.plugins import TorchCheckpointIO
from lightning.pytorch.trainer import call
from lightning.pytorch.trainer.connectors.signal_connector import _SignalConnector
from lightning.pytorch.utilities import rank_zero_info

from lightning_ltts.analysis.predictions import is_right, read_rows
from lightning_ltts.checkpoint_io import WholeCheckpoints
from lightning_ltts.cluster.engine import Engine, Speeds
from lightning_ltts.cluster.sharded import refuse_sharded
from lightning_ltts.data.ranges import require_number, require_whole
from lightning_ltts.errors import ConfigError
from lightning_ltts.mining.data import MiningData, MiningOnly
from lightning_ltts.monitoring.progress import QuestionBar
from lightning_ltts.prediction.data import PredictionData
from lightning_ltts.prediction.module import LatentSearch
from lightning_ltts.prediction.tuned import TUNED, choose
from lightning_ltts.prediction.work import SearchWork
from lightning_ltts.prediction.writer import PredictionWriter
from lightning_ltts.stopping import Stopping


class SearchLoop(_PredictionLoop):
    """Packs questions into passes that fill the device, and reports each question when finished.

    The dataloader yields questions one by one; the module says how many fit into a pass
    (`questions_per_pass`) and predicts them together, under the Trainer's precision. Callbacks see
    one "batch" per question, so that progress bars count questions and predictions are streamed.
    Only `run` differs from Lightning's loop, whose private parts it uses.
    """

    engine: Engine | None = None  # whose workers predict, instead of this process

    @_no_grad_context
    def run(self) -> list[Any] | None:
        """Predicts all questions of this process.

        Modules without `questions_per_pass` go through Lightning's loop.
        """
        if not hasattr(self.trainer.lightning_module, "questions_per_pass"):
            result: list[Any] | None = super().run()
            return result
        self.setup_data()
        trainer, module = self.trainer, self.trainer.lightning_module
        if self.skip:  # nothing left for this process, but callbacks meet the others' at the end
            call._call_callback_hooks(trainer, "on_predict_end")
            return self._in_order([])
        self.reset()
        self.on_run_start()
        size: int = module.questions_per_pass  # type: ignore[assignment]
        found: list[dict[str, Any]] = []
        passes = self._here(size) if self.engine is None else self._by(self.engine, size)
        for waiting, predictions in passes:
            for question, prediction in zip(waiting, predictions, strict=True):
                self.batch_progress.increment_processed()
                self.batch_progress.increment_completed()
                number = self.batch_progress.current.completed - 1
                hook = "on_predict_batch_end"
                call._call_callback_hooks(trainer, hook, [prediction], question, number)
            if self.return_predictions and self._writer is None:
                found += [dict(prediction) for prediction in predictions]
            del predictions  # whose tensors would be held through the next pass
        self.on_run_end()
        return self._in_order(found)

    def _here(self, size: int) -> Iterator[tuple[list[Any], list[Any]]]:
        """Questions and their predictions, pass by pass."""
        while waiting := self._next_questions(size):
            yield waiting, call._call_strategy_hook(self.trainer, "predict_step", waiting, 0)

    def _by(self, engine: Engine, size: int) -> Iterator[tuple[list[Any], list[Any]]]:
        """Likewise in any order, as workers finish them.

        Problems that were predicted before are read once more where others of their pass were not:
        so every pass is that of one process.
        """
        module, data = self.trainer.lightning_module, getattr(self.trainer, "datamodule", None)
        assert isinstance(module, LatentSearch), "checked by `predict`"
        assert isinstance(data, PredictionData), "checked by `predict`"
        keep = frozenset(self._writer.kept if self._writer is not None else ())
        speeds, asked = Speeds(), dict[int, list[Any]]()

        def waiting() -> Iterator[tuple[int, list[Any]]]:
            for number, problems in enumerate(data.passes(size)):
                asked[number] = problems
                yield number, problems

        precision = str(self.trainer.precision)
        for done in engine.run(SearchWork(module, keep), waiting(), precision):
            made = zip(asked.pop(done.number), done.result.predictions, strict=True)
            left = [(problem, row) for problem, row in made if not data.is_finished(problem)]
            for part, seconds in done.result.seconds.items():
                module.seconds[part] += seconds
            for problem, _ in left:
                self._start(problem, self.batch_progress.current.ready)
            speeds.add(done, len(left))
            if isinstance(bar := self.trainer.progress_bar_callback, QuestionBar):
                bar.each = speeds.shown()
            yield [problem for problem, _ in left], [row for _, row in left]
        for line in speeds.lines():
            rank_zero_info(line)

    def _start(self, question: Any, index: int) -> None:
        """Tells callbacks that a question is being predicted."""
        self.batch_progress.increment_ready()
        call._call_callback_hooks(self.trainer, "on_predict_batch_start", question, index)
        self.batch_progress.increment_started()

    @property
    def _writer(self) -> PredictionWriter | None:
        """The callback that writes the rows, where there is one."""
        callbacks: list[Callback] = self.trainer.callbacks  # type: ignore[attr-defined]
        return next((c for c in callbacks if isinstance(c, PredictionWriter)), None)

    def _in_order(self, found: list[dict[str, Any]]) -> list[Any] | None:
        """The rows that the Trainer returns, in the order of the problems.

        Where they are written, those of earlier runs and of other devices are among them.
        """
        if not self.return_predictions:
            return None
        if self._writer is not None:
            return read_rows(self._writer.folder)
        problems = getattr(self.trainer, "datamodule", None)
        order = {p.id: i for i, p in enumerate(getattr(problems, "problems", []))}
        return sorted(found, key=lambda row: order.get(row["id"], len(order)))

    def _next_questions(self, number: int) -> list[Any]:
        """The next questions of the dataloader, fewer than `number` at its end."""
        questions: list[Any] = []
        while len(questions) < number:
            try:
                question, index, _ = next(self._data_fetcher)  # type: ignore[arg-type]
            except StopIteration:
                break
            self._start(question, index)
            questions.append(question)
        return questions


class SignalConnector(_SignalConnector):
    """Leaves SIGTERM to the command, where one is running.

    Lightning's own handler ends a training with exit code 0, and is not heard in other loops.
    """

    def register_signal_handlers(self) -> None:
        """As Lightning's, without SIGTERM."""
        super().register_signal_handlers()
        if Stopping.current is not None and threading.current_thread() is threading.main_thread():
            before: Any = self._original_handlers[signal.SIGTERM]
            signal.signal(signal.SIGTERM, before)


def _check_numbers(options: dict[str, Any]) -> None:
    """Refuses numbers that Lightning does not look at."""
    for name, low in (
        ("accumulate_grad_batches", 1),
        ("check_val_every_n_epoch", 1),
        ("log_every_n_steps", 0),
        ("reload_dataloaders_every_n_epochs", 0),
    ):
        if options.get(name) is not None:
            require_whole("the trainer", name, options[name], low)
    if options.get("gradient_clip_val") is not None:
        require_number("the trainer", "gradient_clip_val", options["gradient_clip_val"])
    interval = options.get("val_check_interval")
    if isinstance(interval, int | float):
        require_number("the trainer", "val_check_interval", interval, open_ends=True)


def _without_loggers(callbacks: list[Callback]) -> list[Callback]:
    """The callbacks that need no logger; the others are named once."""
    needing = [c for c in callbacks if isinstance(c, LearningRateMonitor | DeviceStatsMonitor)]
    if needing:
        names = ", ".join(type(callback).__name__ for callback in needing)
        rank_zero_info(f"logger=false: {names} would only log, so left out")
    return [callback for callback in callbacks if callback not in needing]


class Trainer(pl.Trainer):
    """A Lightning Trainer that packs questions in prediction, counts them in its bar, and mines.

    It writes checkpoints at once or not at all, and leaves signals to the command.

    Args:
        callbacks: as Lightning's; a progress bar among them is used instead of `QuestionBar`.
        enable_progress_bar: as Lightning's.
        kwargs: all other options are Lightning's.

    Raises:
        ConfigError: a number that Lightning would take, and fail or do nonsense with later.
    """

    def __init__(
        self,
        *,
        callbacks: list[Callback] | Callback | None = None,
        enable_progress_bar: bool | None = None,
        **kwargs: Any,
    ):
        _check_numbers(kwargs)
        callbacks = [callbacks] if isinstance(callbacks, Callback) else list(callbacks or [])
        if kwargs.get("logger") is False:  # there is nowhere to log to, and they would refuse
            callbacks = _without_loggers(callbacks)
        has_bar = any(isinstance(callback, ProgressBar) for callback in callbacks)
        if enable_progress_bar is not False and not has_bar:
            callbacks.append(QuestionBar(is_right))
        super().__init__(callbacks=callbacks, enable_progress_bar=enable_progress_bar, **kwargs)
        self.predict_loop = SearchLoop(self, inference_mode=self.predict_loop.inference_mode)
        # neither the user's own nor a strategy's
        if type(self.strategy.checkpoint_io) is TorchCheckpointIO:
            self.strategy.checkpoint_io = WholeCheckpoints()
        self._signal_connector = SignalConnector(self)
        if Stopping.current is not None:
            Stopping.current.started = lambda: getattr(self.strategy.launcher, "procs", [])
            Stopping.current.distributed = self.world_size > 1
            if self.world_size > 1:
                Stopping.current.watch_children()

    def predict(
        self,
        model: pl.LightningModule | None = None,
        dataloaders: Any = None,
        datamodule: pl.LightningDataModule | None = None,
        return_predictions: bool | None = None,
        ckpt_path: str | Path | None = None,
        weights_only: bool | None = None,
        engine: Engine | None = None,
    ) -> list[Any] | None:
        """Predicts, as Lightning's, on this Trainer's devices or by the workers of an engine.

        Args:
            model: what predicts.
            dataloaders: as Lightning's.
            datamodule: the problems.
            return_predictions: as Lightning's.
            ckpt_path: as Lightning's.
            weights_only: as Lightning's.
            engine: whose workers predict; by default the Trainer's own processes do.

        Raises:
            ConfigError: an engine is given for anything but a `LatentSearch` in one process, or a
                search is to use weights that are sharded otherwise than by heads.
        """
        loop = self.predict_loop
        assert isinstance(loop, SearchLoop), "made with the Trainer"
        if isinstance(model, LatentSearch):
            refuse_sharded(self, "a search")
        if engine is not None:
            self._check_engine()
            if not isinstance(model, LatentSearch) or not isinstance(datamodule, PredictionData):
                raise ConfigError(
                    "engine goes with the model LatentSearch and the data PredictionData; leave it "
                    "out"
                )
        loop.engine = engine
        given = (model, dataloaders, datamodule, return_predictions, ckpt_path)
        options: Any = {} if weights_only is None else {"weights_only": weights_only}
        rows: list[Any] | None = super().predict(*given, **options)
        return rows

    def _check_engine(self) -> None:
        if self.world_size > 1:
            raise ConfigError(
                f"an engine has workers of its own, and this run has {self.world_size} processes; "
                "set trainer.devices=1 and trainer.num_nodes=1, or leave engine out"
            )

    def mine(
        self,
        model: pl.LightningModule,
        datamodule: pl.LightningDataModule | None = None,
        engine: Engine | None = None,
    ) -> None:
        """Mines the stores of a `MiningData`, on this Trainer's devices, and trains nothing.

        Takes the configuration of the LatentRM's training, so that both always agree on reasoner
        and sampler.

        Args:
            model: the LatentRM's training.
            datamodule: what is mined, a `MiningData`.
            engine: whose workers mine; by default the Trainer's own processes do.

        Raises:
            ConfigError: the DataModule does not mine, `fast_dev_run` is set, weights are sharded
                otherwise than by heads, or there is an engine beside several processes.
        """
        if engine is not None:
            self._check_engine()
        if not isinstance(datamodule, MiningData):
            raise ConfigError(
                "'ltts mine' needs a data.class_path of MiningData, for instance experiment=demo/latent_rm"
            )
        if self.fast_dev_run:  # type: ignore[attr-defined]
            raise ConfigError(
                "trainer.fast_dev_run has no meaning for 'ltts mine', which would mine everything; give less to mine, "
                "for instance data.init_args.train.init_args.size=64 (limit=64 for files)"
            )
        refuse_sharded(self, "mining")
        # validation of no batches: sets up devices and DataModule, and needs no optimiser
        self.validate(model, datamodule=MiningOnly(datamodule, engine), verbose=False)
        if self.is_global_zero:
            print("\n".join(datamodule.describe()))

    def tune(
        self,
        model: pl.LightningModule,
        datamodule: pl.LightningDataModule | None = None,
        factors: list[float] | None = None,
    ) -> None:
        """Chooses the sampler's strength for majority voting, and parameters of rules without training.

        Samples the problems, which should be validation problems, at every strength, and writes
        what does best to `tuned.yaml` in the run's folder, for `model.init_args.tuned`.

        Args:
            model: what predicts, a `LatentSearch`.
            datamodule: the problems.
            factors: strengths to try, as multiples of the sampler's own, which is tried anyway.

        Raises:
            ConfigError: the model does not search, there are several processes, or a factor is not
                above 0.
        """
        if not isinstance(model, LatentSearch):
            raise ConfigError(
                "'ltts tune' needs a model.class_path of LatentSearch, for instance "
                "experiment=demo/tune"
            )
        if self.world_size > 1:
            raise ConfigError("'ltts tune' runs in one process; set trainer.devices=1")
        if any(not 0 < factor < math.inf for factor in factors or []):
            raise ConfigError(f"factors={factors} must be numbers above 0")
        tried = sorted({1.0, *(factors or (0.1, 0.25, 0.5, 0.75, 1.5))})
        given: list[Callback] = self.callbacks  # type: ignore[has-type]
        writers = [callback for callback in given if isinstance(callback, PredictionWriter)]
        self.callbacks = [callback for callback in given if callback not in writers]
        sampler, rows = model.sampler, {}
        for factor in tried:
            model.search_with(sampler.scaled(factor))
            predicted: Any = self.predict(model, datamodule=datamodule, return_predictions=True)
            rows[factor] = predicted
        tuned = choose(sampler, tried, rows)
        folder = Path(writers[0].folder if writers else self.default_root_dir)
        tuned.save(folder / TUNED)
        print(tuned.shown())
        print(f"{folder / TUNED}: majority voting by {tuned.majority_sampler!r}, {tuned.fitted}")
