"""Model cards: what they say, and that the command in them runs."""

import json
import shlex
import sys
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from lightning_ltts import cli
from lightning_ltts.models.latent_lm import LatentReasoner, fingerprint
from lightning_ltts.models.latent_rm import LatentRM
from lightning_ltts.models.model_card import model_card
from tests.helpers import save_latent_rm, save_reasoner
from tests.models.helpers import make_base, save_adapters


def card_of(folder: str) -> ModelCard:
    return ModelCard(Path(folder, "README.md").read_text())


@pytest.fixture
def runs(
    tmp_path: Path, gpt2: LatentReasoner, latent_rm: LatentRM, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A working directory with a training, a LatentRM's, and searches with them and with others."""
    monkeypatch.chdir(tmp_path)
    for name in ("reasoner", "latent_rm"):
        Path(f"logs/{name}/checkpoints").mkdir(parents=True)
    save_reasoner(gpt2, Path("logs/reasoner/checkpoints/best.ckpt"))
    save_latent_rm(latent_rm, Path("logs/latent_rm/checkpoints/best.ckpt"))
    settings = {"model.init_args.lr": 0.02, "seed_everything": 0, "trainer.max_steps": None}
    settings["data.init_args.train.init_args.paths.0"] = "/home/me/saved:train"
    finished = {"epochs": 3, "metrics": {"val/accuracy": 0.7512}}
    Path("logs/reasoner/fit.manifest.json").write_text(
        json.dumps({"settings": settings, "finished": finished})
    )
    gain = {"gain": 0.1, "low": 0.05, "high": 0.15}
    lines = {
        "greedy": {"accuracy": 0.5, "interval": [0.4, 0.6]},
        "majority@4": {"accuracy": 0.6, "interval": [0.5, 0.7], "against_greedy": gain},
    }
    for name, reasoner in (("search", fingerprint(gpt2)), ("other", "ffff")):
        Path(f"logs/{name}").mkdir()
        manifest = {"reasoner": reasoner, "latent_rm": fingerprint(latent_rm), "seed": 0}
        manifest |= {"sampler": {"class": "GaussianNoise", "std": 0.6}, "num_samples": 4}
        Path(f"logs/{name}/predictions.manifest.json").write_text(json.dumps(manifest))
        summary = {"num_problems": 1200, "results": lines}
        Path(f"logs/{name}/summary.json").write_text(json.dumps(summary))
    Path("logs/search/predict.yaml").write_text(
        "data:\n  init_args:\n    problems:\n      class_path: a.ProblemFiles\n"
        "      init_args: {paths: [/home/me/test.json], limit: null}\n"
    )
    return tmp_path


def ltts(monkeypatch: pytest.MonkeyPatch, command: str) -> int:
    monkeypatch.setattr(sys, "argv", shlex.split(command))
    try:
        cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_export_says_how_it_was_trained_and_what_it_came_to(runs: Path, monkeypatch) -> None:
    assert ltts(monkeypatch, "ltts export logs/reasoner/checkpoints/best.ckpt mine") == 0
    card = card_of("mine")
    assert card.data.library_name == "lightning_ltts"
    assert set(card.data.tags) >= {"latent-reasoning", "coconut"}
    assert card.data.license is None  # the user's to choose
    for expected in (
        "# mine",
        "epochs: 3, val/accuracy: 0.7512",
        "model.init_args.lr=0.02",
        "data.init_args.train.init_args.paths.0=saved:train",
        "1,200 problems of `ProblemFiles(paths=['test.json'])`, 4 samples each",
        "| majority@4 | 60.0% | 50.0% to 70.0% | +10.0 (+5.0 to +15.0) |",
        "To be filled in",
    ):
        assert expected in card.text, expected
    assert card.text.count("1,200 problems") == 1  # not those of the other reasoner
    assert "max_steps" not in card.text
    # both searches were with this LatentRM
    assert ltts(monkeypatch, "ltts export logs/latent_rm/checkpoints/best.ckpt rm") == 0
    assert card_of("rm").text.count("1,200 problems") == 2
    assert "Not recorded" in card_of("rm").text


@pytest.mark.slow
def test_a_folder_tells_nothing_of_the_machine(runs: Path, monkeypatch) -> None:
    """What is pushed names no folder above the models, whatever it was made from."""
    make_base(runs / "bases/gpt2", "gpt2")
    save_adapters(runs / "bases/gpt2", runs / "adapters/mine")
    checkpoint = runs / "logs/reasoner/checkpoints/best.ckpt"
    for command in (
        f"export {checkpoint} {runs}/mine --results {runs}/logs/search",
        f"import {runs}/bases/gpt2 {runs}/untrained",
        f"import {runs}/adapters/mine again --base {runs}/bases/gpt2",
    ):
        assert ltts(monkeypatch, f"ltts {command}") == 0
    for file in (path for name in ("mine", "untrained", "again") for path in Path(name).iterdir()):
        content = file.read_bytes()
        for folder in (
            str(runs),
            str(Path.home()),
            "/home/me",
            "bases/",
            "adapters/",
            "logs/reasoner",
        ):
            assert folder.encode() not in content, (file, folder)
    assert json.loads(Path("mine/provenance.json").read_text())["source"] == "best.ckpt"
    facts = json.loads(Path("again/provenance.json").read_text())
    assert (facts["source"], facts["base"]) == ("mine", "gpt2")


def test_results_are_its_own(runs: Path, monkeypatch, capsys) -> None:
    export = "ltts export logs/reasoner/checkpoints/best.ckpt"
    assert ltts(monkeypatch, f"{export} a --results logs/search") == 0
    assert ltts(monkeypatch, f"{export} b --results logs/other") == 2
    assert "was made with another reasoner" in capsys.readouterr().err
    assert ltts(monkeypatch, f"{export} c --results logs/reasoner") == 2
    assert "is not the folder of a finished 'ltts predict'" in capsys.readouterr().err
    assert not Path("b").exists() or not any(Path("b").iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["reasoner", "latent_rm"])
def test_the_command_and_the_code_of_a_card_run(
    kind: str, runs: Path, gpt2: LatentReasoner, latent_rm: LatentRM, monkeypatch
) -> None:
    model = gpt2 if kind == "reasoner" else latent_rm
    gpt2.save_pretrained("REASONER")
    model.save_pretrained("MODEL")
    text = card_of("MODEL").text
    (command,) = (line.strip() for line in text.splitlines() if line.startswith("    ltts "))
    Path("FILE").write_text('{"question": "Ann has 3 pens. How many pens are left?", "answer": 3}')
    options = "name=x trainer.accelerator=cpu model.init_args.num_samples=2 --quiet"
    if kind == "latent_rm":
        options += " model.init_args.beam.init_args.beams=1"
    assert ltts(monkeypatch, f"{command} {options}") == 0
    assert Path("logs/x/summary.json").is_file()
    (code,) = text.split("```python\n")[1:]
    exec(code.split("```")[0], {})


def test_a_card_of_a_model_that_was_never_measured(gpt2: LatentReasoner) -> None:
    card = ModelCard(model_card(gpt2, "x"))
    assert "Not measured yet" in card.text
    assert "| thoughts | 3 |" in card.text
