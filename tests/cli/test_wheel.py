"""The wheel alone, as a new user has it: in an environment and a folder of its own."""

import csv
import os
import shlex
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from tests.pages import ROOT

pytestmark = pytest.mark.processes

# each command is the `next:` of the one before; the smallest models, as few epochs and samples
SMALL = {
    "experiment=reasoner": """
        trainer.max_epochs=1 model.init_args.start.backbone.n_embd=16
        model.init_args.start.backbone.n_layer=1 model.init_args.curriculum.cot_epochs=0
        model.init_args.curriculum.stage_epochs=[1]""",
    "experiment=latent_rm": """
        trainer.max_epochs=1 data.init_args.keep_uninformative=true data.init_args.batch_size=4""",
    "experiment=search": "model.init_args.num_samples=2 model.init_args.beam=null",
}


@pytest.fixture(scope="module")
def ltts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command in a new environment, which has the wheel, and the libraries of this one."""
    pytest.importorskip("hatchling", reason="building without isolation needs hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    build = ["build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run([sys.executable, "-m", *build], check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "env", symlinks=True)
    python = folder / "env/bin/python"
    install = ["--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([sys.executable, "-m", "pip", *install, str(wheel)], check=True)
    (site,) = folder.glob("env/lib/python*/site-packages")
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib"))
    return folder / "env/bin/ltts"


def run(ltts: Path, line: str, here: Path) -> list[str]:
    """The lines that a command prints, without anything of this process's surroundings."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    words = [str(ltts), *shlex.split(line)]
    done = subprocess.run(words, cwd=here, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_it_holds_the_configs(ltts: Path, tmp_path: Path) -> None:
    shown = run(ltts, "fit experiment=demo/reasoner --print_config", tmp_path)
    assert "seed_everything: 0" in shown
    assert any("demo/reasoner" in line for line in run(ltts, "list", tmp_path))


def test_from_a_table_to_a_page(ltts: Path, tmp_path: Path) -> None:
    """`ltts init` and three commands, each of which names the next."""
    with (tmp_path / "sums.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["question", "steps", "answer"])
        for i in range(40):
            table.writerow([f"What is {i} + 3?", f'["{i}+3"]', i + 3])
    said = run(ltts, "init sums --problems sums.csv", tmp_path)
    assert said[0] == "sums.csv: 40 problems, CSV"
    verbs = []
    while said[-1].startswith("next: ltts "):
        line = said[-1].removeprefix("next: ltts ")
        verbs.append(line.partition(" ")[0])
        stage = next(word for word in line.split() if word.startswith("experiment="))
        given = " ".join(SMALL[stage].split())
        said = run(
            ltts,
            f"{line} {given} trainer.accelerator=cpu trainer.enable_progress_bar=false",
            tmp_path,
        )
    assert verbs == ["fit", "fit", "predict"]
    page = tmp_path / "logs/sums/search/report.html"
    assert said[-1] == f"next: open {page.relative_to(tmp_path)} in a browser"
    assert "What is " in page.read_text()
