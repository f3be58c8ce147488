"""`ltts init`: from a file of problems to the configurations that train, mine and search."""

import argparse
import json
import math
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from lightning_ltts.cli.verbs import OneLineParser
from lightning_ltts.data.inspection import MOST_BYTES, Findings, inspect, split_problems
from lightning_ltts.data.overlap import overlap
from lightning_ltts.data.problems import Problem
from lightning_ltts.data.row_fields import FIELDS
from lightning_ltts.errors import ConfigError, shorten
from lightning_ltts.files import write_text

# of one file: to train on, to mine for the LatentRM, to validate on, to search over
SHARES = {"train": 6, "mine": 2, "valid": 1, "test": 1}
MOST_ANSWER_TOKENS = 128
BATCH_SIZE = 32
# as many steps as configs/experiment/files/reasoner.yaml takes, in not too many epochs
STEPS, LEAST_EPOCHS, MOST_EPOCHS = 2000, 8, 80
ABOUT = {  # what each experiment is for, and its commands
    "reasoner": ("fit", "a reasoner for {}"),
    "latent_rm": ("fit or mine", "a LatentRM for {}; mine makes its trajectories alone"),
    "search": ("predict", "votes, best-of-N and guided beam search for {}, and a page"),
}
HEADER = """# @package _global_
# {about}
#
{commands}
"""


def init(arguments: Sequence[str]) -> None:
    """`ltts init NAME --problems FILE`: writes a task's configurations, and says what was found."""
    options = _parser().parse_args(arguments)
    folder = Path(options.name)
    if not re.fullmatch(r"[\w-]+", options.name):
        raise ConfigError(
            f"the name {options.name} must be of letters, digits, _ and -; it becomes a folder here"
        )
    if folder.exists():
        raise ConfigError(f"{folder} exists already; give another name, or remove it")
    columns = _columns(options.columns)
    found = inspect(options.problems, options.answers, columns)
    given = {
        part: inspect(path, found.answer_is, columns)
        for part, path in (("valid", options.valid), ("test", options.test))
        if path is not None
    }
    for findings in (found, *given.values()):
        print("\n".join(findings.lines()))
    for part, findings in given.items():
        _say_common(part, found, findings)
    weights = {part: weight for part, weight in SHARES.items() if part not in given}
    parts = split_problems(found.problems, weights)
    files: dict[str, str | Path] = {part: findings.path for part, findings in given.items()}
    if columns:  # what is written has our names
        parts |= {part: findings.problems for part, findings in given.items()}
    for part, problems in parts.items():
        file = files[part] = folder / f"{part}.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, "".join(map(_row, problems)))
    (folder / "experiment").mkdir()
    looked_at = [found, *given.values()]
    for name, text in experiments(options.name, files, looked_at, len(parts["train"])).items():
        write_text(folder / "experiment" / f"{name}.yaml", text)
    counts = ", ".join(f"{part}.jsonl ({len(problems)})" for part, problems in parts.items())
    print(f"{folder}/ has the problems: {counts}")
    print(
        f"{folder}/experiment/ has reasoner.yaml, latent_rm.yaml and search.yaml, yours to change"
    )
    print(f"next: ltts fit --config-dir {options.name} experiment=reasoner")


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        "ltts init", description="Writes the configurations of a task from a file of problems."
    )
    parser.add_argument("name", help="of the task, and of the folder that is made here for it")
    parser.add_argument(
        "--problems",
        required=True,
        metavar="FILE",
        help="JSON, JSON Lines, CSV or Parquet, a row {question, steps, answer}, or rows of GSM8K as "
        "published; a folder that datasets saved; or hf://owner/name/configuration:split. It is "
        "divided into problems to train on, to mine, to validate on and to search over",
    )
    for part, use in (("valid", "validate on"), ("test", "search over")):
        parser.add_argument(
            f"--{part}", metavar="FILE", help=f"problems to {use}, where you have them"
        )
    parser.add_argument(
        "--answers",
        choices=["number", "text"],
        help="what the answers are (default: numbers where all are)",
    )
    parser.add_argument(
        "--columns",
        nargs="+",
        default=[],
        metavar="FIELD=COLUMN",
        help="what the files call our fields, for instance question=input answer=target",
    )
    return parser


def _columns(items: Sequence[str]) -> dict[str, str]:
    """Our field -> the files' column."""
    pairs = [item.partition("=") for item in items]
    for name, _, column in pairs:
        if name not in FIELDS or not column:
            raise ConfigError(
                f"--columns {shorten(name)} must be FIELD=COLUMN, where FIELD is one of "
                f"{', '.join(FIELDS)}"
            )
    return {name: column for name, _, column in pairs}


def _say_common(part: str, found: Findings, findings: Findings) -> None:
    """Training refuses questions that it is measured by; that is better known now."""
    common = len(overlap(found.problems, findings.problems).same_question)
    if common:
        print(
            f"  {common} of {len(findings.problems)} questions of {findings.path} ({part}) are in "
            f"{found.path}, too; leave them out there, or training will refuse them"
        )


