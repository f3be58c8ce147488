"""Files and functions of the package stay small enough to be read in one go."""

import ast
from pathlib import Path
from statistics import median

import pytest

PACKAGE = Path(__file__).parents[1] / "lightning_ltts"
FILE_LINES = 400
FUNCTION_LINES = 60
MEDIAN_LINES = 10
# longer functions, each with the reason why it is not cut: file::function -> reason
ALLOWED: dict[str, str] = {
    "analysis/summary.py::summarize": "a third of it says what its options mean",
}


def functions_of(path: Path) -> list[tuple[str, int]]:
    """Every function's name, after those of what it stands in, and its lines from the first decorator to the end."""
    found: list[tuple[str, int]] = []

    def visit(node: ast.AST, names: tuple[str, ...]) -> None:
        for child in ast.iter_child_nodes(node):
            inside = names
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                inside = (*names, child.name)
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                first = min(
                    [child.lineno, *(decorator.lineno for decorator in child.decorator_list)]
                )
                found.append((".".join(inside), (child.end_lineno or first) - first + 1))
            visit(child, inside)

    visit(ast.parse(path.read_text(encoding="utf-8")), ())
    return found


FILES = {str(path.relative_to(PACKAGE)): path for path in sorted(PACKAGE.rglob("*.py"))}


@pytest.fixture(scope="module")
def functions() -> list[tuple[str, int]]:
    """Every function of the package, as file::function, and its lines."""
    return [
        (f"{name}::{function}", lines)
        for name, path in FILES.items()
        for function, lines in functions_of(path)
    ]


@pytest.fixture(scope="module")
def long(functions: list[tuple[str, int]]) -> dict[str, int]:
    return {name: lines for name, lines in functions if lines > FUNCTION_LINES}


def test_no_long_file() -> None:
    lines = {
        name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in FILES.items()
    }
    assert {name: count for name, count in lines.items() if count > FILE_LINES} == {}


def test_no_long_function(long: dict[str, int]) -> None:
    assert {name: lines for name, lines in long.items() if name not in ALLOWED} == {}


def test_allowed_functions_are_long_for_a_reason(long: dict[str, int]) -> None:
    """What has been cut, renamed or moved leaves the table."""
    assert ALLOWED.keys() <= long.keys()
    assert all(ALLOWED.values())


def test_most_functions_are_short(functions: list[tuple[str, int]]) -> None:
    assert median(lines for _, lines in functions) < MEDIAN_LINES


def test_lines_are_counted(tmp_path: Path) -> None:
    file = tmp_path / "some.py"
    file.write_text(
        "class A:\n    @property\n    def one(self):\n        def two():\n            pass\n        return two\n"
    )
    assert functions_of(file) == [("A.one", 5), ("A.one.two", 2)]
