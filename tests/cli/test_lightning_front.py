"""What a command asks of model and data, and Lightning's switches on the command line."""

from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch.callbacks import ModelCheckpoint

from lightning_ltts.cli.run_record import shown_path
from lightning_ltts.models.latent_lm import LatentReasoner
from lightning_ltts.training.coconut import CoconutModule
from tests.cli.helpers import ltts
from tests.helpers import save_reasoner

FIT = [
    "experiment=demo/reasoner",
    "trainer.accelerator=cpu",
    "trainer.check_val_every_n_epoch=1",
    "trainer.enable_progress_bar=false",
    "model.init_args.start.backbone.n_embd=16",
    "model.init_args.start.backbone.n_layer=1",
    "data.init_args.train.init_args.size=64",
    "data.init_args.val.init_args.size=8",
    "trainer.max_epochs=1",
]
CHECKPOINTS = Path("logs/demo/reasoner/checkpoints")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(monkeypatch, capsys, *arguments: str) -> str:
    """The one line that a mistake ends in."""
    assert ltts(monkeypatch, *arguments) == 2
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error: ")]
    return line


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "who", "example"),
    [
        (["predict"], "model CoconutModule", "demo/search"),
        (["predict", "experiment=demo/reasoner"], "model CoconutModule", "demo/search"),
        (["predict", "experiment=methods/codi"], "model CodiModule", "demo/search"),
        (["fit", "experiment=demo/search", "latent_rm=x"], "model LatentSearch", "demo/reasoner"),
        (["validate", "experiment=demo/search"], "model LatentSearch", "demo/reasoner"),
        (["test", "experiment=demo/latent_rm"], "model LatentRMModule", "demo/reasoner"),
        (["fit", "data=search_word_problems"], "data PredictionData", "demo/reasoner"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_commands_say_what_they_need(arguments, who, example, monkeypatch, capsys) -> None:
    line = refused(monkeypatch, capsys, *arguments)
    assert f"'ltts {arguments[0]}' cannot be done with the {who}" in line
    assert f"experiment={example}" in line


@pytest.mark.slow
@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("trainer.strategy=nope", "nope"),
        ("trainer.accelerator=nope", "nope"),
        ("trainer.devices=0", "devices=0"),
        ("callbacks.checkpoint.init_args.monitor=val/nope", "val/nope"),
    ],
)
def test_what_lightning_does_not_have(option: str, expected: str, monkeypatch, capsys) -> None:
    assert expected in refused(monkeypatch, capsys, "fit", *FIT, option)


@pytest.mark.slow
def test_early_stopping_by_an_unknown_metric(monkeypatch, capsys) -> None:
    stop = "callbacks.stop.class_path=lightning.pytorch.callbacks.EarlyStopping"
    monitor = "callbacks.stop.init_args.monitor=val/nope"
    line = refused(monkeypatch, capsys, "fit", *FIT, stop, monitor)
    assert "val/nope" in line
    assert "val/accuracy" in line  # what there is


@pytest.mark.slow
def test_fit_without_a_logger(monkeypatch) -> None:
    assert ltts(monkeypatch, "fit", *FIT, "trainer.logger=false") == 0
    assert (CHECKPOINTS / "best.ckpt").exists()
    assert not Path("logs/demo/reasoner/tensorboard").exists()


@pytest.mark.slow
def test_csv_logger_instead(monkeypatch) -> None:
    """It takes over the folder of the logger that it replaces."""
    assert ltts(monkeypatch, "fit", *FIT, "trainer.logger=CSVLogger") == 0
    assert list(Path("logs/demo/reasoner/tensorboard/fit").rglob("metrics.csv"))


@pytest.mark.slow
@pytest.mark.parametrize("key", ["trainer.logger.class_path", "trainer.logger"])
def test_loggers_by_their_class_path(key: str, monkeypatch, capsys) -> None:
    name = "lightning.pytorch.loggers.CSVLogger"
    assert ltts(monkeypatch, "fit", *FIT, f"{key}={name}", "--print_config") == 0
    logger = yaml.safe_load(capsys.readouterr().out)["trainer"]["logger"]
    assert logger["class_path"] == name
    assert logger["init_args"]["save_dir"].endswith("/tensorboard")


@pytest.mark.slow
@pytest.mark.parametrize("given", ["trainer.max_time", "callbacks.timer.init_args.duration"])
def test_limited_time(given: str, monkeypatch, capsys) -> None:
    """By the option or by Lightning's callback, which the run goes on after."""
    timer = "callbacks.timer.class_path=lightning.pytorch.callbacks.Timer"
    options = [*FIT, "trainer.max_epochs=3", *([timer] if "timer" in given else [])]
    assert ltts(monkeypatch, "fit", *options, f"{given}=00:00:00:00") == 0
    assert not (CHECKPOINTS / "last.ckpt").exists()
    assert ltts(monkeypatch, "fit", *options, f"{given}=00:01:00:00") == 0
    assert torch.load(CHECKPOINTS / "last.ckpt", weights_only=True)["global_step"] == 3
    assert "soon" in refused(monkeypatch, capsys, "fit", *options, "name=x", f"{given}=soon")


