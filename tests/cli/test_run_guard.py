"""Nothing that the README shows destroys a finished run; an interrupted one goes on by itself."""

import json
from pathlib import Path

import pytest
import torch
import yaml

from lightning_ltts.cli.run_guard import RunGuard
from lightning_ltts.run_folder import FIT_MANIFEST
from lightning_ltts.training.reasoner import ReasonerModule
from tests.cli.helpers import ltts

pytestmark = pytest.mark.slow  # each runs whole commands

SMALL = [
    "trainer.check_val_every_n_epoch=1",
    "trainer.accelerator=cpu", "trainer.enable_progress_bar=false", "trainer.max_epochs=2",
    "model.init_args.start.backbone.n_embd=16", "model.init_args.start.backbone.n_layer=1",
    "data.init_args.train.init_args.size=64", "data.init_args.val.init_args.size=8",
    "data.init_args.batch_size=32",
]  # fmt: skip
MINING = [
    "trainer.accelerator=cpu", "trainer.enable_progress_bar=false", "trainer.max_epochs=1",
    "data.init_args.train.init_args.size=16", "data.init_args.val.init_args.size=8",
    "data.init_args.batch_size=4", "data.init_args.keep_uninformative=true",
    "data.init_args.num_samples=4", "data.init_args.val_num_samples=4", "data.init_args.num_rollouts=1",
]  # fmt: skip
RUN = Path("logs/demo/reasoner")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files(folder: Path) -> dict[str, bytes]:
    """All that a run leaves but its TensorBoard logs, of which every command has its own."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "tensorboard" not in path.parts
    }


class KilledError(BaseException):
    """Stands for a kill in the middle of a run."""


def fit_killed_in_epoch(monkeypatch: pytest.MonkeyPatch, epoch: int, *arguments: str) -> None:
    step = ReasonerModule.training_step

    def dies(self, batch, batch_idx):
        if self.current_epoch == epoch:
            raise KilledError
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patched:
        patched.setattr(ReasonerModule, "training_step", dies)
        with pytest.raises(KilledError):
            ltts(patched, *arguments)


def test_the_readme_destroys_nothing(here: Path, monkeypatch, capfd) -> None:
    """The pipeline; the README's first changed command in all forms; the pipeline again."""
    fit, predict = (
        ["fit", "experiment=demo/reasoner", *SMALL],
        ["predict", "experiment=demo/search"],
    )
    predict += [
        *MINING[:2],
        "data.init_args.problems.init_args.size=4",
        "model.init_args.num_samples=2",
    ]
    assert ltts(monkeypatch, *fit, "model.init_args.curriculum.cot_epochs=1") == 0
    fit.append("model.init_args.curriculum.cot_epochs=1")
    pipeline = [
        ["mine", "experiment=demo/latent_rm", *MINING],
        ["fit", "experiment=demo/latent_rm", *MINING],
        predict,
    ]
    for command in pipeline:
        assert ltts(monkeypatch, *command) == 0
    before = files(here)
    capfd.readouterr()
    assert ltts(monkeypatch, *fit, "trainer.max_epochs=3", "model.init_args.lr=1e-3") == 2
    (line,) = [x for x in capfd.readouterr().err.splitlines() if x.startswith("error: ")]
    assert "was made with model.init_args.lr=0.003, but this run has 0.001" in line
    printed = ["trainer.max_epochs=3", "name=demo/reasoner", "--print_config"]
    assert ltts(monkeypatch, *fit, *printed) == 0
    (here / "run.yaml").write_text(capfd.readouterr().out)
    assert ltts(monkeypatch, "fit", "--config", "run.yaml") == 2
    assert "was made with trainer.max_epochs=2, but this run has 3" in capfd.readouterr().err
    assert ltts(monkeypatch, "fit", "--config", "run.yaml", "--trainer.max_epochs", "2") == 0
    for command in (fit, *pipeline[1:2]):
        assert ltts(monkeypatch, *command) == 0
        assert "holds the finished run of these settings" in capfd.readouterr().out
    for command in (pipeline[0], predict):
        assert ltts(monkeypatch, *command) == 0
    assert ltts(monkeypatch, *predict, "model.init_args.num_samples=3") == 2
    after = files(here)
    after.pop("run.yaml")
    # what Hydra says of a folder is about the last command there, `mine` here
    both = [name for name in before if not name.startswith("logs/demo/latent_rm/hydra/")]
    assert [name for name in both if after.get(name) != before[name]] == []
    assert after.keys() == before.keys()


