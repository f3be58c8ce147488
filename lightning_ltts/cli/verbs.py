"""The verbs that need no Trainer: report, import and export."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from lightning_ltts.errors import ConfigError
from lightning_ltts.models.checkpoints import PROVENANCE
from lightning_ltts.models.folders import import_model
from lightning_ltts.report.runs import load_runs
from lightning_ltts.voting.adaptive import BetaStopping
from lightning_ltts.voting.scoring import RULES

PROG = "ltts"


TEXT_FIELDS = ("method", "prompt_template", "answer_marker", "answer_which")  # of a specification; taken as they are


def report(arguments: list[str]) -> None:
    """`ltts report`: tables, and where asked for a page, images or CSV files, from prediction files."""
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
        from lightning_ltts.report import page as report  # plotly and its scripts are read where they are needed

        for kind, path in (("html", options.output), ("csv", options.csv), ("png", options.png)):
            if path:
                try:
                    getattr(report, f"write_{kind}")(runs, path)
                except OSError as error:
                    raise ConfigError(
                        f"{path} cannot be written ({error.strerror}); give another path for the {kind}"
                    ) from error
                print(f"{kind}: {path}", file=sys.stderr if options.json else sys.stdout)


def import_or_export(arguments: list[str]) -> None:
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
