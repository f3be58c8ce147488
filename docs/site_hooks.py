"""What the site has beyond the pages in this folder: pages of the root, and the API reference."""

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "lightning_ltts"
PAGES = (
    "index", "quickstart", "training", "checkpoints", "report", "runs", "monitoring", "results",
    "second_study", "first_study", "performance", "scale", "extending", "architecture", "glossary",
)  # fmt: skip
ROOT_PAGES = ("CONTRIBUTING.md", "CHANGELOG.md")
EXAMPLES = "examples.md"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """The navigation: pages in their order, those of the root, the reference by rooms."""
    found = {path.stem for path in (ROOT / "docs").glob("*.md")}
    assert found == set(PAGES), f"PAGES lacks, or has too many: {found ^ set(PAGES)}"
    reference = [{room: f"reference/{room}.md"} for room in _rooms()]
    pages = [*(f"{name}.md" for name in PAGES), EXAMPLES, *ROOT_PAGES]
    config.nav = [*pages, {"API reference": reference}]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that are not in the folder."""
    texts = {name: (ROOT / name).read_text(encoding="utf-8") for name in ROOT_PAGES}
    texts[EXAMPLES] = (ROOT / "examples/README.md").read_text(encoding="utf-8")
    texts |= {f"reference/{room}.md": _reference(room, names) for room, names in _rooms().items()}
    for name, text in texts.items():
        files.append(File.generated(config, name, content=_on_the_site(text)))
    for path in (ROOT / "examples").glob("*.py"):  # to be downloaded
        files.append(File.generated(config, path.name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Links that leave the folder lead to where the site has the page."""
    return _on_the_site(markdown)


def _on_the_site(text: str) -> str:
    """Links as they are among the pages of the site; files that it does not have become text."""
    text = re.sub(r"\]\((?:\.\./)+(CONTRIBUTING|CHANGELOG)\.md", r"](\1.md", text)
    text = text.replace("](../examples/README.md", f"]({EXAMPLES}").replace("](docs/", "](")
    return re.sub(r"\[([^\]]+)\]\((?:LICENSE|\.ci/run|pyproject\.toml)\)", r"\1", text)


def _rooms() -> dict[str, list[str]]:
    """Room -> its modules, in the order of the table of the architecture page."""
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    rows = text[text.index("| room |") :].splitlines()[2:]
    rooms = [name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])]
    found = {}
    for room in rooms:
        files = [PACKAGE / f"{room}.py", *sorted((PACKAGE / room).rglob("*.py"))]
        modules = [path.relative_to(ROOT).with_suffix("") for path in files if path.is_file()]
        names = [".".join(module.parts).removesuffix(".__init__") for module in modules]
        found[room] = [name for name in names if not name.rpartition(".")[2].startswith("_")]
    return found


def _reference(room: str, modules: list[str]) -> str:
    """The page of a room: the docstrings of all its modules."""
    return f"# {room}\n\n" + "".join(f"::: {module}\n\n" for module in modules)