def test_an_interrupted_training_goes_on_by_the_same_command(here: Path, monkeypatch) -> None:
    fit = ["fit", "experiment=demo/reasoner", *SMALL, "trainer.max_epochs=3"]
    assert ltts(monkeypatch, *fit, "name=whole") == 0
    fit_killed_in_epoch(monkeypatch, 1, *fit)
    assert json.loads((RUN / FIT_MANIFEST).read_text())["finished"] is None
    assert (
        ltts(monkeypatch, *fit, "model.init_args.lr=0.5") == 2
    )  # an unfinished run is not mixed either
    said: list[str] = []
    monkeypatch.setattr("lightning_ltts.cli.run_guard.rank_zero_info", said.append)
    assert ltts(monkeypatch, *fit) == 0
    assert said[0].startswith(f"goes on from {here / RUN / 'checkpoints/last.ckpt'}")
    one, two = (
        torch.load(x / "checkpoints/last.ckpt", weights_only=True)
        for x in (RUN, Path("logs/whole"))
    )
    assert (one["epoch"], one["global_step"]) == (two["epoch"], two["global_step"]) == (2, 6)
    assert all(
        torch.equal(one["state_dict"][key], two["state_dict"][key]) for key in two["state_dict"]
    )
    finished = json.loads((RUN / FIT_MANIFEST).read_text())["finished"]
    assert (finished["epochs"], finished["steps"], finished["best"]) == (3, 6, "best.ckpt")


def test_a_metric_that_was_logged_once_outlives_two_kills(here: Path, monkeypatch) -> None:
    """The learning rate is logged in the fourth of six steps alone; the kills come after it."""
    rate = "+callbacks.rate.class_path=lightning.pytorch.callbacks.LearningRateMonitor"
    fit = ["fit", "experiment=demo/reasoner", *SMALL, "trainer.max_epochs=3", rate]
    fit.append("trainer.log_every_n_steps=4")
    assert ltts(monkeypatch, *fit, "name=whole") == 0
    fit_killed_in_epoch(monkeypatch, 2, *fit)
    with monkeypatch.context() as patched:

        def dies(self, trainer):
            raise KilledError

        patched.setattr(RunGuard, "finish", dies)
        with pytest.raises(KilledError):
            ltts(monkeypatch, *fit)
    assert ltts(monkeypatch, *fit) == 0
    one, two = (
        json.loads((x / FIT_MANIFEST).read_text())["finished"]["metrics"]
        for x in (RUN, Path("logs/whole"))
    )
    assert "lr-AdamW" in two
    assert one.keys() == two.keys()


def test_overwriting_is_explicit(here: Path, monkeypatch, capfd) -> None:
    """Where the new training dies before its first checkpoint, no old one passes for its own."""
    fit = ["fit", "experiment=demo/reasoner", *SMALL]
    assert ltts(monkeypatch, *fit) == 0
    fit_killed_in_epoch(monkeypatch, 0, *fit, "model.init_args.lr=0.01", "--overwrite")
    assert not list((RUN / "checkpoints").iterdir())
    assert yaml.safe_load((RUN / "fit.yaml").read_text())["model"]["init_args"]["lr"] == 0.01
    assert ltts(monkeypatch, *fit, "model.init_args.lr=0.01") == 0
    assert json.loads((RUN / FIT_MANIFEST).read_text())["settings"]["model.init_args.lr"] == 0.01
    assert ltts(monkeypatch, "mine", "experiment=demo/latent_rm", "--overwrite") == 2
    assert "'ltts mine' has no --overwrite" in capfd.readouterr().err


