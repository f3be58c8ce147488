"""Weights & Biases, MLflow and CSV files get what TensorBoard gets, by the real libraries, offline."""

import csv
import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest
import torch
import yaml
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import DeviceStatsMonitor, LearningRateMonitor, Timer
from lightning.pytorch.loggers import CSVLogger, MLFlowLogger, WandbLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lightning_ltts import cli
from lightning_ltts.monitoring.boards import Board, boards
from lightning_ltts.monitoring.run_logger import RunLogger
from lightning_ltts.trainer import Trainer as OurTrainer

NUMBERS = {"val/recall": 0.5, "val/accuracy": 1.0}


def write_everything(board: Board) -> None:
    """Whatever is written outside Lightning's loops."""
    board.table("cost", {"cost/ratio": 1.5})
    board.scalars(NUMBERS, 1)
    board.scalars({"val/accuracy": 2.0}, 4)
    figure, axes = plt.subplots()
    axes.plot([0, 1])
    board.figure("predict/curve", figure)
    board.histogram("store/labels", torch.tensor([0.0, 0.5, 1.0]))
    board.embedding("thoughts", torch.eye(2), [["a", "1"], ["b", "2"]], ["question", "step"])
    board.hyper_parameters({"model.lr": 0.1}, {"final/accuracy": 2.0}, 5)
    board.flush()
    board.logger.finalize("success")
    plt.close(figure)


