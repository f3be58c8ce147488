"""Mining and prediction by an engine end with one process's results, whatever the order."""

import json
import re
from pathlib import Path

import pytest

from lightning_ltts.cluster.engine import Done, Speeds
from lightning_ltts.cluster.ray_engine import RayEngine
from lightning_ltts.data.word_problems import WordProblems
from lightning_ltts.errors import ConfigError
from lightning_ltts.mining.data import MiningData
from lightning_ltts.mining.store import read_manifest
from lightning_ltts.prediction.row_files import rank_file
from lightning_ltts.sampling import GaussianNoise
from lightning_ltts.training.latent_rm import LatentRMModule
from tests.cli.helpers import ltts
from tests.cluster.helpers import Backwards, make_trainer, mine, predict, predictions, store

STOPPED = (KeyboardInterrupt, SystemExit)  # Lightning makes the one of the other


@pytest.mark.slow
def test_a_store_is_that_of_one_process(reasoner_file: Path, tmp_path: Path) -> None:
    mine(tmp_path / "one", reasoner_file)
    mine(tmp_path / "many", reasoner_file, Backwards())
    assert store(tmp_path / "many") == store(tmp_path / "one")


@pytest.mark.slow
def test_a_stopped_mining_goes_on(reasoner_file: Path, tmp_path: Path) -> None:
    """Also by other workers than began it, and by one process."""
    mine(tmp_path / "one", reasoner_file)
    with pytest.raises(STOPPED):
        mine(tmp_path / "many", reasoner_file, Backwards(most=2))
    names = {path.name for path in (tmp_path / "many/train").glob("*.safetensors")}
    assert names == {"shard-00002.safetensors", "shard-00001.safetensors"}
    with pytest.raises(STOPPED):
        mine(tmp_path / "many", reasoner_file, Backwards(1, most=1))
    mine(tmp_path / "many", reasoner_file)
    assert store(tmp_path / "many") == store(tmp_path / "one")


@pytest.mark.slow
def test_mining_ends_with_enough_questions(
    reasoner_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shards that were mined beyond the last one that is needed are no part of the store."""
    monkeypatch.setattr(
        "lightning_ltts.mining.mine._right",
        lambda engine, answers, truths: (answers.sum(-1) % 2).float(),
    )
    options = {"informative": 2, "shard_size": 2, "keep_uninformative": False}
    mine(tmp_path / "one", reasoner_file, **options)
    mine(tmp_path / "many", reasoner_file, Backwards(4), **options)
    assert store(tmp_path / "many") == store(tmp_path / "one")
    assert len(list((tmp_path / "many/train").glob("*.safetensors"))) < 12


@pytest.mark.slow
def test_predictions_are_those_of_one_process(
    reasoner_file: Path, latent_rm_file: Path, tmp_path: Path
) -> None:
    models = (reasoner_file, latent_rm_file)
    predict(tmp_path / "one", *models)
    predict(tmp_path / "many", *models, Backwards())
    assert predictions(tmp_path / "many") == predictions(tmp_path / "one")


@pytest.mark.slow
def test_stopped_predictions_go_on(
    reasoner_file: Path, latent_rm_file: Path, tmp_path: Path
) -> None:
    """Nothing is lost or doubled, also where a pass was written in part."""
    models, folder = (reasoner_file, latent_rm_file), tmp_path / "many"
    predict(tmp_path / "one", *models)
    with pytest.raises(STOPPED):
        predict(folder, *models, Backwards(2, most=1))
    rows = rank_file(folder, 0).read_text().splitlines(keepends=True)
    assert 1 < len(rows) < 14
    rank_file(folder, 0).write_text("".join(rows[:-1]) + rows[-1][:20])  # torn
    predict(folder, *models, Backwards())
    assert predictions(folder) == predictions(tmp_path / "one")


@pytest.mark.slow
def test_time_of_the_workers_is_added_up(
    reasoner_file: Path, latent_rm_file: Path, tmp_path: Path
) -> None:
    predict(tmp_path, reasoner_file, latent_rm_file, Backwards())
    timing = json.loads((tmp_path / "predictions.timing.json").read_text())
    assert timing["questions"] == 14
    assert timing["seconds_per_question"]["sampling"] > 0


@pytest.mark.slow
def test_the_bar_shows_the_speed_of_each_worker(
    reasoner_file: Path, latent_rm_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models, bar = (reasoner_file, latent_rm_file), {"enable_progress_bar": True}
    predict(tmp_path / "many", *models, Backwards(), **bar)
    assert re.search(r"14 of 14 questions .*, each=\d+\.\d \d+\.\d\]", capsys.readouterr().err)
    predict(tmp_path / "one", *models, **bar)
    assert "each=" not in capsys.readouterr().err


SMALL = [
    "experiment=demo/latent_rm", "trainer.accelerator=cpu", "trainer.devices=1",
    "data.init_args.train.init_args.size=8", "data.init_args.val.init_args.size=4",
    "data.init_args.shard_size=2", "data.init_args.num_samples=2", "data.init_args.informative=null",
    "data.init_args.val_num_samples=2", "engine.class_path=tests.cluster.helpers.Backwards",
]  # fmt: skip


@pytest.mark.slow
def test_the_command(reasoner_file: Path, tmp_path: Path, monkeypatch, capfd, caplog) -> None:
    """An engine is an option of what mines or predicts, and of nothing else."""
    monkeypatch.chdir(tmp_path)
    given = [*SMALL, f"reasoner={reasoner_file}"]
    assert ltts(monkeypatch, "mine", *given) == 0
    assert "worker w0: " in caplog.text
    assert read_manifest(tmp_path / "logs/demo/latent_rm/trajectories/train")["complete"]
    assert ltts(monkeypatch, "fit", *given) == 2
    assert "engine" in capfd.readouterr().err


def test_speeds() -> None:
    speeds = Speeds()
    for worker, seconds, questions in (("b:2", 2.0, 10), ("a:1", 1.0, 30), ("b:2", 2.0, 10)):
        speeds.add(Done(0, None, worker, seconds), questions)
    assert speeds.shown() == "30.0 5.0"
    assert speeds.lines() == [
        "worker a:1: 30 questions, 30.0 questions/s",
        "worker b:2: 20 questions, 5.0 questions/s",
    ]


def test_an_engine_beside_several_processes_is_refused(
    reasoner_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, source = make_trainer(), WordProblems("train", 4)
    monkeypatch.setattr(type(trainer), "world_size", 2)
    data = MiningData(str(reasoner_file), GaussianNoise(0.1), source, source, str(tmp_path))
    with pytest.raises(ConfigError, match=r"2 processes; set trainer\.devices=1"):
        trainer.mine(LatentRMModule(str(reasoner_file)), data, Backwards())


@pytest.mark.parametrize(
    "options", [{"workers": 0}, {"cpus": 0}, {"retries": -1}, {"gpus": -1.0}], ids=str
)
def test_options_that_make_no_sense(options: dict) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        RayEngine(**options)


def test_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_ltts.cluster.ray_engine.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'lightning-ltts\[ray\]'"):
        RayEngine()
