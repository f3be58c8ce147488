"""The console script `ltts`: Hydra composes a configuration, LightningCLI checks types and runs it.

    ltts fit experiment=demo/reasoner trainer.max_epochs=3      Hydra overrides, config groups, -m for sweeps
    ltts fit --config run.yaml --trainer.max_epochs 3           plain LightningCLI
    ltts report logs/demo/search                                the table of a prediction run
    ltts import owner/repository folder                         a published checkpoint; `ltts export` likewise, ours

The Hydra way writes the composed configuration into the run's folder and hands it to the plain way, which is also what
Lightning starts again in the other processes of a distributed run.
"""

import argparse
import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import hydra
import torch
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from jsonargparse import ActionConfigFile
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lightning_ltts.analysis.runs import load_runs
from lightning_ltts.errors import ConfigError, LTTSError
from lightning_ltts.models.checkpoints import PROVENANCE, import_model
from lightning_ltts.models.weights import read_pickle
from lightning_ltts.monitoring.run_record import RunRecord
from lightning_ltts.monitoring.terminal import JSON_STREAM, QUIET, terminal
from lightning_ltts.prediction import PREDICTIONS, PredictionWriter
from lightning_ltts.search.adaptive import BetaStopping
from lightning_ltts.search.scoring import RULES
from lightning_ltts.trainer import Trainer

PROG = "ltts"
SUBCOMMANDS = ("fit", "validate", "test", "predict", "mine")
VALUE_FLAGS = {"--cfg", "-c", "--config-dir", "-cd", "--config-name", "-cn", "--package", "-p"}
HYDRA_FLAGS = {"-m", "--multirun", "--info", "-i", "--resolve", "--hydra-help", "--run", "-r", *VALUE_FLAGS}
# keys of the composed tree that serve composing only; LightningCLI does not see them
COMPOSE_KEYS = (
    "task", "name", "sampler", "optimized_metric", "reasoner", "latent_rm", "problems_dir", "model_dir", "train_files", "paper",
    "extra_argv",
)  # fmt: skip
TEXT_FIELDS = ("method", "prompt_template", "answer_marker", "answer_which")  # of a specification; taken as they are
USAGE = """usage: ltts COMMAND [experiment=NAME] [KEY=VALUE ...]      (Hydra)
       ltts COMMAND --config FILE [--KEY VALUE ...]        (LightningCLI)

commands:
  fit        train a reasoner, or mine and train a LatentRM
  mine       mine the trajectories that training a LatentRM needs, and no more
  validate   validate a checkpoint         test       test a checkpoint
  predict    search over a problem set     report     sum up prediction files
  import     any checkpoint to a folder    export     a trained checkpoint to a folder

experiments:
{experiments}

  ltts COMMAND --help                         every option of a command
  ltts COMMAND --model.help CLASS             every option of a model (likewise --data.help)
  ltts COMMAND experiment=NAME --print_config the composed configuration, without running it
  ltts COMMAND --config-dir DIR experiment=mine   finds DIR/experiment/mine.yaml too
  ltts COMMAND ... --quiet                    errors and the result alone: no bars, no information, no warnings
  ltts predict ... --json                     the summary as one line on stdout, all else on stderr; likewise report
"""


def config_folder() -> Path:
    """Where `configs/` is: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).parent
    return next(folder for folder in (package / "configs", package.parent / "configs") if folder.is_dir())


class _Parser(LightningArgumentParser):
    """Says what is wrong in one line, without the usage text of several hundred options."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        _fail(_tidy_parser(message))


class LTTSCLI(LightningCLI):
    """LightningCLI with `mine`, one-line errors, and the given configuration above what a checkpoint stored."""

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """A parser whose errors are one line."""
        parser = _Parser(**kwargs)
        parser.add_argument("-c", "--config", action=ActionConfigFile, help="Path to a configuration file in YAML.")
        return parser

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Lightning's, and `mine`."""
        return {**LightningCLI.subcommands(), "mine": {"model", "datamodule"}}

    def before_instantiate_classes(self) -> None:
        """Finds a wrong checkpoint path before anything is made."""
        given = self.config[self.subcommand].get("ckpt_path") if self.subcommand else None
        if given and given not in ("best", "last", "hpc", "registry"):
            read_pickle(Path(given))

    def after_fit(self) -> None:
        """Says where the result is."""
        trainer = self.trainer
        best = next((c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint) and c.best_model_path), None)
        if best is None or not trainer.is_global_zero:
            return
        score = "" if best.best_model_score is None else f", {best.monitor} {float(best.best_model_score):.4g}"
        print(f"after {trainer.current_epoch} epochs and {trainer.global_step} steps: {best.best_model_path}{score}")

    def after_predict(self) -> None:
        """With `--json`, prints the summary as `ltts report --json` does."""
        stream = JSON_STREAM.get()
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if stream is not None and isinstance(callback, PredictionWriter) and callback.summary is not None:
                line = {"file": str(callback.folder / PREDICTIONS), **callback.summary.as_dict()}
                print(json.dumps(line), file=stream, flush=True)

    def _parse_ckpt_path(self) -> None:
        """Leaves the configuration as given; Lightning would let the checkpoint's hyper-parameters win."""


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


