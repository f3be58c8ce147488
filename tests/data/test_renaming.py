import json
from pathlib import Path

import pytest

from lightning_ltts.data.graph_problems import CONCEPTS, PERSONS, GraphProblems
from lightning_ltts.data.problems import Problem, ProblemFiles
from lightning_ltts.data.renaming import RenamedProblems, renamed
from lightning_ltts.data.tokenization import GraphTokenizer, encode_text
from lightning_ltts.errors import DataError
from tests.data.test_graph_problems import graph_of

ROW = {  # in the form of ProsQA
    "question": "Every gerpus is a terpus. Sally is a gerpus. Bob is a impus. Every impus is a "
    "hilpus. Is Sally a hilpus or terpus?",
    "steps": ["Sally is a gerpus.", "Every gerpus is a terpus."],
    "answer": "Sally is a terpus.",
}


def problem(**changes: object) -> Problem:
    row = ROW | changes
    return Problem("q", row["question"], tuple(row["steps"]), row["answer"], "f, row 1", "text")


def test_the_graph_stays() -> None:
    """By a one-to-one exchange of names, of persons for persons and concepts for concepts."""
    new, old = renamed(problem()), problem()
    names: dict[str, str] = {}
    for before, after in zip(
        " ".join([old.question, *old.steps, old.answer]).split(),
        " ".join([new.question, *new.steps, new.answer]).split(),
        strict=True,
    ):
        assert names.setdefault(before.strip(".?"), after.strip(".?")) == after.strip(".?")
    fixed = {"Every", "is", "a", "or", "Is"}
    assert all((before == after) == (before in fixed) for before, after in names.items())
    assert len(set(names.values())) == len(names)
    assert {names["Sally"], names["Bob"]} <= set(PERSONS)
    assert set(names.values()) - fixed - set(PERSONS) <= set(CONCEPTS)
    assert (new.id, new.source, new.answer_is) == (old.id, old.source, "text")
    assert graph_of(new)[0].path[1:] != ()


def test_names_follow_from_id_and_seed() -> None:
    assert renamed(problem()) == renamed(problem())
    assert renamed(problem(), seed=1) != renamed(problem())


def test_files_become_readable(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text(json.dumps([ROW, ROW | {"question": ROW["question"][26:]}]))
    source = ProblemFiles([str(tmp_path / "p.json")], answers="text")
    tokenizer = GraphTokenizer().build()
    with pytest.raises(DataError, match="'gerpus' is not in the tokenizer's vocabulary"):
        encode_text(tokenizer, source.load()[0].question)
    read = RenamedProblems(source).load()
    assert [p.id for p in read] == [p.id for p in source.load()]
    for p in read:
        for text in (p.question, *p.steps, p.answer):
            encode_text(tokenizer, text)


def test_our_own_problems_can_be_renamed() -> None:
    for p in GraphProblems("test", 10, hops=4).load():
        assert graph_of(renamed(p, 5))[0].form == graph_of(p)[0].form


def test_an_article_before_a_vowel() -> None:
    """ProsQA writes `a impus`; others may not."""
    assert (
        " an " not in renamed(problem(question=ROW["question"].replace("a imp", "an imp"))).question
    )


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ("Every a is b. Is Tom a b or c?", "'Every a is b.' is none of"),
        ("Every a is a b. Who is it?", "'Who is it' is none of|'Who is it\\?' is none of"),
        (
            f"{' '.join(f'Every x{i} is a y{i}.' for i in range(21))} Is Tom a x1 or y2?",
            "has 42 concepts, and there are 40",
        ),
    ],
)
def test_what_is_no_such_problem(question: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        renamed(problem(question=question))
