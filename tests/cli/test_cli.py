import json
from pathlib import Path

import pytest
import torch
import yaml

import lightning_ltts
from lightning_ltts import load_reasoner
from lightning_ltts.models.latent_lm import LatentReasoner
from lightning_ltts.models.latent_rm import LatentRM
from lightning_ltts.trainer import Trainer
from tests.cli.helpers import ltts
from tests.helpers import save_latent_rm, save_reasoner

pytestmark = pytest.mark.slow

SMALL = [
    "trainer.accelerator=cpu",
    "trainer.check_val_every_n_epoch=1",
    "trainer.enable_progress_bar=false",
    "model.init_args.start.backbone.n_embd=16",
    "model.init_args.start.backbone.n_layer=1",
    "data.init_args.train.init_args.size=128",
    "data.init_args.val.init_args.size=8",
]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, as a user of an installed package has it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def checkpoints(gpt2: LatentReasoner, latent_rm: LatentRM, here: Path) -> list[str]:
    reasoner, rm = save_reasoner(gpt2, here / "r.ckpt"), save_latent_rm(latent_rm, here / "rm.ckpt")
    return [f"reasoner={reasoner}", f"latent_rm={rm}"]


def test_fit_by_hydra_then_by_the_composed_file(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["experiment=demo/reasoner", "trainer.max_epochs=1", *SMALL]
    assert ltts(monkeypatch, "fit", *options) == 0
    run = here / "logs/demo/reasoner"
    assert (run / "checkpoints/best.ckpt").exists()
    composed = yaml.safe_load((run / "fit.yaml").read_text())
    assert composed["trainer"]["max_epochs"] == 1
    assert "sampler" not in composed  # served composing only
    longer = ["fit", "--config", str(run / "fit.yaml"), "--trainer.max_epochs", "2"]
    assert ltts(monkeypatch, *longer) == 2  # the folder holds another run
    assert ltts(monkeypatch, *longer, "--overwrite") == 0
    epochs = torch.load(run / "checkpoints/last.ckpt", weights_only=True)["epoch"]
    assert epochs == 1  # two epochs, counted from 0
    checkpoint = f"ckpt_path={run / 'checkpoints/best.ckpt'}"
    assert ltts(monkeypatch, "validate", *options, checkpoint) == 0
    assert (
        ltts(monkeypatch, "test", *options, checkpoint, "data.init_args.test.init_args.size=8") == 0
    )


def test_resume_of_a_finished_run_trains_on(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the learning rate and the weight decay that are given then win."""
    options = ["experiment=demo/reasoner", *SMALL]
    last = here / "logs/demo/reasoner/checkpoints/last.ckpt"
    assert ltts(monkeypatch, "fit", *options, "trainer.max_epochs=1") == 0
    resume = [
        "trainer.max_epochs=2",
        f"ckpt_path={last}",
        "model.init_args.lr=0.5",
        "model.init_args.weight_decay=0.3",
    ]
    assert ltts(monkeypatch, "fit", *options, *resume) == 0
    checkpoint = torch.load(last, weights_only=True)
    assert checkpoint["global_step"] == 4  # two epochs of two steps, none repeated
    assert checkpoint["lr_schedulers"][0]["base_lrs"] == [0.5]
    assert checkpoint["optimizer_states"][0]["param_groups"][0]["weight_decay"] == 0.3


def test_mixed_precision_fit(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (
        ltts(
            monkeypatch,
            "fit",
            "experiment=demo/reasoner",
            "trainer.max_epochs=1",
            "trainer.precision=bf16-mixed",
            *SMALL,
        )
        == 0
    )


def test_command_line_wins_over_the_checkpoint(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning's own CLI lets hyper-parameters stored in the checkpoint win, silently."""
    options = ["experiment=demo/reasoner", *SMALL]
    assert (
        ltts(monkeypatch, "fit", *options, "trainer.max_epochs=1", "model.init_args.lr=0.001") == 0
    )
    seen = []
    monkeypatch.setattr(
        Trainer, "validate", lambda self, model, **kwargs: seen.append(model.hparams.lr)
    )
    checkpoint = here / "logs/demo/reasoner/checkpoints/last.ckpt"
    assert (
        ltts(monkeypatch, "validate", *options, "model.init_args.lr=0.5", f"ckpt_path={checkpoint}")
        == 0
    )
    assert seen == [0.5]


def test_multirun(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = [
        "experiment=demo/reasoner",
        "trainer.max_epochs=1",
        "-m",
        "model.init_args.lr=0.001,0.002",
        *SMALL,
    ]
    assert ltts(monkeypatch, "fit", *options) == 0
    runs = sorted(here.glob("logs/multirun/*/*/fit.yaml"))
    assert [yaml.safe_load(run.read_text())["model"]["init_args"]["lr"] for run in runs] == [
        0.001,
        0.002,
    ]
    assert all((run.parent / "checkpoints/best.ckpt").exists() for run in runs)


def test_mine_fit_predict_report(checkpoints: list[str], here: Path, monkeypatch, capsys) -> None:
    small = [
        "trainer.accelerator=cpu",
        "trainer.enable_progress_bar=false",
        "data.init_args.train.init_args.size=16",
        "data.init_args.val.init_args.size=8",
        "data.init_args.batch_size=4",
        "data.init_args.keep_uninformative=true",
        "trainer.max_epochs=1",
    ]
    assert ltts(monkeypatch, "mine", "experiment=demo/latent_rm", *checkpoints, *small) == 0
    assert (here / "logs/demo/latent_rm/trajectories/train/manifest.json").exists()
    assert not (here / "logs/demo/latent_rm/checkpoints").exists()
    assert ltts(monkeypatch, "fit", "experiment=demo/latent_rm", *checkpoints, *small) == 0
    trained = f"latent_rm={here}/logs/demo/latent_rm/checkpoints/best.ckpt"
    search = [
        "experiment=demo/search",
        checkpoints[0],
        trained,
        "data.init_args.problems.init_args.size=5",
    ]
    search += [
        "trainer.accelerator=cpu",
        "trainer.enable_progress_bar=false",
        "model.init_args.num_samples=4",
    ]
    assert ltts(monkeypatch, "predict", *search) == 0
    capsys.readouterr()
    assert ltts(monkeypatch, "report", "logs/demo/search", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["num_problems"] == 5
    assert {"greedy", "majority@4", "weighted_vote@4", "best_of_n@4", "beam@32"} <= report[
        "results"
    ].keys()
    assert ltts(monkeypatch, "report", "logs/demo/search") == 0
    assert "beam_vote@32" in capsys.readouterr().out
    events = list((here / "logs/demo/search/tensorboard").rglob("events*"))
    assert events, "the curves are in TensorBoard"
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(events[0].parent))
    accumulator.Reload()
    assert {"predict/coverage", "predict/majority"} <= set(accumulator.Tags()["scalars"])
    assert [event.step for event in accumulator.Scalars("predict/majority")] == [1, 2, 4]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["fit", "experiment=nope"], "Could not find 'experiment/nope'"),
        (["fit", "experiment=demo/reasoner", "trainer.max_epoch=3"], "trainer.max_epoch"),
        (["fit", "experiment=demo/reasoner", "model.init_args.lrr=3"], "lrr"),
        (
            ["fit", "experiment=demo/reasoner", "model.init_args.lr=abc"],
            "Expected a <class 'float'>. Got value: abc",
        ),
        (
            ["fit", "experiment=demo/reasoner", "model.class_path=lightning_ltts.Nope"],
            "no attribute 'Nope'",
        ),
        (["fit", "mdoel=3"], "mdoel"),
        (["fit", "sampler=nope"], "sampler/nope"),
        (["fit", "--config", "nope.yaml"], "nope.yaml"),
        (["frobnicate"], "'frobnicate' is not a command; the commands are fit, mine"),
        (["fti"], "'fti' is not a command; did you mean 'fit'? The commands are fit, mine"),
        (["report", "nope.jsonl"], "nope.jsonl does not exist"),
        (["mine", "experiment=demo/reasoner"], "MiningData"),
        (["fit", "experiment=demo/latent_rm"], "best.ckpt does not exist"),
        (["predict", "experiment=demo/search"], "best.ckpt does not exist"),
        (["fit", "experiment=demo/reasoner", "ckpt_path=nope.ckpt"], "nope.ckpt does not exist"),
        (
            ["fit", "experiment=demo/reasoner", "data.init_args.train.init_args.num_steps=8"],
            "positions",
        ),
        (
            ["predict", "experiment=demo/search", "CHECKPOINTS", "model.init_args.num_samples=0"],
            "num_samples=0",
        ),
        (
            [
                "predict",
                "experiment=demo/search",
                "CHECKPOINTS",
                "model.init_args.beam.init_args.beams=5000",
            ],
            "limit of 4096",
        ),
        (
            ["predict", "experiment=demo/search", "CHECKPOINTS", "reasoner=rm.ckpt"],
            "holds a LatentRM",
        ),
        (
            [
                "predict",
                "experiment=demo/search",
                "CHECKPOINTS",
                "model.init_args.spec.num_toughts=2",
            ],
            "num_toughts",
        ),
        (["import", "nope.ckpt", "target"], "nope.ckpt does not exist"),
        (["import", "r.ckpt", "target", "--set", "method=nope"], "method 'nope' is not known"),
        (
            ["predict", "experiment=files/search", "CHECKPOINTS", "problems_dir=."],
            "multiarith.json does not exist",
        ),
    ],
    ids=lambda value: " ".join(value[1:3]) if isinstance(value, list) else "",
)
def test_mistakes_end_in_one_line(
    arguments: list[str], expected: str, checkpoints, here: Path, monkeypatch, capfd
) -> None:
    position = arguments.index("CHECKPOINTS") if "CHECKPOINTS" in arguments else None
    if position is not None:
        given = [
            c for c in checkpoints if c.split("=")[0] not in {a.split("=")[0] for a in arguments}
        ]
        arguments = [*arguments[:position], *given, *arguments[position + 1 :]]
    assert ltts(monkeypatch, *arguments) == 2
    error = capfd.readouterr().err
    (line,) = [x for x in error.splitlines() if x.startswith("error: ")]
    assert expected in line
    assert "Traceback" not in error
    assert not list(here.rglob("predictions.jsonl"))