def split_config(cfg: DictConfig) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """A composed Hydra tree -> (command, configuration for LightningCLI, what served composing only)."""
    tree: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)  # type: ignore[assignment]
    rest = {key: tree.pop(key, None) for key in COMPOSE_KEYS}
    named = tree.pop("callbacks", None) or {}
    if tree.get("ckpt_path") is None:  # not every command has this option
        tree.pop("ckpt_path", None)
    tree["trainer"]["callbacks"] = [callback for callback in named.values() if callback]
    return rest["task"], tree, rest


def _hydra_job(cfg: DictConfig) -> float | None:
    with _one_line_errors():
        task, tree, rest = split_config(cfg)
    folder = Path(HydraConfig.get().runtime.output_dir)
    composed = folder / f"{task}.yaml"
    OmegaConf.save(OmegaConf.create(tree), composed)
    # the processes of a distributed run start sys.argv again: they must not compose, or sweep, a second time
    argv, hydra_config, environment = sys.argv, HydraConfig.instance().cfg, set(os.environ)
    sys.argv = [argv[0], task, "--config", str(composed), *(rest["extra_argv"] or [])]
    HydraConfig.instance().cfg = None
    try:
        with _one_line_errors():
            cli = run_lightning()
    finally:
        sys.argv, HydraConfig.instance().cfg = argv, hydra_config
        _forget_distributed(environment)
    value = cli.trainer.callback_metrics.get(rest["optimized_metric"])
    return None if value is None else float(value)


def _forget_distributed(environment: set[str]) -> None:
    """Lets the next job of a sweep start its own process group in this process."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE", "PL_GLOBAL_SEED"):
        if name not in environment:
            os.environ.pop(name, None)


def _wants_hydra(arguments: list[str]) -> bool:
    flags = {a.split("=")[0] for a in arguments if a.startswith("-")}
    return flags <= {*HYDRA_FLAGS, "--print_config"}


def _split_flags(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Hydra's flags, each with its value, and the overrides, wherever they stood."""
    flags, overrides = [], []
    remaining = iter(arguments)
    for argument in remaining:
        if not argument.startswith("-"):
            overrides.append(argument)
            continue
        flags.append(argument)
        if argument in VALUE_FLAGS:
            flags += [value for value in (next(remaining, None),) if value is not None]
    return flags, overrides


def _loosen(argument: str) -> str:
    """`a.b=c` -> `++a.b=c`, so that an option no file mentions can be set; jsonargparse refuses what does not exist."""
    key = argument.split("=", 1)[0]
    is_option = "=" in argument and "." in key and key[0] not in "+~-" and not {"/", "@"} & set(key)
    return f"++{argument}" if is_option and not key.startswith("hydra.") else argument


def _run_hydra(command: str, arguments: list[str]) -> None:
    printing = [a for a in arguments if a.startswith("--print_config")]
    flags, overrides = _split_flags([a for a in arguments if a not in printing])
    extra = [f"extra_argv={printing}"] if printing else []
    argv = sys.argv
    # Hydra's argparse wants its overrides in one run
    sys.argv = [argv[0], *flags, *map(_loosen, overrides), f"task={command}", *extra]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions come here, to be told in one line
    GlobalHydra.instance().clear()
    try:
        hydra.main(version_base="1.3", config_path=str(config_folder()), config_name="config")(_hydra_job)()
    finally:
        sys.argv = argv


