"""Every TensorBoard tag that tiny runs of all commands write is in the guide, and the other way round."""

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lightning_ltts import cli
from lightning_ltts.mining.boards import MAX_THOUGHTS

pytestmark = pytest.mark.slow

GUIDE = Path(cli.__file__).parents[2] / "docs/monitoring.md"
TINY = ["trainer.accelerator=cpu", "trainer.max_epochs=1", "trainer.log_every_n_steps=1", "--quiet"]
FIT = [
    *TINY,
    "trainer.check_val_every_n_epoch=1",
    "data.init_args.train.init_args.size=16",
    "data.init_args.val.init_args.size=4",
    "data.init_args.batch_size=8",
]
WIDTH = "model.init_args.start.backbone.n_embd=16"


@pytest.fixture(scope="module")
def logs(reasoner_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the logs of every kind of run."""
    folder = tmp_path_factory.mktemp("runs")
    reasoner = f"reasoner={reasoner_file}"
    rm = [
        "experiment=demo/latent_rm",
        reasoner,
        *FIT,
        "data.init_args.keep_uninformative=true",
        "data.init_args.shard_size=8",
    ]
    last = "checkpoints/last.ckpt"
    test = ["data.init_args.test.init_args.size=4", f"ckpt_path={folder}/logs/demo/reasoner/{last}"]
    commands = [
        ["fit", "experiment=demo/reasoner", *FIT, WIDTH],
        ["test", "experiment=demo/reasoner", *TINY, WIDTH, *test],
        ["fit", "experiment=methods/codi", *FIT, WIDTH],
        ["fit", "experiment=methods/colar", *FIT, WIDTH],
        ["fit", "experiment=recipes/colar_grpo_small", *FIT, f"reasoner={folder}/logs/methods/colar/{last}"],
        ["mine", *rm],
        ["fit", *rm],
        ["fit", "experiment=methods/self_training", *FIT, reasoner,
         f"latent_rm={folder}/logs/demo/latent_rm/{last}"],
        ["predict", "experiment=demo/search", reasoner, f"latent_rm={folder}/logs/demo/latent_rm/{last}", *TINY,
         "data.init_args.problems.init_args.size=3", "model.init_args.num_samples=4"],
    ]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for command in commands:
            patch.setattr(sys, "argv", ["ltts", *command])
            cli.main()
    return folder / "logs"


def runs(logs: Path) -> dict[str, EventAccumulator]:
    """Run folder, relative to the logs -> what it holds."""
    found = {}
    for folder in sorted({path.parent for path in logs.rglob("events*")}):
        found[str(folder.relative_to(logs))] = EventAccumulator(str(folder)).Reload()
    return found


def run(logs: Path, start: str) -> EventAccumulator:
    return next(accumulator for name, accumulator in runs(logs).items() if name.startswith(start))


def general(tag: str) -> str:
    """A tag as the guide writes it."""
    return re.sub(r"^(mine|store)/(train|val)\b", r"\1/<split>", tag)


def tables(accumulator: EventAccumulator) -> dict[str, str]:
    """Tag -> text of what the TEXT tab has."""
    end = "/text_summary"
    tags = [tag for tag in accumulator.Tags()["tensors"] if tag.endswith(end)]
    return {
        tag.removesuffix(end): accumulator.Tensors(tag)[0].tensor_proto.string_val[0].decode()
        for tag in tags
    }


def numbers(table: str) -> dict[str, float]:
    """Tag -> number of the rows of a table."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    return {tag: float(value) for tag, value in rows[2:]}


def test_guide_lists_every_tag(logs: Path) -> None:
    written = set()
    for accumulator in runs(logs).values():
        tags = accumulator.Tags()
        written |= {
            general(tag) for kind in ("scalars", "images", "histograms") for tag in tags[kind]
        }
        written |= set(map(general, tables(accumulator)))
    for config in logs.rglob("projector_config.pbtxt"):
        written |= set(re.findall(r'tensor_name: "([^:"]*)', config.read_text()))
    rows = [line for line in GUIDE.read_text().splitlines() if line.startswith("| `")]
    assert written == {row.split("`")[1] for row in rows}
    assert len(rows) == len(written)


def test_run_folders(logs: Path) -> None:
    """One per run, under its command."""
    for name in runs(logs):
        assert re.search(
            r"/tensorboard/(fit|test|mine|predict)/\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d$", name
        ), name
    assert len(runs(logs)) == 9


def test_mining_and_store(logs: Path) -> None:
    board = run(logs, "demo/latent_rm/tensorboard/mine")
    assert [event.step for event in board.Scalars("mine/train/accuracy")] == [
        8,
        16,
    ]  # after each shard
    values = numbers(tables(board)["store/train"])
    assert values["store/train/questions"] == 16
    positive, mean = (values[f"store/train/{x}"] for x in ("positive_labels", "mean_label"))
    assert 0 <= positive <= mean <= 1


def test_thoughts_in_the_projector(logs: Path) -> None:
    (metadata,) = (logs / "demo/latent_rm/tensorboard/mine").rglob("metadata.tsv")
    header, *lines = [line.split("\t") for line in metadata.read_text().splitlines()]
    vectors = (metadata.parent / "tensors.tsv").read_text().splitlines()
    assert header == ["question", "step", "sample", "answer", "right or wrong"]
    assert len(lines) == len(vectors) == 16 * 8 * 3 <= MAX_THOUGHTS
    assert len(vectors[0].split("\t")) == 32
    assert {line[1] for line in lines} == {"1", "2", "3"}
    assert {line[4] for line in lines} <= {"right", "wrong"}


def test_hyper_parameters_with_final_metrics(logs: Path) -> None:
    board = run(logs, "demo/reasoner/tensorboard/fit")
    content = board.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    assert b"model.lr" in content
    assert b"data.train.size" in content
    assert b"CoconutModule" in content
    metrics = board.SummaryMetadata("_hparams_/experiment").plugin_data.content
    assert b"val/accuracy" in metrics
    assert b"val/score_best" in metrics


def test_the_board_opens_on_curves(logs: Path) -> None:
    """Its sections are in alphabetical order: training and validation, and nothing before them."""
    tags = run(logs, "demo/reasoner/tensorboard/fit").Tags()["scalars"]
    assert {tag.split("/")[0] for tag in tags} == {"epoch", "lr-AdamW", "train", "val"}
    searched = run(logs, "demo/search/tensorboard/predict")
    costs = numbers(tables(searched)["predict/cost"])
    assert costs["predict/token_forward_ratio/sampling"] >= 1
    for tag in searched.Tags()["scalars"]:  # none is a chart of one dot
        assert len(searched.Scalars(tag)) > 1, tag
    assert len(searched.Scalars("predict/beam")) == len(searched.Scalars("predict/majority"))


def test_tensorboard_serves_the_tags(logs: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "tensorboard.main",
        "--logdir",
        str(logs),
        "--port",
        str(port),
        "--host",
        "127.0.0.1",
    ]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    server = subprocess.Popen(
        [*command, "--load_fast=false"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        served: dict = {}
        deadline = time.monotonic() + 60
        while len(served) < 8 and time.monotonic() < deadline:
            time.sleep(0.2)
            try:
                with urllib.request.urlopen(
                    f"http://127.0.0.1:{port}/data/plugin/scalars/tags"
                ) as answer:
                    served = json.load(answer)
            except OSError:  # it is still starting
                assert server.poll() is None, "the server has ended"
        expected = {
            name: set(accumulator.Tags()["scalars"]) for name, accumulator in runs(logs).items()
        }
        assert {name: set(tags) for name, tags in served.items()} == expected
    finally:
        server.terminate()
        server.wait(10)
