"""The examples run from the first cell to the last, as notebooks and in tiny sizes."""

import os
import re
from pathlib import Path

import pytest

from lightning_ltts.models.latent_lm import LatentReasoner
from lightning_ltts.models.latent_rm import LatentRM
from tests.helpers import save_latent_rm, save_reasoner
from tests.pages import ROOT

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
# constants of the first cells
TINY = {"PROBLEMS": 4, "SAMPLES": 4, "EPOCHS": 3, "RM_EPOCHS": 1, "WIDTH": 16, "BATCH": 8}
TINY_OF = {"own_problems": {"PROBLEMS": 60}}


def cells_of(path: Path) -> list[tuple[str, str]]:
    """Kind and text of the cells of a script in the percent format."""
    parts = re.split(r"^# %%(.*)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert not parts[0].strip(), "what stands before the first cell"
    cells = []
    for head, text in zip(parts[1::2], parts[2::2], strict=True):
        kind = "markdown" if "[markdown]" in head else "code"
        assert head.strip() in ("", "[markdown]"), head
        plain = re.sub(r"^# ?", "", text, flags=re.MULTILINE) if kind == "markdown" else text
        cells.append((kind, plain.strip()))
    return cells


def made_tiny(text: str, sizes: dict[str, int]) -> str:
    for name, size in sizes.items():
        text = re.sub(rf"^{name} = \d+$", f"{name} = {size}", text, flags=re.MULTILINE)
    return text


@pytest.mark.extra
@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example(
    path: Path, gpt2: LatentReasoner, latent_rm: LatentRM, tmp_path: Path, monkeypatch
) -> None:
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    for part, model, save in (
        ("reasoner", gpt2, save_reasoner),
        ("latent_rm", latent_rm, save_latent_rm),
    ):
        folder = tmp_path / "logs/demo" / part / "checkpoints"
        folder.mkdir(parents=True)
        save(model, folder / "best.ckpt")  # type: ignore[operator]
    notebook = nbformat.v4.new_notebook()
    sizes = {**TINY, **TINY_OF.get(path.stem, {})}
    for kind, text in cells_of(path):
        make = nbformat.v4.new_markdown_cell if kind == "markdown" else nbformat.v4.new_code_cell
        notebook.cells.append(make(made_tiny(text, sizes)))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=600, resources=resources).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any(output.output_type == "stream" for output in outputs)
    pictures = [o for o in outputs if "image/png" in o.get("data", {})]
    assert bool(pictures) == ("plt.show()" in path.read_text())


def test_every_example_is_in_the_list() -> None:
    linked = re.findall(r"\]\((\w+\.py)\)", (ROOT / "examples/README.md").read_text())
    assert sorted(linked) == [path.name for path in EXAMPLES]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_sizes_stand_in_the_first_cell_of_code(path: Path) -> None:
    first = next(text for kind, text in cells_of(path) if kind == "code")
    names = re.findall(r"^([A-Z_]+) = \d+$", first, flags=re.MULTILINE)
    assert names
    assert set(names) <= set(TINY)
