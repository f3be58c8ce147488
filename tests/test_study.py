"""The rows of the study compose, and its table reads what a run leaves."""

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from lightning_ltts import cli
from lightning_ltts.trainer import Trainer

pytestmark = pytest.mark.slow

_SPEC = importlib.util.spec_from_file_location(
    "study", Path(__file__).parent.parent / "benchmarks/study.py"
)
assert _SPEC is not None
assert _SPEC.loader is not None
study = importlib.util.module_from_spec(_SPEC)
sys.modules["study"] = study  # dataclasses look their module up
_SPEC.loader.exec_module(study)


@pytest.fixture
def made(
    reasoner_file: Path, latent_rm_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, tuple[Any, Any]]:
    """What the commands of a row make: name of the module -> module and data, neither of which runs."""
    monkeypatch.chdir(tmp_path)
    made: dict[str, tuple[Any, Any]] = {}

    def stop(self: Trainer, model: Any, datamodule: Any = None, **options: Any) -> None:
        made[type(model).__name__] = (model, datamodule)

    def stop_fit(self: Trainer, model: Any, datamodule: Any = None, **options: Any) -> None:
        stop(self, model, datamodule)
        keep(Path(self.default_root_dir).relative_to(SETTING.folder.absolute()))

    def run(command: list[str], check: bool) -> None:
        monkeypatch.setattr(sys, "argv", ["ltts", *command[3:]])
        cli.main()

    monkeypatch.setattr(Trainer, "fit", stop_fit)
    monkeypatch.setattr(Trainer, "predict", stop)
    monkeypatch.setattr(study.subprocess, "run", run)
    (tmp_path / "r.ckpt").symlink_to(reasoner_file)
    (tmp_path / "rm.ckpt").symlink_to(latent_rm_file)
    return made


SETTING = study.Setting("hard", "large", 3)


def keep(stage: str | Path) -> None:
    """Puts a stage's checkpoint where a row looks for it."""
    path = SETTING.folder / stage / "checkpoints/best.ckpt"
    path.parent.mkdir(parents=True)
    path.symlink_to(Path("r.ckpt" if str(stage) == "reasoner" else "rm.ckpt").resolve())


def mark(finished: str) -> None:
    """Makes the file that says of a stage that it is finished, and not run again."""
    path = SETTING.folder / finished
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def test_stages_of_a_row(made: dict[str, tuple[Any, Any]]) -> None:
    study.run("default", SETTING)
    assert list(made) == ["CoconutModule", "LatentRMModule", "LatentSearch"]
    reasoner, problems = made["CoconutModule"]
    assert (problems.sources["train"].num_steps, problems.sources["train"].max_number) == (4, 30)
    _, each, last = study.CURRICULUM["hard"]
    assert reasoner.curriculum.total_epochs == 4 * each + last  # one of text, then four stages
    expect_one_sampler(made)


def expect_one_sampler(made: dict[str, tuple[Any, Any]]) -> None:
    (_, mining), (search, _) = made["LatentRMModule"], made["LatentSearch"]
    assert repr(mining.sampler) == repr(search.sampler)
    assert search.num_samples == 64


@pytest.mark.parametrize("row", list(study.ROWS))
def test_rows(row: str, made: dict[str, tuple[Any, Any]]) -> None:
    """All rows share the reasoner; a search differs from that of other rows by its sampler alone."""
    own_sampler = bool(study.ROWS[row].sampler)
    keep("reasoner")
    mark("reasoner.done")
    if not own_sampler:
        mark(f"{row}/search/summary.json")
    study.run(row, SETTING)
    rm, mining = made["LatentRMModule"]
    assert (mining.sources["train"].num_steps, mining.sources["train"].seed) == (4, 301)
    assert (rm.latent_rm.reference_mark is None) == (
        row.startswith(("paper", "answer", "probe", "random"))
    )
    assert ("LatentSearch" in made) == own_sampler
    if own_sampler:
        expect_one_sampler(made)


def test_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / study.FOLDER / "easy-small-0" / "default" / "search"
    folder.mkdir(parents=True)
    rows = []
    for q in range(6):
        samples = [{"answer": str(i % 2), "scores": [float(i), 0.0]} for i in range(64)]
        beam = {"budget": 32, "beams": samples[:16]}
        rows.append(
            {
                "id": f"q{q}",
                "answer": "1",
                "greedy": {"answer": "1"},
                "samples": samples,
                "beam": beam,
            }
        )
    (folder / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "summary.json").touch()
    study.table(32)
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith(
        "| easy-small-0 | default | 100.0 | 0.0 | 100.0 (+100.0, +100.0 .. +100.0)"
    )