def _row(problem: Problem) -> str:
    row = {"id": problem.id, "question": problem.question, "steps": problem.steps}
    return json.dumps({**row, "answer": problem.answer}, ensure_ascii=False) + "\n"


# -- the experiments


def experiments(
    name: str, files: Mapping[str, str | Path], findings: Sequence[Findings], num_train: int
) -> dict[str, str]:
    """Name -> text of the YAML files that train a reasoner, mine and train a LatentRM, and search.

    Args:
        name: of the task.
        files: the problems to `train` on, to `mine`, for `valid` and for `test`.
        findings: what was found in the files that were given, the one to train on first.
        num_train: problems to train on.
    """
    batch_size = min(BATCH_SIZE, num_train)
    epochs = min(max(math.ceil(STEPS * batch_size / num_train), LEAST_EPOCHS), MOST_EPOCHS)
    paths = {part: [str(path)] for part, path in files.items()}
    reasoner, latent_rm = (
        f"logs/{name}/{part}/checkpoints/best.ckpt" for part in ("reasoner", "latent_rm")
    )
    is_text = findings[0].answer_is == "text"
    answers: dict[str, Any] = {"init_args": {"answers": "text"}} if is_text else {}

    def sources(*parts: str) -> dict[str, Any]:
        return dict.fromkeys(parts, answers) if is_text else {}

    contents = {
        "reasoner": {
            **_defaults(model="coconut_bpe", data="problem_files"),
            **{part: paths[part] for part in ("train", "valid", "test")},
            "trainer": {"max_epochs": epochs},
            "callbacks": {"flat_accuracy": {"init_args": {"epochs": max(10, epochs // 2)}}},
            "model": {
                "init_args": {"curriculum": _curriculum(findings, epochs), **_model(findings)}
            },
            "data": {"init_args": {"batch_size": batch_size, **sources("train", "val", "test")}},
        },
        "latent_rm": {
            **_defaults(model="latent_rm", data="mine_problem_files", callbacks="latent_rm"),
            "train": paths["mine"],
            "valid": paths["valid"],
            "reasoner": reasoner,
            "optimized_metric": "val/weighted_vote",
            "trainer": {"max_epochs": 6},
            "data": {"init_args": _all_of("train", sources("train", "val"))},
        },
        "search": {
            **_defaults(model="search", data="search_problem_files", callbacks="search"),
            "test": paths["test"],
            "reasoner": reasoner,
            "latent_rm": latent_rm,
            "callbacks": {"writer": {"init_args": {"page": True}}},
            **({"data": {"init_args": sources("problems")}} if is_text else {}),
        },
    }
    return {
        experiment: _text(name, experiment, content) for experiment, content in contents.items()
    }


def _defaults(**groups: str) -> dict[str, Any]:
    return {"defaults": [{f"override /{group}": choice} for group, choice in groups.items()]}


def _all_of(part: str, sources: dict[str, Any]) -> dict[str, Any]:
    """Without the limit that mining has by default."""
    options = {**sources.get(part, {}).get("init_args", {}), "limit": None}
    return {**sources, part: {"init_args": options}}


def _curriculum(findings: Sequence[Findings], epochs: int) -> dict[str, Any]:
    """How steps become thoughts, as in configs/model/coconut_bpe.yaml; without steps at once."""
    if not findings[0].has_steps:
        return {"cot_epochs": 0, "stage_epochs": [epochs], "thoughts_per_step": 6}
    stage = epochs // 8
    stages = [stage, stage, epochs - 7 * stage]
    return {"cot_epochs": 5 * stage, "stage_epochs": stages, "thoughts_per_step": 2}


def _model(findings: Sequence[Findings]) -> dict[str, Any]:
    """Options of a small model that has room for every problem.

    No byte-level tokenizer makes more tokens than there are bytes; embeddings of positions that no
    problem reaches cost next to nothing.
    """
    longest = min(max(f.longest for f in findings), MOST_BYTES)
    answer = max(f.longest_answer for f in findings)
    options: dict[str, Any] = {
        "max_answer_tokens": min(answer + 6, MOST_ANSWER_TOKENS),
        "start": {"backbone": {"n_positions": (longest + 64 + 63) // 64 * 64}},
        "sampler": "${sampler}",  # trained under what it will be searched with
    }
    if findings[0].answer_is == "text":
        options["spec"] = {"answer_which": "text"}
        options["start"]["tokenizer"] = {"init_args": {"answers": "text"}}
    return options


def _text(name: str, experiment: str, content: dict[str, Any]) -> str:
    verbs, about = ABOUT[experiment]
    commands = "\n".join(
        f"#     {shlex.join(['ltts', verb, '--config-dir', name, f'experiment={experiment}'])}"
        for verb in verbs.split(" or ")
    )
    defaults, rest = {"defaults": content.pop("defaults")}, content
    rest = {"name": f"{name}/{experiment}", **rest}
    body = "".join(
        yaml.safe_dump(part, sort_keys=False, allow_unicode=True, default_flow_style=None)
        if part is rest
        else yaml.safe_dump(part, sort_keys=False)
        for part in (defaults, rest)
    )
    return HEADER.format(about=f"{verbs}: {about.format(name)}", commands=commands) + body
