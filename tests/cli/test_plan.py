"""`ltts plan`: what a run would take, without running it."""

import re
from pathlib import Path

import pytest

from tests.cli.helpers import ltts


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


SMALL = [
    "experiment=demo/latent_rm", "data.init_args.train.init_args.size=16",
    "data.init_args.val.init_args.size=4", "data.init_args.informative=null",
]  # fmt: skip


@pytest.mark.slow
def test_of_mining(reasoner_file: Path, here: Path, monkeypatch, capsys) -> None:
    assert ltts(monkeypatch, "plan", *SMALL, f"reasoner={reasoner_file}", "--devices", "4") == 0
    said = capsys.readouterr().out
    assert said.startswith("16 questions of ")
    assert "positions per question: " in said
    assert "completions" in said
    assert "store: " in said
    alone, shared = (float(x) for x in re.findall(r"([\d.e-]+) (?:device-)?hours ", said))
    assert shared == pytest.approx(alone / 4, rel=0.01)
    *_, last = said.splitlines()
    assert last.startswith("validation store, besides: 4 questions with 32 samples each, positions")
    assert list(here.iterdir()) == [], "nothing is made"


@pytest.mark.slow
def test_clean_thoughts_and_other_samples_of_the_stores(
    reasoner_file: Path, monkeypatch, capsys
) -> None:
    """Twice the thoughts in both stores; twice the samples in that for validation alone."""

    def planned(*options: str) -> tuple[float, float, float]:
        arguments = [
            *SMALL,
            f"reasoner={reasoner_file}",
            "data.init_args.val.init_args.size=200",
            *options,
        ]
        assert ltts(monkeypatch, "plan", *arguments) == 0
        said = capsys.readouterr().out
        train = float(re.search(r"store: ([\d,.]+) KiB per kept", said)[1].replace(",", ""))
        besides = re.search(r"besides: .* in all: ([\d.e+]+), .* ([\d.]+) MiB", said)
        return train, float(besides[1]), float(besides[2])

    train, positions, size = planned()
    clean_train, same, clean_size = planned("data.init_args.keep_clean=true")
    assert 1.6 < clean_train / train < 2
    assert 1.6 < clean_size / size < 2
    assert same == positions
    still, more, larger = planned("data.init_args.val_num_samples=64")
    assert still == train
    assert 1.6 < more / positions < 2
    assert 1.8 < larger / size < 2.1


@pytest.mark.slow
def test_of_a_search(reasoner_file: Path, latent_rm_file: Path, monkeypatch, capsys) -> None:
    options = [
        "experiment=demo/search", f"reasoner={reasoner_file}", f"latent_rm={latent_rm_file}",
        "data.init_args.problems.init_args.size=5", "model.init_args.num_samples=4",
    ]  # fmt: skip
    assert ltts(monkeypatch, "plan", *options) == 0
    said = capsys.readouterr().out
    assert "tree search" in said
    assert "LatentRM" in said
    assert "store" not in said
    assert "without" not in said
    # the defaults of a search are its own, and what is not worked out is named
    options += ["model.init_args.beam.init_args=null", "model.init_args.tuned=x.yaml"]
    assert ltts(monkeypatch, "plan", *options) == 0
    said = capsys.readouterr().out
    assert "tree search" in said
    assert "tokens; without what tuned will take\n" in said


def test_of_a_published_backbone(monkeypatch, capsys) -> None:
    """The numbers of the page on scale."""
    options = [
        "experiment=demo/latent_rm", "data.init_args.num_rollouts=8", "--shape", "llama-8b",
        "data.init_args.informative=null",
    ]  # fmt: skip
    assert ltts(monkeypatch, "plan", *options) == 0
    said = capsys.readouterr().out
    assert "385,000 questions of 60 tokens, 6 thoughts" in said
    assert "positions per question: 3,377" in said
    assert "42.5 device-hours at 40% of 312 TFLOPs/s" in said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["experiment=demo/reasoner"], "'ltts plan' is for what mines or searches"),
        ([*SMALL, "--shape", "x"], "--shape x is not known; use one of gpt2"),
        ([*SMALL, "--devices", "0"], "0 is not at least 1"),
        ([*SMALL, "--questions", "5"], "--questions goes with --shape"),
    ],
)
def test_mistakes(arguments: list[str], expected: str, monkeypatch, capsys) -> None:
    assert ltts(monkeypatch, "plan", *arguments) == 2
    assert expected in capsys.readouterr().err
