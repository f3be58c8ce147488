"""Random small changes of the code, of which the tests should notice nearly all.

    pip install cosmic-ray                       # in the environment of the tests
    python benchmarks/mutants.py                 # a line for each, the share at the end
    python benchmarks/mutants.py voting rollout  # those whose names hold one of the words

The changes are cosmic-ray's. From each room a sample is drawn with a fixed seed, one change of a
place at most; changes of types alone are none. Every change is made in a copy of the package, and
the fast tests of its file are run against it. What survives is shown, to be looked at.
"""

import ast
import difflib
import random
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names
from forked import ROOT, copy_to, run_tests

SEED, SECONDS = 0, 300
ROLLOUT = "tests/engine/test_open_ended.py tests/engine/test_rollout.py"
STORE = "tests/mining/test_store.py tests/mining/test_integrity.py"
SAMPLING, VOTING = "tests/sampling/", "tests/voting/"
NOISE = "tests/training/test_noise.py"  # of the head while it is trained
# room -> how many are drawn, and the tests of its files
ROOMS: dict[str, tuple[int, dict[str, str]]] = {
    "engine": (
        40,
        {
            "engine/grading.py": ROLLOUT,
            "engine/packing.py": "tests/engine/test_packing.py",
            "engine/plan.py": "tests/engine/test_plan.py",
            "engine/record.py": ROLLOUT,
            "engine/rollout.py": ROLLOUT,
            "engine/walk.py": f"{ROLLOUT} tests/search/test_beam.py tests/mining/test_mine.py",
        },
    ),
    "sampling": (
        35,
        {
            "sampling/keyed_random.py": f"{SAMPLING}test_keyed_random.py",
            "sampling/learned_noise.py": f"{SAMPLING}test_learned_noise.py {NOISE}",
            "sampling/sampled_answers.py": "tests/training/test_grpo.py",
            "sampling/samplers.py": f"{SAMPLING}test_samplers.py",
            "sampling/singular_values.py": f"{SAMPLING}test_singular_values.py",
            "sampling/streams.py": f"{SAMPLING}test_streams.py",
        },
    ),
    "losses": (22, {"training/losses.py": "tests/training/test_losses.py"}),
    "voting": (
        35,
        {
            "voting/adaptive.py": f"{VOTING}test_adaptive.py",
            "voting/bootstrap.py": f"{VOTING}test_per_question.py",
            "voting/estimates.py": f"{VOTING}test_per_question.py",
            "voting/per_question.py": f"{VOTING}test_per_question.py",
            "voting/scoring.py": f"{VOTING}test_scoring.py",
            "voting/selection.py": f"{VOTING}test_selection.py {VOTING}test_selections.py",
            "voting/votes.py": f"{VOTING}test_votes.py",
        },
    ),
    "store": (25, {"mining/store.py": STORE, "mining/integrity.py": STORE}),
}


class Mutant(NamedTuple):
    """One change of a file of the package."""

    file: str
    line: int
    column: int
    operator: str
    occurrence: int

    @property
    def name(self) -> str:
        operator = self.operator.rpartition("/")[2].removeprefix("Replace")
        return f"{self.file}:{self.line}:{self.column} {operator} {self.occurrence}"

    def code(self, text: str) -> str:
        changed = mutate_code(text, get_operator(self.operator)(), self.occurrence)
        assert changed is not None, "there is such an occurrence"
        return str(changed)


def mutants_of(file: str) -> Iterator[Mutant]:
    """All changes of a file, those of its types included."""
    tree = get_ast((ROOT / "lightning_ltts" / file).read_text(encoding="utf-8"))
    for name in operator_names():
        kind = get_operator(name)
        if kind.arguments() or name.endswith("NoOp"):
            continue
        places = (place for node in ast_nodes(tree) for place in kind().mutation_positions(node))
        for occurrence, ((line, column), _) in enumerate(places):
            yield Mutant(file, line, column, name, occurrence)


def meaning(text: str) -> str | None:
    """What a file does: its syntax tree without types; None where it is no Python."""
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.FunctionDef):
            node.returns = None
        elif isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(None)
    return ast.dump(tree)


def draw(files: list[str], number: int) -> list[Mutant]:
    """A sample, one change of a place at most."""
    chance = random.Random(SEED)
    places: dict[tuple[str, int, int], list[Mutant]] = defaultdict(list)
    for mutant in (each for file in files for each in mutants_of(file)):
        places[mutant[:3]].append(mutant)
    order = sorted(places)
    chance.shuffle(order)
    chosen: list[Mutant] = []
    for place in order:
        mutant = chance.choice(places[place])
        text = (ROOT / "lightning_ltts" / mutant.file).read_text(encoding="utf-8")
        if len(chosen) < number and meaning(mutant.code(text)) not in (None, meaning(text)):
            chosen.append(mutant)
    return chosen


def killed(mutant: Mutant, tests: str, folder: Path) -> bool:
    """Whether a test fails on it, or never ends; where none does, the change is shown."""
    path = folder / "lightning_ltts" / mutant.file
    text = path.read_text(encoding="utf-8")
    changed = mutant.code(text)
    path.write_text(changed, encoding="utf-8")
    try:
        code = run_tests(folder, ["-m", "not slow and not crash", *tests.split()], SECONDS)
    finally:
        path.write_text(text, encoding="utf-8")
    print(f"{'survived' if code == 0 else 'killed'} {mutant.name}", flush=True)
    if code == 0:
        lines = difflib.unified_diff(text.splitlines(), changed.splitlines(), n=0, lineterm="")
        print("\n".join(list(lines)[2:]), flush=True)
    return code != 0


def main(words: list[str]) -> None:
    found: dict[str, Counter[bool]] = defaultdict(Counter)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        copy_to(folder)
        for room, (number, tests) in ROOMS.items():
            for mutant in draw(list(tests), number):
                if not words or any(word in mutant.name for word in words):
                    found[room][killed(mutant, tests[mutant.file], folder)] += 1
    for room, counts in found.items():
        print(f"{room}: {counts[True]} of {counts.total()} killed")


if __name__ == "__main__":
    main(sys.argv[1:])
