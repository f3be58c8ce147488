"""The verbs that need no Trainer: report, import, export and push.

What computes is imported once the options are known to be right.
"""

import argparse
import json
import math
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from lightning_ltts.analysis.prediction_files import require_predictions, runs_below
from lightning_ltts.analysis.stored_result import read_result
from lightning_ltts.cli.messages import fail
from lightning_ltts.errors import ConfigError
from lightning_ltts.voting.signals import RULE_NAMES

if TYPE_CHECKING:
    from lightning_ltts.models.latent_lm import LatentReasoner
    from lightning_ltts.models.latent_rm import LatentRM
    from lightning_ltts.models.model_card import Measured
    from lightning_ltts.report.runs import Run

PROG = "ltts"
# fields of a specification that are text and are not parsed as YAML
TEXT_FIELDS = ("method", "prompt_template", "answer_marker", "answer_which")
ABOUT = {
    "import": "Reads a checkpoint of any known format into a folder; nothing in it is executed.",
    "export": "Writes a trained checkpoint as a folder in the layout of published ones, with a card.",
    "push": "Uploads the folder of a model to the Hugging Face Hub.",
}


def report(arguments: list[str]) -> None:
    """`ltts report`: tables, and where asked for a page, images or CSV files, from predictions."""
    options = _report_parser().parse_args(arguments)
    paths = [found for path in options.predictions for found in runs_below(path)]
    for path in paths:
        require_predictions(path)
    pages = options.output or options.png or options.csv or options.lm_eval
    results = [] if pages or not _by_default(options) else [read_result(Path(p)) for p in paths]
    found = [result for result in results if result is not None]
    runs = [] if len(found) == len(paths) else _computed(paths, options)
    for path, result in zip(paths, [run.summary for run in runs] or found, strict=True):
        as_json = {"file": path, **result.as_dict()} if options.json else None
        print(json.dumps(as_json) if as_json else f"{path}: {result.table()}\n{result.bought()}\n")
    if pages:
        _write_pages(runs, options)
    elif not options.json:
        given = shlex.join(options.predictions)
        print(f"next: ltts report {given} -o report.html   (a page with figures and every sample)")


def _by_default(options: argparse.Namespace) -> bool:
    """Whether nothing is asked for that changes the numbers."""
    default = _report_parser().parse_args(options.predictions)
    same = ("temperature", "rule", "against", "num_samples", "confidence")
    return all(getattr(options, name) == getattr(default, name) for name in same)


def _computed(paths: list[str], options: argparse.Namespace) -> "list[Run]":
    """The runs with their numbers, computed from the predictions.

    Raises:
        ConfigError: there are not so many samples as asked for.
    """
    from lightning_ltts.report.runs import load_runs
    from lightning_ltts.voting.adaptive import BetaStopping

    runs = load_runs(
        paths,
        options.temperature,
        options.rule,
        options.against,
        BetaStopping(options.confidence),
        options.num_samples,
    )
    for path, run in zip(paths, runs, strict=True):
        if run.num_samples < (options.num_samples or 0):
            raise ConfigError(
                f"--num-samples {options.num_samples} is more than {path} has; give at most "
                f"{run.num_samples}"
            )
    return runs


class OneLineParser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage text."""

    def error(self, message: str) -> NoReturn:  # noqa: D102
        fail(f"{message}; '{self.prog} --help' lists the options")


def positive_number(text: str) -> float:
    """A finite number above 0."""
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return value


def positive_count(text: str) -> int:
    """A whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return value


def _confidence(text: str) -> float:
    """A number between a half and 1."""
    value = float(text)
    if not 0.5 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0.5 and 1")
    return value


def _report_parser() -> argparse.ArgumentParser:
    about = "Sums up prediction files, without a model."
    parser = OneLineParser(f"{PROG} report", description=about)
    parser.add_argument(
        "predictions",
        nargs="+",
        help="prediction file, the folder that holds it, or one whose folders do",
    )
    parser.add_argument(
        "--temperature",
        type=positive_number,
        help="temperature of the weighted vote (default: the fitted)",
    )
    parser.add_argument(
        "--rule",
        default="sum",
        help=f"trajectory score from step scores: {', '.join(RULE_NAMES)} or answer",
    )
    parser.add_argument(
        "--against",
        default="majority",
        help="the method that others are compared with, for instance greedy",
    )
    parser.add_argument(
        "--num-samples", type=positive_count, help="use only so many samples of each problem"
    )
    parser.add_argument(
        "--confidence",
        type=_confidence,
        default=0.95,
        help="at which adaptive voting stops drawing samples",
    )
    parser.add_argument("--json", action="store_true", help="machine-readable, curves included")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="write an HTML page (needs no network)"
    )
    parser.add_argument(
        "--png",
        type=Path,
        metavar="FOLDER",
        help="write every figure as an image (needs kaleido and Chrome)",
    )
    parser.add_argument(
        "--lm-eval",
        type=Path,
        metavar="FILE",
        help="write the accuracies in the JSON layout of lm-evaluation-harness",
    )
    parser.add_argument(
        "--csv", type=Path, metavar="FOLDER", help="write tables of results, curves and questions"
    )
    return parser


