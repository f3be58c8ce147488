"""The verbs that need no Trainer: report, import and export.

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
from lightning_ltts.cli.messages import fail
from lightning_ltts.errors import ConfigError
from lightning_ltts.voting.signals import RULE_NAMES

if TYPE_CHECKING:
    from lightning_ltts.report.runs import Run

PROG = "ltts"
# fields of a specification that are text and are not parsed as YAML
TEXT_FIELDS = ("method", "prompt_template", "answer_marker", "answer_which")
ABOUT = {
    "import": "Reads a checkpoint of any known format into a folder; nothing in it is executed.",
    "export": "Writes a trained checkpoint as a folder in the layout of published ones.",
}


def report(arguments: list[str]) -> None:
    """`ltts report`: tables, and where asked for a page, images or CSV files, from predictions."""
    options = _report_parser().parse_args(arguments)
    paths = [found for path in options.predictions for found in runs_below(path)]
    for path in paths:
        require_predictions(path)
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
    for path, run in zip(paths, runs, strict=True):
        as_json = {"file": path, **run.summary.as_dict()} if options.json else None
        print(
            json.dumps(as_json)
            if as_json
            else f"{path}: {run.summary.table()}\n{run.summary.bought()}\n"
        )
    if options.output or options.png or options.csv:
        _write_pages(runs, options)
    elif not options.json:
        given = shlex.join(options.predictions)
        print(f"next: ltts report {given} -o report.html   (a page with figures and every sample)")


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
        "--csv", type=Path, metavar="FOLDER", help="write tables of results, curves and questions"
    )
    return parser


def _write_pages(runs: "list[Run]", options: argparse.Namespace) -> None:
    # plotly and its scripts are read where they are needed
    from lightning_ltts.report.page import write_csv, write_html, write_png

    outputs = (
        ("html", options.output, write_html),
        ("csv", options.csv, write_csv),
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


def import_or_export(command: str, arguments: list[str]) -> None:
    """`ltts import` and `ltts export`: from any source to a folder; prints what it is."""
    options = _import_parser(command).parse_args(arguments)
    import torch

    from lightning_ltts.models.checkpoints import PROVENANCE
    from lightning_ltts.models.folders import import_model

    dtype = getattr(torch, options.dtype) if options.dtype else None
    changes = _spec_changes(options.set)
    model = import_model(options.source, options.target, options.base, dtype, **changes)
    provenance = json.loads((Path(options.target) / PROVENANCE).read_text())
    size = sum(p.numel() for p in model.parameters()) / 1e6
    print(f"{options.target}: {provenance['kind']}, {size:.1f} million parameters")
    for name, value in provenance.items():
        print(f"  {name}: {json.dumps(value) if isinstance(value, dict | str) else value}")
    key = "latent_rm" if provenance["kind"] == "LatentRM" else "reasoner"
    print(f"next: give it to a command as {key}={options.target}")


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
