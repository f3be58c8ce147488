"""The guide to extending is followed to the letter, section by section, on tiny models.

A block after a line that ends in the name of a file is that file; other Python is run as it stands,
and commands are run with fewer problems, samples and epochs.
"""

import json
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lightning_ltts import cli
from lightning_ltts.models import families, thought_heads
from lightning_ltts.models.latent_lm import LatentReasoner
from lightning_ltts.models.latent_rm import LatentRM
from lightning_ltts.voting import selection
from tests.helpers import save_latent_rm, save_reasoner
from tests.pages import DOCS, Block, blocks_of, commands_of

pytestmark = pytest.mark.slow

GUIDE = DOCS / "extending.md"
BLOCKS = [block for block in blocks_of(GUIDE) if block.section]
SECTIONS = list(dict.fromkeys(block.section for block in BLOCKS))
SMALL = ["trainer.accelerator=cpu", "--quiet"]
# what makes the commands of the guide small, by what they begin with
SMALLER = {
    "ltts fit experiment=demo/latent_rm": [
        "data.init_args.train.init_args.size=8",
        "data.init_args.val.init_args.size=4",
        "data.init_args.num_samples=4",
        "data.init_args.val_num_samples=4",
        "data.init_args.num_rollouts=1",
        "data.init_args.batch_size=4",
        "data.init_args.keep_uninformative=true",
        "trainer.max_epochs=1",
    ],
    "ltts mine": [
        "data.init_args.num_samples=4",
        "data.init_args.val_num_samples=4",
        "data.init_args.num_rollouts=1",
    ],
    "ltts fit model=gated": [
        "data.init_args.train.init_args.size=16",
        "data.init_args.val.init_args.size=4",
        "data.init_args.batch_size=8",
        "trainer.max_epochs=1",
        "model.init_args.start.backbone.n_embd=16",
    ],
    "ltts fit experiment=demo/reasoner": [
        "trainer.max_epochs=1",
        "trainer.limit_train_batches=2",
        "trainer.limit_val_batches=1",
        "model.init_args.start.backbone.n_embd=16",
    ],
    "ltts predict": ["model.init_args.num_samples=4"],
}


@pytest.fixture
def demo(
    tmp_path: Path, gpt2: LatentReasoner, latent_rm: LatentRM, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """A working directory with a finished demo; what the guide registers is forgotten after it."""
    run = tmp_path / "logs/demo"
    for part in ("reasoner/checkpoints", "latent_rm/checkpoints", "search"):
        (run / part).mkdir(parents=True)
    save_reasoner(gpt2, run / "reasoner/checkpoints/best.ckpt")
    save_latent_rm(latent_rm, run / "latent_rm/checkpoints/best.ckpt")
    rows = []
    for number in range(4):
        samples = [{"answer": str(i % 2), "scores": [float(i), 0.0]} for i in range(8)]
        row = {"id": f"q{number}", "question": "?", "answer": str(number % 2), "samples": samples}
        rows.append(row | {"greedy": {"answer": "1"}, "temperature": 1.0, "agreement": 0.0})
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (run / "search/predictions.jsonl").write_text(lines)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(selection, "SELECTIONS", selection.SELECTIONS)
    tables: list[dict] = [thought_heads.THOUGHT_HEADS, families.FAMILIES]
    before = [dict(table) for table in tables]
    yield tmp_path
    for name in [name for name in sys.modules if name.split(".")[0] == "my_project"]:
        del sys.modules[name]
    for table, entries in zip(tables, before, strict=True):
        table.clear()
        table.update(entries)


def file_of(block: Block) -> Path | None:
    """Where the guide says that a block belongs."""
    named = re.search(r"`(my_\w+/[\w/.]+)`[^`]*:$", block.before)
    return Path(named[1]) if named and block.kind != "shell" else None


def smaller(command: str) -> list[str]:
    """A command of the guide as arguments, with fewer problems, samples and epochs."""
    options = [x for start, more in SMALLER.items() if command.startswith(start) for x in more]
    if "experiment=demo/search" in command and " data=" not in command:
        options.append("data.init_args.problems.init_args.size=3")
    return [*shlex.split(command), *options, *SMALL]


def test_sections() -> None:
    """One for each kind of extension, and a row of the first table for each section."""
    rows = re.findall(r"^\| \[[\w ]+\]\(#([\w-]+)\)", GUIDE.read_text(), flags=re.MULTILINE)
    assert rows == [section.lower().replace(" ", "-") for section in SECTIONS]


@pytest.mark.parametrize("section", SECTIONS)
def test_guide(section: str, demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names: dict = {}
    for block in (block for block in BLOCKS if block.section == section):
        if file := file_of(block):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{block.text}\n")
        elif block.kind == "python":
            exec(compile(block.text, f"{GUIDE}: {section}", "exec"), names)
        else:
            for command in commands_of(block.text):
                monkeypatch.setattr(sys, "argv", smaller(command))
                cli.main()
