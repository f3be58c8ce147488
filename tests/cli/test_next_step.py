"""The last line of a command says what comes after it."""

from pathlib import Path

import pytest

from lightning_ltts.cli.next_step import Run, next_step

REASONER = {"data": {"class_path": "x.ProblemData"}}
LATENT_RM = {"data": {"class_path": "x.MiningData"}}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def after(line: str, tree: dict | None = None, name: str | None = None) -> str | None:
    """What is said after a command whose checkpoint was written."""
    command, *arguments = line.split()
    given = dict(argument.partition("=")[::2] for argument in arguments)
    experiment = given.get("experiment")
    folder = Path.cwd() / "logs" / (name or str(experiment))
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    (folder / "checkpoints/best.ckpt").touch()
    tree = {"name": name or experiment, "reasoner": given.get("reasoner"), **(tree or {})}
    return next_step(Run(command, arguments, experiment, tree, folder))


def test_the_pipeline_of_the_demo() -> None:
    """Each line is the next command of docs/quickstart.md."""
    best = "logs/demo/reasoner/checkpoints/best.ckpt"
    assert after("fit experiment=demo/reasoner", REASONER) == "ltts mine experiment=demo/latent_rm"
    mined = after("mine experiment=demo/latent_rm data.init_args.informative=9", LATENT_RM)
    assert mined == "ltts fit experiment=demo/latent_rm data.init_args.informative=9"
    divided = "trainer=tensor_parallel trainer.strategy.init_args.data_parallel_size=2"
    mined = after(f"mine experiment=demo/latent_rm trainer.devices=4 {divided}", LATENT_RM)
    assert mined == "ltts fit experiment=demo/latent_rm trainer.devices=4"
    trained = after("fit experiment=demo/latent_rm", {**LATENT_RM, "reasoner": best})
    assert trained == "ltts predict experiment=demo/search"
    assert after("predict experiment=demo/search") == "ltts report logs/demo/search -o report.html"
    Path("logs/demo/search/report.html").touch()
    looked_at = after("predict experiment=demo/search")
    assert looked_at == "open logs/demo/search/report.html in a browser"


def test_stages_of_a_recipe() -> None:
    stage = "fit experiment=recipes/smollm2_cot pretrained=model problems_dir=P"
    assert after(stage, REASONER) == "ltts fit experiment=recipes/smollm2 problems_dir=P"
    last = after("fit experiment=recipes/smollm2 problems_dir=P", REASONER)
    assert last == "ltts mine experiment=smollm2/latent_rm problems_dir=P"


def test_what_a_run_was_given_is_carried_on() -> None:
    """Another name, so another checkpoint; files and sampler; not its learning rate."""
    options = "train=a.json valid=b.json sampler=mc_dropout sampler.init_args.p=0.1"
    line = f"fit experiment=files/reasoner name=try/x model.init_args.lr=1 {options}"
    assert after(line, REASONER, "try/x") == (
        "ltts mine experiment=files/latent_rm name=try/x_latent_rm "
        f"reasoner=logs/try/x/checkpoints/best.ckpt {options}"
    )
    own = {**LATENT_RM, "reasoner": "own.ckpt"}
    line = "fit experiment=demo/latent_rm name=y reasoner=own.ckpt"
    assert after(line, own, "y") == (
        "ltts predict experiment=demo/search name=y_search reasoner=own.ckpt "
        "latent_rm=logs/y/checkpoints/best.ckpt"
    )


def test_experiments_of_ones_own(here: Path) -> None:
    folder = here / "mine/experiment"
    folder.mkdir(parents=True)
    (folder / "first.yaml").write_text("# @package _global_\n# fit: one\nname: m/first\n")
    content = "reasoner: logs/m/first/checkpoints/best.ckpt\n"
    (folder / "second.yaml").write_text(f"# @package _global_\n# predict: two\n{content}")
    line = after("fit --config-dir mine experiment=first", REASONER, "m/first")
    assert line == "ltts predict --config-dir mine experiment=second"


def test_what_nothing_comes_after() -> None:
    """A model that no experiment goes on from can be given away."""
    best = "logs/methods/codi/checkpoints/best.ckpt"
    assert after("fit experiment=methods/codi", REASONER) == f"ltts export {best} FOLDER"
    empty = Run("fit", [], "demo/reasoner", REASONER, Path("nothing/was/written"))
    assert next_step(empty) is None


def test_after_the_accuracy_of_a_checkpoint() -> None:
    """Validation goes before test, test before what comes after training; nothing trained is."""
    checked = {"ckpt_path": "best", "data": {"class_path": "x.ProblemData"}}
    tested = {**checked, "data": {**checked["data"], "init_args": {"test": {"class_path": "y"}}}}
    line = "experiment=demo/reasoner ckpt_path=best"
    assert after(f"validate {line}", tested) == f"ltts test {line}"
    assert after(f"validate {line}", checked) == "ltts mine experiment=demo/latent_rm"
    assert after(f"test {line}", tested) == "ltts mine experiment=demo/latent_rm"
    given = Path("other/a.ckpt")
    given.parent.mkdir()
    given.touch()
    assert after("test experiment=demo/reasoner", {**tested, "ckpt_path": str(given)}) == (
        "ltts mine experiment=demo/latent_rm reasoner=other/a.ckpt"
    )
    assert after("test experiment=demo/reasoner", REASONER) == "ltts fit experiment=demo/reasoner"
    missing = {**tested, "ckpt_path": "missing.ckpt"}
    assert after("test experiment=demo/reasoner", missing) is None


def test_tuned_values_are_used(here: Path) -> None:
    (here / "logs/demo/tune").mkdir(parents=True)
    (here / "logs/demo/tune/tuned.yaml").touch()
    assert after("tune experiment=demo/tune") == (
        "ltts predict experiment=demo/search name=demo/tune_search "
        "model.init_args.tuned=logs/demo/tune/tuned.yaml"
    )