def test_a_mistake_does_not_overwrite(here: Path, monkeypatch) -> None:
    fit = ["fit", "experiment=demo/reasoner", *SMALL]
    assert ltts(monkeypatch, *fit) == 0
    before = files(here)
    assert (
        ltts(monkeypatch, *fit, "data.init_args.batch_size=128", "--overwrite") == 2
    )  # more than there are problems
    assert ltts(monkeypatch, *fit, "model.init_args.lrr=3", "--overwrite") == 2
    assert files(here) == before


def test_new_settings_by_a_given_checkpoint_are_recorded(here: Path, monkeypatch, capfd) -> None:
    fit = ["fit", "experiment=demo/reasoner", *SMALL]
    assert ltts(monkeypatch, *fit) == 0
    more = [*fit, "trainer.max_epochs=3", "model.init_args.lr=0.001"]
    assert ltts(monkeypatch, *more, f"ckpt_path={RUN}/checkpoints/last.ckpt") == 0
    assert torch.load(RUN / "checkpoints/last.ckpt", weights_only=True)["epoch"] == 2
    capfd.readouterr()
    assert ltts(monkeypatch, *more) == 0
    assert "finished run of these settings (3 epochs, 6 steps" in capfd.readouterr().out
    assert ltts(monkeypatch, *fit) == 2


def test_a_trial_run_leaves_nothing(here: Path, monkeypatch) -> None:
    assert (
        ltts(monkeypatch, "fit", "experiment=demo/reasoner", *SMALL, "trainer.fast_dev_run=true")
        == 0
    )
    assert not (RUN / FIT_MANIFEST).exists()
    assert not list(here.rglob("*.ckpt"))
    without = [
        "callbacks.checkpoint=null",
        "callbacks.last=null",
        "trainer.enable_checkpointing=false",
    ]
    assert ltts(monkeypatch, "fit", "experiment=demo/reasoner", *SMALL, *without) == 0
    assert not (RUN / FIT_MANIFEST).exists()


def test_a_damaged_checkpoint_is_not_gone_on_from(here: Path, monkeypatch, capfd) -> None:
    fit = ["fit", "experiment=demo/reasoner", *SMALL]
    fit_killed_in_epoch(monkeypatch, 1, *fit)
    last = RUN / "checkpoints/last.ckpt"
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1
    last.write_bytes(content)
    capfd.readouterr()
    assert ltts(monkeypatch, *fit) == 2
    assert "last.ckpt is damaged" in capfd.readouterr().err


def test_a_run_that_has_no_time_left_is_not_finished(here: Path, monkeypatch) -> None:
    fit = ["fit", "experiment=demo/reasoner", *SMALL]
    fit += ["trainer.max_epochs=100", "callbacks.flat_accuracy=null"]
    assert ltts(monkeypatch, *fit, "trainer.max_time={seconds: 1}") == 0
    assert json.loads((RUN / FIT_MANIFEST).read_text())["finished"] is None


def test_early_stopping_is_remembered(here: Path, monkeypatch) -> None:
    """A kill after the last epoch, before the run could say that it is finished: no epoch more."""
    options = "{monitor: val/accuracy, patience: 1, mode: max}"
    stop = f"{{class_path: lightning.pytorch.callbacks.EarlyStopping, init_args: {options}}}"
    fit = [
        "fit",
        "experiment=demo/reasoner",
        *SMALL,
        "trainer.max_epochs=9",
        f"+callbacks.early={stop}",
    ]
    with monkeypatch.context() as patched:
        patched.setattr(RunGuard, "finish", lambda *_: (_ for _ in ()).throw(KilledError()))
        with pytest.raises(KilledError):
            ltts(patched, *fit)
    before = torch.load(RUN / "checkpoints/last.ckpt", weights_only=True)
    assert before["epoch"] < 8, "it stopped early"
    assert ltts(monkeypatch, *fit) == 0
    assert torch.load(RUN / "checkpoints/last.ckpt", weights_only=True)["epoch"] == before["epoch"]
    assert json.loads((RUN / FIT_MANIFEST).read_text())["finished"]["epochs"] == before["epoch"] + 1