def test_help(monkeypatch, capsys, here: Path) -> None:
    assert ltts(monkeypatch) == 0
    text = capsys.readouterr().out
    assert "demo/reasoner" in text
    assert "search over a problem set" in text
    assert ltts(monkeypatch, "fit", "--help-all") == 0
    assert "--trainer.max_epochs" in capsys.readouterr().out
    assert ltts(monkeypatch, "fit", "experiment=demo/reasoner", "--print_config") == 0
    assert yaml.safe_load(capsys.readouterr().out)["trainer"]["max_epochs"] > 1


def test_own_experiment_folder(here: Path, monkeypatch, capsys) -> None:
    (here / "mine/experiment").mkdir(parents=True)
    (here / "mine/experiment/own.yaml").write_text(
        "# @package _global_\ntrainer:\n  max_epochs: 3\n"
    )
    assert ltts(monkeypatch, "fit", "--config-dir", "mine", "experiment=own", "--print_config") == 0
    assert yaml.safe_load(capsys.readouterr().out)["trainer"]["max_epochs"] == 3


def test_import_and_export(checkpoints: list[str], here: Path, monkeypatch, capsys) -> None:
    """Trained checkpoint -> folder -> folder with other settings, each used like the first."""
    assert ltts(monkeypatch, "export", "r.ckpt", "exported") == 0
    assert "latent reasoner" in capsys.readouterr().out
    arguments = ["--set", "num_thoughts=2", "--set", "answer_which=last", "--dtype", "bfloat16"]
    assert ltts(monkeypatch, "import", "exported", "again", *arguments) == 0
    out = capsys.readouterr().out
    assert "num_thoughts: 2" in out
    assert 'dtype: "bfloat16"' in out
    texts = [
        "--set",
        "prompt_template=Q: {question}\\n",
        "--set",
        "answer_marker=#",
        "--set",
        "answer_which=only",
    ]
    assert ltts(monkeypatch, "import", "exported", "texts", *texts) == 0
    spec = load_reasoner("texts").spec
    assert (spec.prompt_template, spec.answer_marker, spec.answer_which) == (
        "Q: {question}\n",
        "#",
        "only",
    )
    capsys.readouterr()
    assert ltts(monkeypatch, "export", "rm.ckpt", "rm") == 0
    assert "LatentRM" in capsys.readouterr().out
    assert ltts(monkeypatch, "export", "r.ckpt", "rm") == 2
    assert "rm is not an empty folder; give another target" in capsys.readouterr().err
    small = [
        "trainer.accelerator=cpu",
        "data.init_args.problems.init_args.size=4",
        "model.init_args.num_samples=2",
    ]
    arguments = [
        "experiment=demo/search",
        "name=x",
        "reasoner=exported",
        "latent_rm=rm",
        "model.init_args.beam=null",
        *small,
    ]
    assert ltts(monkeypatch, "predict", *arguments) == 0
    assert len((here / "logs/x/predictions.jsonl").read_text().splitlines()) == 4


def test_version_and_list(monkeypatch, capsys) -> None:
    """The experiments come a line each, with what they are."""
    assert ltts(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"ltts {lightning_ltts.__version__}\n"
    assert ltts(monkeypatch, "list") == 0
    lines = capsys.readouterr().out.splitlines()
    (search,) = [line.split(maxsplit=1) for line in lines if line.split()[0] == "demo/search"]
    assert search[1].startswith("predict: votes, best-of-N")
