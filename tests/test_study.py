"""The rows of the study compose, and its table reads what a run leaves."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import study
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging
from study_alone import summary_of
from study_settings import (
    FOLDER,
    REINFORCED_ON,
    ROWS,
    SCALING,
    SELF_TRAINED_ON,
    TASKS,
    TRAININGS,
    Row,
    Setting,
)
from study_stages import (
    explicit,
    explicit_latent_rm,
    longer,
    reinforced,
    run,
    searched_reasoner,
    self_trained,
    self_trained_by_choice,
    trained_otherwise,
)
from study_table import beam_against_vote, kept, table

from lightning_ltts import cli
from lightning_ltts.data.graph_problems import GraphProblems
from lightning_ltts.prediction.tuned import TUNED, Tuned
from lightning_ltts.sampling import MCDropout, SingularValueNoise, TokenSampling
from lightning_ltts.trainer import Trainer
from lightning_ltts.training.coconut import CoconutModule

pytestmark = pytest.mark.slow


@pytest.fixture
def made(
    reasoner_file: Path, latent_rm_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, tuple[Any, Any]]:
    """What the commands of a row make: name of the module -> module and data, neither of which runs."""
    monkeypatch.chdir(tmp_path)
    made: dict[str, tuple[Any, Any]] = {}

    def stop(self: Trainer, model: Any, datamodule: Any = None, **options: Any) -> None:
        made[type(model).__name__] = (model, datamodule)
        model.averaged = any(isinstance(one, EMAWeightAveraging) for one in self.callbacks)

    def stop_fit(self: Trainer, model: Any, datamodule: Any = None, **options: Any) -> None:
        stop(self, model, datamodule)
        keep(Path(self.default_root_dir).relative_to(SETTING.folder.absolute()))

    def stop_tune(self: Trainer, model: Any, datamodule: Any = None, **options: Any) -> None:
        assert datamodule.source.split == "valid"
        Tuned(model.sampler, {"greedy_votes": 8.0}).save(Path(self.default_root_dir) / TUNED)

    def run_here(command: list[str], check: bool) -> None:
        # a folder with a checkpoint that no training is known to have written would be refused
        anew = ["--overwrite"] if command[3] == "fit" else []
        monkeypatch.setattr(sys, "argv", ["ltts", *command[3:], *anew])
        cli.main()

    monkeypatch.setattr(Trainer, "fit", stop_fit)
    monkeypatch.setattr(Trainer, "predict", stop)
    monkeypatch.setattr(Trainer, "tune", stop_tune)
    monkeypatch.setattr(subprocess, "run", run_here)
    (tmp_path / "r.ckpt").symlink_to(reasoner_file)
    (tmp_path / "rm.ckpt").symlink_to(latent_rm_file)
    return made


SETTING = Setting("hard", "large", 3)
REASONERS = (
    "reasoner",
    "explicit",
    "longer",
    "paths",
    "self_trained",
    "self_trained_by_choice",
    *TRAININGS,
    "maxrl_svp",
    "maxrl_tokens",
)


def keep(stage: str | Path) -> None:
    """Puts a stage's checkpoint where a row looks for it."""
    path = SETTING.folder / stage / "checkpoints/best.ckpt"
    path.parent.mkdir(parents=True)
    reasons = str(stage) in REASONERS
    path.symlink_to(Path("r.ckpt" if reasons else "rm.ckpt").resolve())


def mark(*finished: str) -> None:
    """Makes the files that say of stages that they are finished, and not run again."""
    for path in (SETTING.folder / name for name in finished):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_stages_of_a_row(made: dict[str, tuple[Any, Any]]) -> None:
    run("default", SETTING)
    assert list(made) == ["CoconutModule", "LatentRMModule", "LatentSearch"]
    assert made["LatentSearch"][0].tuned.fitted == {"greedy_votes": 8.0}
    reasoner, problems = made["CoconutModule"]
    assert (problems.sources["train"].num_steps, problems.sources["train"].max_number) == (4, 30)
    assert reasoner.curriculum.total_epochs == sum(TASKS["hard"].epochs)
    assert reasoner.curriculum.last.num_thoughts == 4  # after text, four stages
    assert reasoner.sampler.settings() == made["LatentRMModule"][1].sampler.settings()
    expect_one_sampler(made)


