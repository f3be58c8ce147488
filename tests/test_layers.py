"""Imports run down only: what a file imports stands on a lower floor than the file, or in its own room."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "lightning_ltts"
# the rooms in reading order, from the ground up; a room may import the rooms above its line, and itself
LAYERS = [
    "errors",
    "files",
    "run_folder",
    "checkpoint_io",
    "stopping",
    "old_names",
    "monitoring",
    "data",
    "voting",
    "models",
    "sampling",
    "engine",
    "analysis",
    "search",
    "cluster",
    "mining",
    "training",
    "report",
    "prediction",
    "trainer",
    "cli",
    "demo",
    "__main__",
]
# the package's front door imports what it shows; nothing inside imports it
FRONT_DOOR = "__init__"


def imports_of(path: Path) -> list[tuple[int, str]]:
    """The rooms that a file imports, each with its line, at the top of the file or inside of functions."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        modules = []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute here"
            modules = [node.module or ""]
            if node.module == "lightning_ltts":
                modules = [f"lightning_ltts.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        found += [
            (node.lineno, module.split(".")[1])
            for module in modules
            if module.startswith("lightning_ltts.")
        ]
    return found


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def upward(room: str, imported: list[tuple[int, str]]) -> list[str]:
    floor = len(LAYERS) if room == FRONT_DOOR else LAYERS.index(room)
    return [
        f"line {line} imports {other}"
        for line, other in imported
        if other != room and LAYERS.index(other) >= floor
    ]


def test_every_room_has_a_floor():
    rooms = {room_of(path) for path in PACKAGE.rglob("*.py")}
    assert rooms - {FRONT_DOOR} == set(LAYERS)


def test_imports_run_down():
    found = {
        str(path.relative_to(PACKAGE)): upward(room_of(path), imports_of(path))
        for path in sorted(PACKAGE.rglob("*.py"))
    }
    assert {name: lines for name, lines in found.items() if lines} == {}


def test_an_import_that_runs_up_is_found(tmp_path):
    file = tmp_path / "low.py"
    file.write_text("def late():\n    from lightning_ltts.prediction.module import LatentSearch\n")
    assert upward("models", imports_of(file)) == ["line 2 imports prediction"]
    file.write_text("import lightning_ltts.cli.main\nfrom lightning_ltts import errors\n")
    assert upward("prediction", imports_of(file)) == ["line 1 imports cli"]