@pytest.mark.slow
def test_stray_variable_of_slurm(monkeypatch) -> None:
    """One that a shell inherited, where there is no Slurm."""
    monkeypatch.setenv("SLURM_NTASKS", "2")
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert ltts(monkeypatch, "fit", *FIT, "trainer.fast_dev_run=true") == 0


@pytest.mark.slow
def test_mining_has_no_fast_dev_run(gpt2: LatentReasoner, monkeypatch, capsys) -> None:
    save_reasoner(gpt2, Path("r.ckpt"))
    options = ["experiment=demo/latent_rm", "reasoner=r.ckpt", "trainer.accelerator=cpu"]
    line = refused(monkeypatch, capsys, "mine", *options, "trainer.fast_dev_run=true")
    assert "fast_dev_run" in line
    assert not list(Path("logs").rglob("manifest.json"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "which"),
    [
        ("fit", "best"), ("fit", "registry"), ("validate", "last"), ("test", "last"),
        ("validate", "hpc"),
    ],
)  # fmt: skip
def test_checkpoint_there_is_not(command: str, which: str, monkeypatch, capsys) -> None:
    line = refused(monkeypatch, capsys, command, *FIT, f"ckpt_path={which}")
    assert which in line


@pytest.mark.slow
def test_checkpoints_by_name(monkeypatch, capsys) -> None:
    """A first fit may ask for the last one; later commands find the best and the last."""
    assert ltts(monkeypatch, "fit", *FIT, "ckpt_path=last") == 0
    assert ltts(monkeypatch, "fit", *FIT, "ckpt_path=last", "trainer.max_epochs=2") == 0
    assert torch.load(CHECKPOINTS / "last.ckpt", weights_only=True)["global_step"] == 2
    loaded = []
    keep = CoconutModule.on_load_checkpoint
    monkeypatch.setattr(
        CoconutModule,
        "on_load_checkpoint",
        lambda self, checkpoint: (loaded.append(checkpoint["epoch"]), keep(self, checkpoint)),
    )
    for which in ("best", "last"):
        assert ltts(monkeypatch, "validate", *FIT, f"ckpt_path={which}") == 0
    best = torch.load(CHECKPOINTS / "best.ckpt", weights_only=True)["epoch"]
    assert loaded == [best, 1]
    (CHECKPOINTS / "last.ckpt").write_bytes(b"\x80\x02cos\nsystem\n.")  # nothing is executed
    assert "last.ckpt" in refused(monkeypatch, capsys, "validate", *FIT, "ckpt_path=last")


@pytest.mark.slow
def test_last_lines_of_fit(monkeypatch, capsys) -> None:
    """The accuracy of the best checkpoint, not stage + accuracy, and where it is from here."""
    right = iter([0.25, 0.75, 0.5, 0.5])
    monkeypatch.setattr(
        CoconutModule,
        "greedy_correct",
        lambda self, problems: torch.full((len(problems),), next(right)),
    )
    curriculum = "model.init_args.curriculum"
    stages = [f"{curriculum}.cot_epochs=0", f"{curriculum}.stage_epochs=[3]"]
    assert ltts(monkeypatch, "fit", *FIT, *stages, "trainer.max_epochs=3") == 0
    line, following = capsys.readouterr().out.splitlines()[-2:]
    assert following.startswith("next: ltts mine experiment=demo/latent_rm")
    best = f"{CHECKPOINTS}/best.ckpt"
    assert line == f"after 3 epochs and 3 steps: {best}, val/accuracy 0.75"
    # what was known is known after a resume
    more = [f"{curriculum}.stage_epochs=[4]", "ckpt_path=last"]
    assert ltts(monkeypatch, "fit", *FIT, *stages, *more, "trainer.max_epochs=4") == 0
    line = capsys.readouterr().out.splitlines()[-2]
    assert line == f"after 4 epochs and 4 steps: {best}, val/accuracy 0.75"


def test_path_after_a_resume_elsewhere(here: Path) -> None:
    """The folder was moved: the callback still names where the run began."""
    callback = ModelCheckpoint(here / "new", filename="best")
    callback.best_model_path = "/another/machine/best.ckpt"
    assert shown_path(callback) == Path("/another/machine/best.ckpt")
    (here / "new").mkdir()
    (here / "new/best.ckpt").touch()
    assert shown_path(callback) == Path("new/best.ckpt")


@pytest.mark.slow
def test_seed_out_of_range(here: Path, monkeypatch, capsys) -> None:
    """Composed by Hydra, and given to LightningCLI."""
    expected = "seed_everything={} of the command must be a whole number from 0 to 4294967295"
    line = refused(monkeypatch, capsys, "fit", *FIT, "seed_everything=-5")
    assert expected.format(-5) in line
    assert ltts(monkeypatch, "fit", *FIT, "--print_config") == 0
    (here / "run.yaml").write_text(capsys.readouterr().out)
    for seed in (-5, 4294967296):
        plain = ["--config", "run.yaml", f"--seed_everything={seed}"]
        assert expected.format(seed) in refused(monkeypatch, capsys, "fit", *plain)
    assert not (here / "logs").exists()
