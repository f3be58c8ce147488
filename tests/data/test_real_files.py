"""The real problem sets, where they lie beside the checkout or LTTS_PROBLEMS names their folder."""

import json
import os
from fractions import Fraction
from pathlib import Path

import pytest

from lightning_ltts.data.overlap import overlap
from lightning_ltts.data.problems import Problem, ProblemFiles
from lightning_ltts.data.share import ProblemShare


def _find() -> Path | None:
    given = os.environ.get("LTTS_PROBLEMS")
    parents = Path(__file__).resolve().parents
    places = [Path(given)] if given else [parent / "shared/data" for parent in parents]
    return next((place for place in places if place.is_dir()), None)


FOLDER = _find()
FILES = sorted(FOLDER.glob("*/*.json")) if FOLDER else []
pytestmark = pytest.mark.skipif(not FILES, reason="the problem sets are not here")


def load(path: Path) -> list[Problem]:
    texts = path.name.startswith(("prosqa", "prontoqa"))
    return ProblemFiles([str(path)], answers="text" if texts else "number").load()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_all_rows_are_read_exactly(path: Path) -> None:
    """Truths are the numbers of the file; its texts are untouched but for numbers with exponents."""
    rows = json.loads(path.read_text(encoding="utf-8"), parse_float=str, parse_int=str)
    problems = load(path)
    assert len({problem.id for problem in problems}) == len(problems) == len(rows)
    rewritten = 0
    for row, problem in zip(rows, problems, strict=True):
        assert problem.question == " ".join(row["question"].split())
        assert problem.steps == tuple(row.get("steps") or ())
        rewritten += problem.answer != row["answer"].strip()
        if problem.answer_is == "number":
            assert problem.value == Fraction(row["answer"].replace(",", ""))
    assert rewritten == (26 if path.name == "gsm_hard.json" else 0)


@pytest.mark.slow
def test_training_and_evaluation_have_no_question_in_common() -> None:
    """What they share are numbers and operations, which is counted."""
    evaluation = [problem for path in FILES if path.parent.name == "eval" for problem in load(path)]
    counts = {}
    for path in FILES:
        if path.parent.name == "train":
            found = overlap(load(path), evaluation)
            assert not found.same_question
            counts[path.name] = len(found.same_computation)
    # of gsm_test.json 24 and 11, of gsm_valid.json 11 and 5
    assert counts == {"gsm8k_train_steps.json": 35, "mawps_asdiv_train_steps.json": 16}


def test_shares_divide_a_file() -> None:
    assert FOLDER is not None
    source = ProblemFiles([str(FOLDER / "train/mawps_asdiv_train_steps.json")])
    parts = [ProblemShare(source, *share).load() for share in ((0, 0.8), (0.8, 1))]
    assert sum(map(len, parts)) == 2486
    assert 0.17 < len(parts[1]) / 2486 < 0.23
    assert not overlap(*parts).same_question