def _report(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(f"{PROG} report", description="Sums up prediction files, without a model.")
    parser.add_argument("predictions", nargs="+", help="prediction file, or the folder that holds it")
    parser.add_argument("--temperature", type=float, help="of the weighted vote; by default the fitted one")
    parser.add_argument("--rule", default="sum", help=f"trajectory score from step scores: {', '.join(RULES)} or answer")
    parser.add_argument("--against", default="majority", help="the method that others are compared with, for instance greedy")
    parser.add_argument("--num-samples", type=int, help="use only this many samples of each problem")
    parser.add_argument("--confidence", type=float, default=0.95, help="at which adaptive voting stops drawing samples")
    parser.add_argument("--json", action="store_true", help="machine-readable output, curves included")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write an HTML page that needs no network")
    parser.add_argument("--png", type=Path, metavar="FOLDER", help="write every figure as an image (needs kaleido and Chrome)")
    parser.add_argument("--csv", type=Path, metavar="FOLDER", help="write tables of results, curves and questions")
    options = parser.parse_args(arguments)
    stopping = BetaStopping(options.confidence)
    runs = load_runs(options.predictions, options.temperature, options.rule, options.against, stopping, options.num_samples)
    for path, run in zip(options.predictions, runs, strict=True):
        print(json.dumps({"file": path, **run.summary.as_dict()}) if options.json else f"{path}: {run.summary.table()}\n")
    if options.output or options.png or options.csv:
        from lightning_ltts.analysis import report  # plotly and its scripts are read where they are needed

        for kind, path in (("html", options.output), ("csv", options.csv), ("png", options.png)):
            if path:
                try:
                    getattr(report, f"write_{kind}")(runs, path)
                except OSError as error:
                    raise ConfigError(
                        f"{path} cannot be written ({error.strerror}); give another path for the {kind}"
                    ) from error
                print(f"{kind}: {path}", file=sys.stderr if options.json else sys.stdout)


def _import(arguments: list[str]) -> None:
    """`ltts import` and `ltts export`: from any source to a folder, with what it is printed."""
    parser = argparse.ArgumentParser(
        f"{PROG} import", description="Reads a checkpoint of any known format, nothing in it being executed, into a folder."
    )
    parser.add_argument("source", help="file or folder, owner/repository[@revision] on the Hub, or hf://owner/repository/file")
    parser.add_argument("target", help="new folder for configuration, safetensors, tokenizer and provenance.json")
    parser.add_argument("--base", help="model that gives configuration and tokenizer, where the source holds neither")
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], help="of the weights; by default as stored")
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help="a field of the specification, for instance "
        "num_thoughts=12 or thought_head.embedding_std=0.018; can be given several times",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    texts = {name: value for name, _, value in (item.partition("=") for item in options.set) if name in TEXT_FIELDS}
    others = [item for item in options.set if item.partition("=")[0] not in TEXT_FIELDS]
    changes: dict[str, Any] = OmegaConf.to_container(OmegaConf.from_dotlist(others))  # type: ignore[assignment]
    changes |= {name: value.replace("\\n", "\n") for name, value in texts.items()}
    dtype = getattr(torch, options.dtype) if options.dtype else None
    model = import_model(options.source, options.target, options.base, dtype, **changes)
    provenance = json.loads((Path(options.target) / PROVENANCE).read_text())
    print(f"{options.target}: {provenance['kind']}, {sum(p.numel() for p in model.parameters()) / 1e6:.1f} million parameters")
    for name, value in provenance.items():
        print(f"  {name}: {json.dumps(value) if isinstance(value, dict | str) else value}")


def _list_experiments() -> str:
    folder = config_folder() / "experiment"
    lines = []
    for path in sorted(folder.rglob("*.yaml")):
        about = next((x.removeprefix("# ") for x in path.read_text().splitlines()[1:] if x.startswith("# ")), "")
        lines.append(f"  {path.relative_to(folder).with_suffix('')!s:24} {about}")
    return "\n".join(lines)


def _fail(message: str) -> NoReturn:
    text = " ".join(message.split())
    print(f"error: {text}", file=sys.stderr)
    raise SystemExit(2)


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """Mistakes of the user end in one line and exit code 2; anything else is a bug and keeps its traceback."""
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        _fail(_tidy_hydra(str(error)))
    except Exception as error:
        # jsonargparse wraps what a class raises when it is made
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, LTTSError | MisconfigurationException):
            cause = cause.__cause__ or cause.__context__
        if cause is None:
            raise
        _fail(str(cause))


def _tidy_hydra(message: str) -> str:
    """A Hydra error without search paths and hints on stack traces."""
    message = message.split("Config search path")[0].split("full_key")[0].strip()
    return f"{message}; 'ltts --help' lists the experiments" if "Could not find" in message else message


def _tidy_parser(message: str) -> str:
    """A jsonargparse error without the configuration it quotes and the alternatives nobody meant."""
    message = message.split("Given value type")[0]
    message = re.sub(r"Does not validate against any of the Union subtypes.*?Errors:\s*-\s*", "", message, flags=re.S)
    return re.sub(r"- Expected a <class 'NoneType'>", "", message)


def main() -> None:
    """Runs `ltts`."""
    command, arguments = (sys.argv[1], sys.argv[2:]) if len(sys.argv) > 1 else ("--help", [])
    if command in ("-h", "--help"):
        print(USAGE.format(experiments=_list_experiments()))
        return
    with _one_line_errors():
        if command == "report":
            _report(arguments)
        elif command in ("import", "export"):
            _import(arguments)
        elif command not in SUBCOMMANDS:
            _fail(f"'{command}' is not a command; use one of {', '.join((*SUBCOMMANDS, 'report', 'import', 'export'))}")
        else:
            _run(command, arguments)


def _run(command: str, arguments: list[str]) -> None:
    """A command of LightningCLI, after taking out what is not for it: `--quiet` and `--json`."""
    quiet, as_json = "--quiet" in arguments or QUIET in os.environ, "--json" in arguments
    if as_json and command != "predict":
        _fail(f"'ltts {command}' has no --json; it is for 'ltts predict' and 'ltts report'")
    arguments = [argument for argument in arguments if argument not in ("--quiet", "--json")]
    by_hydra = _wants_hydra(arguments)
    if quiet and not {"--help", "-h"} & set(arguments):
        arguments.append("trainer.enable_progress_bar=false" if by_hydra else "--trainer.enable_progress_bar=false")
    argv = sys.argv
    with terminal(quiet, as_json):
        try:
            if by_hydra:
                _run_hydra(command, arguments)
            else:
                sys.argv = [argv[0], command, *arguments]
                run_lightning()
        finally:
            sys.argv = argv


if __name__ == "__main__":
    main()
