"""The rows of the study compose, and its table reads what a run leaves."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from lightning_ltts import cli
from lightning_ltts.models.latent_lm import LatentReasoner
from lightning_ltts.models.latent_rm import LatentRM
from lightning_ltts.trainer import Trainer
from lightning_ltts.training.latent_rm import LatentRMModule
from tests.helpers import save_latent_rm, save_reasoner

_SPEC = importlib.util.spec_from_file_location("study", Path(__file__).parent.parent / "benchmarks/study.py")
assert _SPEC is not None
assert _SPEC.loader is not None
study = importlib.util.module_from_spec(_SPEC)
sys.modules["study"] = study  # dataclasses look their module up
_SPEC.loader.exec_module(study)


@pytest.mark.parametrize("row", list(study.ROWS))
def test_rows(row: str, gpt2: LatentReasoner, latent_rm: LatentRM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made: list = []
    for command in ("fit", "predict"):
        monkeypatch.setattr(Trainer, command, lambda self, model, datamodule=None, **kw: made.append((model, datamodule)))
    setting = study.Setting("hard", "large", 3)
    for folder, save, model in (("reasoner", save_reasoner, gpt2), (row, save_latent_rm, latent_rm)):
        path = tmp_path / setting.folder / folder / "checkpoints" / "best.ckpt"
        path.parent.mkdir(parents=True)
        save(model, path)

    def run(command: list[str], check: bool) -> None:
        monkeypatch.setattr(sys, "argv", ["ltts", *command[3:]])
        cli.main()

    monkeypatch.setattr(study.subprocess, "run", run)
    study.run(row, setting)
    assert [type(model).__name__ for model, _ in made] == ["CoconutModule", "LatentRMModule", "LatentSearch"]
    (reasoner, problems), (rm, mining), (search, _) = made
    assert (problems.sources["train"].num_steps, problems.sources["train"].max_number) == (4, 30)
    assert reasoner.curriculum.total_epochs == 8
    assert (mining.sources["train"].num_steps, mining.sources["train"].seed) == (4, 301)
    assert repr(mining.sampler) == repr(search.sampler)
    assert search.num_samples == 64
    assert isinstance(rm, LatentRMModule)
    assert (rm.latent_rm.reference_mark is None) == (row.startswith(("paper", "answer", "probe", "random")))


def test_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / study.FOLDER / "easy-small-0" / "default" / "search"
    folder.mkdir(parents=True)
    rows = []
    for q in range(6):
        samples = [{"answer": str(i % 2), "scores": [float(i), 0.0]} for i in range(64)]
        beam = {"budget": 32, "beams": samples[:16]}
        rows.append({"id": f"q{q}", "answer": "1", "greedy": {"answer": "1"}, "samples": samples, "beam": beam})
    (folder / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "summary.json").touch()
    study.table(32)
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith("| easy-small-0 | default | 100.0 | 0.0 | 100.0 (+100.0, +100.0 .. +100.0)")