def _write_pages(runs: "list[Run]", options: argparse.Namespace) -> None:
    # plotly and its scripts are read where they are needed
    from lightning_ltts.report.harness_results import write_harness_results
    from lightning_ltts.report.images import write_png
    from lightning_ltts.report.page import write_html
    from lightning_ltts.report.tables import write_csv

    outputs = (
        ("html", options.output, write_html),
        ("csv", options.csv, write_csv),
        ("lm-eval", options.lm_eval, write_harness_results),
        ("png", options.png, write_png),
    )
    for kind, path, write in outputs:
        if path is None:
            continue
        try:
            write(runs, path)
        except OSError as error:
            raise ConfigError(
                f"{path} cannot be written ({error.strerror}); give another path for the {kind}"
            ) from error
        print(f"{kind}: {path}", file=sys.stderr if options.json else sys.stdout)


def lm_eval(arguments: list[str]) -> None:
    """`ltts lm-eval`: the command of lm-evaluation-harness, with the model `latent_tts` in it."""
    try:
        from lm_eval.__main__ import cli_evaluate
    except ImportError:
        fail("'ltts lm-eval' needs lm-evaluation-harness: pip install 'lightning-ltts[lm-eval]'")
    from lightning_ltts.prediction.harness import NAME

    sys.argv = ["lm_eval", *arguments]
    if (
        arguments
        and not {"--model", "-M"} & set(arguments)
        and arguments[0] not in ("ls", "validate")
    ):
        sys.argv += ["--model", NAME]
    cli_evaluate()


def import_or_export(command: str, arguments: list[str]) -> None:
    """`ltts import` and `ltts export`: from any source to a folder; prints what it is."""
    options = _import_parser(command).parse_args(arguments)
    import torch

    from lightning_ltts.cli.model_history import history_of, measured_beside, measured_by
    from lightning_ltts.files import write_text
    from lightning_ltts.models.checkpoints import PROVENANCE
    from lightning_ltts.models.folders import import_model
    from lightning_ltts.models.model_card import CARD, model_card

    dtype = getattr(torch, options.dtype) if options.dtype else None
    changes = _spec_changes(options.set)
    measured: list[Measured] = []

    def find_results(model: "LatentReasoner | LatentRM") -> None:
        """Before anything is written, so that those of another model are refused."""
        if options.results:
            measured.extend(measured_by(options.results, model))
        elif command == "export":
            measured.extend(measured_beside(options.source, model))

    source, target = options.source, Path(options.target)
    model = import_model(source, target, options.base, dtype, find_results, **changes)
    if command == "export":
        card = model_card(model, target.absolute().name, history_of(source), measured)
        write_text(target / CARD, card)
    provenance = json.loads((target / PROVENANCE).read_text())
    size = sum(p.numel() for p in model.parameters()) / 1e6
    print(f"{options.target}: {provenance['kind']}, {size:.1f} million parameters")
    for name, value in provenance.items():
        print(f"  {name}: {json.dumps(value) if isinstance(value, dict | str) else value}")
    if command == "export":
        print(f"  model card: {target / CARD}, with results of {len(measured)} runs")
    print(f"next: give it to a command as {model.kind}={options.target}")


def push(arguments: list[str]) -> None:
    """`ltts push`: uploads the folder of a model to the Hugging Face Hub; prints its address."""
    parser = OneLineParser(f"{PROG} push", description=ABOUT["push"])
    parser.add_argument("folder", help="what 'ltts export' or 'ltts import' wrote")
    parser.add_argument("repository", help="owner/name; it is made where it does not exist")
    parser.add_argument(
        "--private", action="store_true", help="a repository that is made is private"
    )
    parser.add_argument("--revision", metavar="BRANCH", help="the branch (default: main)")
    parser.add_argument(
        "--message", default="Upload a model of lightning_ltts", help="of the commit"
    )
    options = parser.parse_args(arguments)
    from lightning_ltts.models.hub import push_folder

    address = push_folder(
        options.folder,
        options.repository,
        commit_message=options.message,
        private=options.private or None,
        revision=options.revision,
    )
    print(f"{options.folder}: pushed to {address}")
    print("next: choose its licence in README.md there, and load it by that name")


def _import_parser(command: str) -> argparse.ArgumentParser:
    parser = OneLineParser(f"{PROG} {command}", description=ABOUT[command])
    parser.add_argument(
        "source",
        help="file or folder, owner/repository[@revision] on the Hub, or hf://owner/repository/file",
    )
    parser.add_argument(
        "target", help="new folder for configuration, safetensors, tokenizer and provenance.json"
    )
    parser.add_argument(
        "--base",
        help="model that gives configuration and tokenizer, where the source holds neither",
    )
    parser.add_argument(
        "--dtype",
        choices=["float32", "bfloat16", "float16"],
        help="data type of the weights (default: as stored)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="a field of the specification, for instance num_thoughts=12 or "
        "thought_head.embedding_std=0.018; can be given several times",
    )
    parser.set_defaults(results=[])
    if command == "export":
        parser.add_argument(
            "--results",
            action="append",
            default=[],
            metavar="RUN",
            help="folder of a search with the model, whose accuracies go into the card; can be given "
            "several times (default: those beside the run that trained it)",
        )
    return parser


def _spec_changes(items: list[str]) -> dict[str, Any]:
    """`FIELD=VALUE` items -> fields of a specification; in texts `\\n` is a new line."""
    from omegaconf import OmegaConf

    texts: dict[str, str] = {}
    others: list[str] = []
    for item in items:
        name, _, value = item.partition("=")
        if name in TEXT_FIELDS:
            texts[name] = value.replace("\\n", "\n")
        else:
            others.append(item)
    changes: dict[str, Any] = OmegaConf.to_container(OmegaConf.from_dotlist(others))  # type: ignore[assignment]
    return changes | texts