def test_the_graph_task(made: dict[str, tuple[Any, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    """All stages, and reinforcement, are of its own problems and experiments."""
    graph = Setting("graph", "small", 3)
    monkeypatch.setattr(sys.modules[__name__], "SETTING", graph)
    run("default", graph)
    reasoner, problems = made["CoconutModule"]
    assert isinstance(problems.sources["train"], GraphProblems)
    assert problems.sources["train"].hops == 4
    assert reasoner.start.pretrained == str(graph.best("paths"))
    assert reasoner.curriculum.total_epochs == sum(TASKS["graph"].epochs)
    assert isinstance(made["LatentRMModule"][1].sources["train"], GraphProblems)
    assert isinstance(made["LatentSearch"][1].source, GraphProblems)
    mark("maxrl_svp/search/summary.json")
    reinforced(graph, "svp")
    assert isinstance(made["GrpoModule"][1].sources["train"], GraphProblems)
    explicit(graph)
    reasoner, problems = made["CoconutModule"]
    train = problems.sources["train"]
    assert (train.size, train.seed, train.hops) == (TASKS["graph"].trained_on, 300, 4)
    assert reasoner.start.pretrained == str(graph.best("paths"))
    assert reasoner.curriculum.last.num_thoughts == 0
    assert isinstance(made["LatentSearch"][0].sampler, TokenSampling)
    assert made["LatentSearch"][0].latent_rm is None


def test_a_row_that_a_task_has_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["study.py", "explicit_latent_rm", "--task", "graph"])
    with pytest.raises(SystemExit):
        study.main()
    assert "explicit_latent_rm is there for word problems alone" in capsys.readouterr().err


def expect_one_sampler(made: dict[str, tuple[Any, Any]]) -> None:
    (_, mining), (search, _) = made["LatentRMModule"], made["LatentSearch"]
    assert repr(mining.sampler) == repr(search.sampler)
    assert search.num_samples == 64


def together(one: Row, other: Row) -> bool:
    """Whether two rows set different options, and share the reasoner and the sampler."""
    keys = ({option.partition("=")[0] for option in (*x.fit, *x.mine)} for x in (one, other))
    return (
        one.reasoner == other.reasoner
        and one.sampler == other.sampler
        and not set.intersection(*keys)
    )


def packed() -> list[list[str]]:
    """The rows in groups that can be one, as a command for each would take half a minute."""
    groups: list[list[str]] = []
    for name, row in ROWS.items():
        fits = (group for group in groups if all(together(row, ROWS[other]) for other in group))
        group = next(fits, None)
        if group is None:
            groups.append(group := [])
        group.append(name)
    return groups


@pytest.mark.parametrize("rows", packed(), ids="+".join)
def test_rows(
    rows: list[str], made: dict[str, tuple[Any, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All rows share the reasoner; a search differs from that of other rows by its sampler alone."""
    first, *_ = members = [ROWS[row] for row in rows]
    fit, mine = (sum((getattr(row, part) for row in members), ()) for part in ("fit", "mine"))
    monkeypatch.setitem(ROWS, "packed", replace(first, fit=fit, mine=mine))
    own_sampler = bool(first.sampler)
    keep(first.reasoner)
    trained = first.reasoner
    mark("reasoner.done", f"{trained}.done", f"{trained}/done", f"{trained}/search/summary.json")
    if not own_sampler:
        mark("tune/tuned.yaml")  # that of another reasoner is its own
        mark("packed/chosen/summary.json", "packed/search/summary.json")
    run("packed", SETTING)
    rm, mining = made["LatentRMModule"]
    assert mining.sources["train"].num_steps == 4
    assert (rm.latent_rm.reference_mark is None) == bool({"paper", "answer"} & {*rows})
    assert ("LatentSearch" in made) == own_sampler
    if own_sampler:
        expect_one_sampler(made)


def test_a_repeat_has_another_seed_of_the_latent_rm(made: dict[str, tuple[Any, Any]]) -> None:
    """Its reasoner, problems and store are those of the row."""
    keep("reasoner")
    mark("reasoner.done", "tune/tuned.yaml")
    mark("default.2/chosen/summary.json", "default.2/search/summary.json")
    run("default", SETTING, repeat=2)
    assert torch.initial_seed() == 2003
    _, mining = made["LatentRMModule"]
    assert (mining.folder.name, mining.seed, mining.sources["train"].seed) == ("store", 3, 301)
    assert (SETTING.folder / "default.2/done").exists()


@pytest.mark.parametrize(
    ("row", "reasoner"),
    [
        ("after_self_training", "self_trained"),
        ("after_reinforcement", "maxrl_tokens"),
        ("after_dropout", "dropout"),
    ],
)
def test_on_a_reasoner_that_learned_on(
    made: dict[str, tuple[Any, Any]], row: str, reasoner: str
) -> None:
    """It is mined on other problems than it learned from, and shares no store with the first one."""
    keep("reasoner")
    keep(reasoner)
    mark("reasoner.done", f"{reasoner}.done", f"{reasoner}/done")
    mark(f"{reasoner}/search/summary.json")
    run(row, SETTING)
    _, mining = made["LatentRMModule"]
    assert mining.folder.name == f"store-{reasoner}"
    assert mining.sources["train"].seed == 302
    assert mining.reasoner_path == str(SETTING.best(reasoner))
    assert (SETTING.folder / f"tune-{reasoner}/tuned.yaml").exists()


def test_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    summary_of.cache_clear()
    folder = tmp_path / FOLDER / "easy-small-0" / "default"

    def write(name: str, right_at: int, greedy: str) -> None:
        """Six problems whose only right sample is number `right_at`, and scores that rise."""
        rows = []
        for q in range(6):
            samples = [
                {"answer": str(int(i == right_at)), "scores": [float(i), 0.0]} for i in range(64)
            ]
            beam = {"budget": 32, "beams": samples[:16]}
            rows.append({"id": f"q{q}", "answer": "1", "greedy": {"answer": greedy}})
            rows[-1] |= {"samples": samples, "beam": beam}
        (folder / name).mkdir(parents=True)
        (folder / name / "predictions.jsonl").write_text(
            "".join(json.dumps(row) + "\n" for row in rows)
        )
        (folder / name / "summary.json").touch()

    # of 32 samples the last has by far the highest score: right on validation, wrong on test, where the
    # best of the 16 beams is right
    write("chosen", right_at=31, greedy="0")
    write("search", right_at=15, greedy="0")
    (tmp_path / "docs").mkdir()
    table(32)
    said = capsys.readouterr().out.splitlines()
    last = next(number for number, line in enumerate(said) if line.startswith("easy, default"))
    assert said[last].startswith("easy, default, 1 seeds: +0.0 (+0.0 to +0.0)")
    assert said[last - 1].startswith("| easy, 0 | default | 0.0 |")
    (one,) = json.loads((tmp_path / "docs/results.json").read_text())["settings"]
    assert (one["task"], one["seed"], one["latent_rm"]) == ("easy", 0, "default")
    assert (one["greedy"], one["majority"], one["coverage"]) == (0, 0, 1)
    # chosen on validation, and reported as it is on test
    assert one["best_selection"]["name"] == "weighted_vote"  # the first of those that are level
    assert one["best_selection"]["accuracy"] == 0
    beam = next(given for given in one["selections"] if given["name"] == "beam")
    assert beam["against_greedy"] == {"gain": 1, "low": 1, "high": 1}
    assert one["beam_against_vote"] is None  # costs are not known
    # no rule without training finds the one right sample among 32, by a vote
    assert one["best_untrained"]["accuracy"] == 0
    assert one["recoverable"] == 6


def test_beams_beside_the_vote_of_their_budget(tmp_path: Path) -> None:
    """64 samples take 640 and their judging 320: 15 each. Prompts of 20 and 25, and beams of 130.

    So the beams take 20 + 25 + 130 = 175, of which 130 are enough for 8 samples. The right sample is
    the tenth and has the highest score: 32 samples find it as the beams do, and 8 do not.
    """
    summary_of.cache_clear()
    cost = {"prompt": 20, "latent_rm_prompt": 25, "sampling": 640, "scoring": 320, "beam": 130}
    costs = {part: dict.fromkeys(("token_forwards", "tree_nodes"), n) for part, n in cost.items()}
    rows = []
    for q in range(6):
        samples = [{"answer": str(int(i == 9)), "scores": [9.0 * (i == 9)]} for i in range(64)]
        beam = {"budget": 32, "beams": [{"answer": "1", "scores": [1.0]}]}
        row = {"id": f"q{q}", "answer": "1", "greedy": {"answer": "0"}, "cost": costs}
        rows.append(row | {"samples": samples, "beam": beam})
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "predictions.jsonl").write_text(text)
    found = beam_against_vote(tmp_path, 32)
    assert found is not None
    assert (found["samples"], found["weighted_vote"]) == (8, 0)
    assert found["beam"] == found["beam_vote"] == {"gain": 1, "low": 1, "high": 1}


def test_rows_of_other_machines_stay() -> None:
    """A row that is run again takes its old place; together, more seeds take that of fewer."""
    old = [{"task": "easy", "seed": seed, "greedy": 0.1} for seed in (0, 1)]
    new = {"task": "easy", "seed": 1, "greedy": 0.2}
    assert kept([new], old) == [old[0], new]
    three, two = ({"task": "easy", "latent_rm": "paper", "seeds": n} for n in (3, 2))
    assert kept([two], [three]) == kept([three], [two]) == [three]


def test_steps_in_words(made: dict[str, tuple[Any, Any]]) -> None:
    """Trained on the same problems as the reasoner that thinks, and searched over the same ones."""
    explicit_latent_rm(SETTING)
    reasoner, data = made["CoconutModule"]
    assert reasoner.curriculum.last.num_thoughts == 0
    assert data.sources["train"].size == TASKS["hard"].trained_on
    assert data.sources["train"].seed == 300
    rm, mining = made["LatentRMModule"]
    assert (rm.latent_rm.answer_head is not None, mining.sources["train"].seed) == (True, 301)
    assert isinstance(mining.sampler, TokenSampling)
    assert made["LatentSearch"][0].latent_rm is not None


def test_the_reasoner_trained_on(made: dict[str, tuple[Any, Any]]) -> None:
    """On the same problems for longer, or on problems with answers; searched without a LatentRM."""
    longer(SETTING)
    reasoner, data = made["CoconutModule"]
    task = TASKS["hard"]
    assert reasoner.curriculum.total_epochs == round(task.longer * sum(task.epochs))
    assert tuple(reasoner.curriculum.stage_epochs[:-1]) == task.epochs[1:-1]
    assert data.sources["train"].size == TASKS["hard"].trained_on
    assert made["LatentSearch"][0].latent_rm is None
    self_trained(SETTING)
    reasoner, data = made["SelfTrainingModule"]
    assert (data.sources["train"].split, data.sources["train"].size) == (
        "mine",
        SELF_TRAINED_ON["self_trained"],
    )
    assert (reasoner.curriculum.last.num_thoughts, reasoner._judges) == (4, [])
    self_trained_by_choice(SETTING)  # by the LatentRM of the row `default`
    assert len(made["SelfTrainingModule"][0]._judges) == 1


def test_the_reasoner_by_itself(made: dict[str, tuple[Any, Any]]) -> None:
    searched_reasoner(SETTING)
    assert made["CoconutModule"][1].sources["train"].size == TASKS["hard"].trained_on
    search, problems = made["LatentSearch"]
    assert (search.latent_rm, search.beam, problems.source.split) == (None, None, "test")


# what shows that a training differs by one thing, and what else it has: seed of its batches
DIFFERING: dict[str, tuple[Callable[[CoconutModule], Any], Any, int]] = {
    "unsupervised": (lambda module: module.step_factor, 0, 3),
    "unmixed": (lambda module: module.uniform_prob, 0, 3),
    "dropout": (lambda module: isinstance(module.sampler, MCDropout), True, 3),
    "reset": (lambda module: module.reset_optimizer, True, 3),
    "slow": (lambda module: module.lr, 1.5e-3, 3),
    "warm": (lambda module: module.warmup, 0.2, 3),
    "averaged": (lambda module: module.averaged, True, 3),
    "other_start": (lambda module: module.lr, 3e-3, 1000),
}


@pytest.mark.parametrize("name", TRAININGS)
def test_a_reasoner_trained_otherwise(made: dict[str, tuple[Any, Any]], name: str) -> None:
    """By one thing; on the same problems, for as long, and searched under what it was trained under."""
    trained_otherwise(SETTING, name)
    reasoner, data = made["CoconutModule"]
    read, expected, seed = DIFFERING[name]
    assert (read(reasoner), data.seed) == (expected, seed)
    others = [DIFFERING[one] for one in TRAININGS if one not in (name, "other_start")]
    assert not any(read(reasoner) == expected for read, expected, _ in others), "one thing alone"
    train = data.sources["train"]
    assert (train.seed, train.size) == (300, TASKS["hard"].trained_on)
    assert reasoner.curriculum.total_epochs == sum(TASKS["hard"].epochs)
    search, problems = made["LatentSearch"]
    assert (search.latent_rm, problems.source.split) == (None, "test")
    assert search.sampler.settings() == reasoner.sampler.settings()


def test_reinforcement_learns_from_answers_alone(made: dict[str, tuple[Any, Any]]) -> None:
    """From problems that the reasoner was not trained on, exploring as it was told."""
    keep("reasoner")
    mark("reasoner.done", "maxrl_svp/search/summary.json")
    reinforced(SETTING, "svp")
    module, data = made["GrpoModule"]
    assert (data.sources["train"].split, data.sources["train"].size) == ("mine", REINFORCED_ON)
    assert data.sources["train"].seed == 301
    assert isinstance(module.sampler, SingularValueNoise)
    assert (module.seed, module.relative, module.schedule) == (3, True, "cosine")


def test_scaling_names_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """One command for all rows of one reasoner that differ by one thing."""
    ran: list[str] = []
    monkeypatch.setattr(study, "run", lambda name, setting, repeat: ran.append(name))
    monkeypatch.setattr(sys, "argv", ["study.py", "scaling", "--seed", "1"])
    study.main()
    assert ran == list(SCALING)
    assert set(ran) <= set(ROWS)