def test_csv(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path)
    write_everything(boards([logger])[0])
    with (Path(logger.log_dir) / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows[0].keys() == {"step", "cost/ratio", *NUMBERS, "final/accuracy"}
    assert rows[0]["cost/ratio"] == "1.5"
    assert [(row["step"], row["val/accuracy"]) for row in rows] == [
        ("0", ""),
        ("1", "1.0"),
        ("4", "2.0"),
        ("5", ""),
    ]
    hparams = yaml.safe_load((Path(logger.log_dir) / "hparams.yaml").read_text())
    assert hparams == {"model.lr": 0.1}


def test_tensorboard_shows_everything(tmp_path: Path) -> None:
    logger = RunLogger(str(tmp_path))
    write_everything(boards([logger])[0])
    tags = EventAccumulator(logger.log_dir).Reload().Tags()
    assert set(tags["scalars"]) == set(NUMBERS)  # HPARAMS holds the metrics
    assert "cost/text_summary" in tags["tensors"]
    assert tags["images"] == ["predict/curve"]
    assert tags["histograms"] == ["store/labels"]
    assert list(Path(logger.log_dir).rglob("metadata.tsv"))


@pytest.mark.extra
@pytest.mark.slow
def test_weights_and_biases_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb", reason="the extra wandb is not installed")
    monkeypatch.setenv("WANDB_SILENT", "true")
    logger = WandbLogger(save_dir=tmp_path, offline=True, project="p", name="n")
    logged: list[dict[str, Any]] = []
    log = logger.experiment.log
    monkeypatch.setattr(
        logger.experiment, "log", lambda x, *a, **k: (logged.append(x), log(x, *a, **k))
    )
    write_everything(boards([logger])[0])
    kinds = {type(v).__name__ for row in logged for v in row.values() if not isinstance(v, float)}
    assert {"Histogram", "Table", "list", "int"} <= kinds
    steps = [row["trainer/global_step"] for row in logged if "trainer/global_step" in row]
    assert steps == [0, 1, 4, 5]
    assert logger.experiment.config["model.lr"] == 0.1
    wandb.finish()
    (file,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    deadline = time.monotonic() + 60  # its own process writes the file, and may do so late
    while not all(name.encode() in file.read_bytes() for name in NUMBERS):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert len(list(tmp_path.glob("wandb/offline-run-*/files/media/images/predict/*.png"))) == 1


@pytest.mark.extra
@pytest.mark.slow
def test_mlflow_in_a_data_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    pytest.importorskip("sqlalchemy", reason="the extra mlflow is not installed")
    monkeypatch.chdir(tmp_path)
    logger = MLFlowLogger(tracking_uri="sqlite:///mlflow.db", artifact_location="artifacts")
    write_everything(boards([logger])[0])
    client, run = logger.experiment, logger.run_id
    history = client.get_metric_history(run, "val/accuracy")
    assert [(x.step, x.value) for x in history] == [(1, 1.0), (4, 2.0)]
    data = client.get_run(run).data
    assert data.params == {"model.lr": "0.1"}
    assert data.metrics["final/accuracy"] == 2.0
    assert list(tmp_path.rglob("artifacts/**/predict/curve.png"))


# -- the commands


def tags_of(folder: Path) -> set[str]:
    """The tags of all numbers that TensorBoard shows, as charts or in tables."""
    board = EventAccumulator(str(folder)).Reload()
    tags = board.Tags()
    texts = [
        board.Tensors(tag)[0].tensor_proto.string_val[0].decode()
        for tag in tags["tensors"]
        if tag.endswith("/text_summary")
    ]
    return {*tags["scalars"], *re.findall(r"^\| (\S+) \| \S", "\n".join(texts), re.MULTILINE)}


def csv_tags(folder: Path) -> set[str]:
    (file,) = folder.rglob("metrics.csv")
    return set(file.read_text().splitlines()[0].split(",")) - {"step"}


def wandb_tags(folder: Path) -> set[str]:
    """The tags of TensorBoard that the file of an offline run holds."""
    (file,) = folder.rglob("wandb/offline-run-*/*.wandb")
    content = file.read_bytes()
    (events,) = folder.rglob("events*")
    return {tag for tag in tags_of(events.parent) if tag.encode() in content}


def mlflow_tags(folder: Path) -> set[str]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    (experiment,) = [e for e in client.search_experiments() if e.name == "lightning_ltts"]
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.params["model.num_samples"] == "4"
    assert list(folder.rglob("predict/accuracy_against_n.png"))
    return set(run.data.metrics)


READERS: dict[str, Callable[[Path], set[str]]] = {
    "csv": csv_tags, "wandb": wandb_tags, "mlflow": mlflow_tags,
}  # fmt: skip


def predict(monkeypatch: pytest.MonkeyPatch, reasoner: Path, *options: str) -> int:
    tiny = ["data.init_args.problems.init_args.size=3", "model.init_args.num_samples=4"]
    without = ["latent_rm=null", "model.init_args.beam=null", "trainer.accelerator=cpu", "--quiet"]
    arguments = ["predict", "experiment=demo/search", f"reasoner={reasoner}", *tiny, *without]
    monkeypatch.setattr(sys, "argv", ["ltts", *arguments, *options])
    try:
        cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


@pytest.mark.extra
@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_a_command_logs_the_same_numbers(
    name: str, reasoner_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name != "csv":
        pytest.importorskip(name, reason=f"the extra {name} is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert predict(monkeypatch, reasoner_file, "name=a") == 0
    (events,) = Path("logs/a").rglob("events*")
    expected = tags_of(events.parent)
    assert predict(monkeypatch, reasoner_file, "name=b", f"logger={name}") == 0
    assert not list(Path("logs/b").rglob("events*"))
    found = READERS[name](Path("logs"))
    allowed = {tag.replace("@", "") for tag in expected}  # MLflow writes no such sign
    assert {tag.replace("@", "") for tag in found} == allowed
    assert "predict/majority" in found


def test_callbacks_without_a_logger(capsys: pytest.CaptureFixture, caplog) -> None:
    """Those that only log leave themselves out, and say so once."""
    callbacks = [LearningRateMonitor(), DeviceStatsMonitor(), Timer()]
    with caplog.at_level("INFO"):
        trainer = OurTrainer(logger=False, callbacks=callbacks, enable_progress_bar=False)
    said = [r.getMessage() for r in caplog.records if "logger=false" in r.getMessage()]
    said = said or [line for line in capsys.readouterr().err.splitlines() if "logger=false" in line]
    assert said == [
        "logger=false: LearningRateMonitor, DeviceStatsMonitor would only log, so left out"
    ]
    kept = {type(callback).__name__ for callback in trainer.callbacks}
    assert "Timer" in kept
    assert not {"LearningRateMonitor", "DeviceStatsMonitor"} & kept
    assert isinstance(trainer, Trainer)


def test_an_unknown_logger(monkeypatch: pytest.MonkeyPatch, capsys, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert predict(monkeypatch, Path("r.ckpt"), "logger=wandbb") == 2
    assert "wandb" in capsys.readouterr().err
    assert json.dumps(list(tmp_path.iterdir())) == "[]"
