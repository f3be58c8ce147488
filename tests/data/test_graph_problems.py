import random
import re
from itertools import pairwise

import pytest

from lightning_ltts.data.graph_problems import CONCEPTS, PERSONS, GraphProblems
from lightning_ltts.data.problems import Problem
from lightning_ltts.data.reachability import Graph
from lightning_ltts.data.tokenization import GraphTokenizer, encode_text
from lightning_ltts.errors import ConfigError, DataError

ASKED = re.compile(r"Is (\w+) a (\w+) or (\w+)\?")


def graph_of(problem: Problem) -> tuple[Graph, dict[str, int]]:
    """The graph that a question tells of, read back from its text, and the numbers of names in it."""
    *sentences, question = problem.question.split(". ")
    asked = ASKED.fullmatch(question)
    assert asked is not None
    root, *candidates = asked.groups()
    names: dict[str, int] = {root: -1}
    edges = []
    for sentence in sentences:
        source, target = sentence.removeprefix("Every ").split(" is a ")
        for name in (source, target):
            if name in PERSONS:
                names.setdefault(name, -1 - sum(number < 0 for number in names.values()))
            else:
                names.setdefault(name, len(names))
        edges.append((names[source], names[target]))
    right = problem.steps[-1].removesuffix(".").split(" is a ")[1]
    (wrong,) = (name for name in candidates if name != right)
    first = problem.steps[0].removesuffix(".").split(" is a ")[0]
    assert first == root
    path = [names[step.removesuffix(".").split(" is a ")[1]] for step in problem.steps]
    return Graph(tuple(edges), (-1, *path), names[wrong]), names


@pytest.mark.parametrize(
    "options", [{}, {"hops": 5, "fewest_hops": 2, "distractors": 8, "density": 1.6, "persons": 3}]
)
def test_steps_are_the_path_and_the_answer_its_end(options: dict) -> None:
    problems = GraphProblems("train", 30, **options).load()
    for problem in problems:
        sentences = problem.question.split(" Is ")[0].split(". ")
        told = {sentence.removesuffix(".") for sentence in sentences}
        assert {step.removesuffix(".") for step in problem.steps} <= told
        ends = [
            step.removesuffix(".").removeprefix("Every ").split(" is a ") for step in problem.steps
        ]
        assert all(one[1] == two[0] for one, two in pairwise(ends))
        assert problem.answer == f"{ends[0][0]} is a {ends[-1][1]}."
        assert problem.answer_is == "text"
        assert problem.value == problem.answer.removesuffix(".").lower()
    hops = {len(problem.steps) for problem in problems}
    assert hops == set(range(options.get("fewest_hops", 3), options.get("hops", 3) + 1))
    right_first = sum(
        p.question.split(" or ")[0].endswith(p.answer.split()[-1][:-1]) for p in problems
    )
    assert 5 < right_first < 25


def test_graphs_from_easy_to_hard() -> None:
    """Concepts besides the paths, and sentences for each concept, are drawn from their ranges."""
    hard = {"hops": 3, "distractors": 6, "density": 1.8}
    drawn = GraphProblems("train", 60, fewest_distractors=1, lowest_density=1.2, **hard).load()
    sizes, densities = [], []
    for problem in drawn:
        graph, names = graph_of(problem)
        concepts = sum(number >= 0 for number in names.values())
        sizes.append(concepts - 2 * 3)
        densities.append(len(graph.edges) / concepts)
    assert set(sizes) == set(range(1, 7))
    assert min(densities) < 1.3
    assert max(densities) > 1.6
    all_hard = [graph_of(problem) for problem in GraphProblems("train", 20, **hard).load()]
    assert {sum(number >= 0 for number in names.values()) for _, names in all_hard} == {12}


@pytest.mark.slow
def test_same_arguments_same_problems() -> None:
    one, two = (GraphProblems("test", 20, seed=3).load() for _ in range(2))
    assert one == two
    assert GraphProblems("test", 40, seed=3).load()[:20] == one
    assert GraphProblems("test", 20, seed=4).load() != one
    assert len({problem.question for problem in one}) == 20


@pytest.mark.slow
def test_splits_share_no_graph() -> None:
    """Under any seed, with whatever names and order of sentences."""
    forms: dict[str, set[str]] = {}
    for split in ("train", "valid", "test", "mine"):
        problems = [p for seed in (0, 1) for p in GraphProblems(split, 60, seed, hops=2).load()]
        forms[split] = {graph_of(problem)[0].form for problem in problems}
    for one in forms:
        for other in forms:
            assert one == other or not forms[one] & forms[other]
    assert sum(map(len, forms.values())) < 400  # graphs that small come again in other words


def test_difficulty() -> None:
    """More hops, distractors and density make longer questions."""
    base = {"hops": 3, "distractors": 3, "density": 1.2}
    lengths = []
    for harder in ({}, {"hops": 4}, {"distractors": 7}, {"density": 1.8}):
        problems = GraphProblems("train", 10, **base | harder).load()
        lengths.append(sum(len(problem.question.split(". ")) for problem in problems) / 10)
    assert all(length >= lengths[0] + 2 for length in lengths[1:])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"split": "dev"}, "split='dev' of GraphProblems"),
        ({"hops": 0}, "hops=0"),
        ({"fewest_hops": 4}, "fewest_hops=4 of GraphProblems must be a whole number from 1 to 3"),
        ({"fewest_distractors": 4}, "fewest_distractors=4 of GraphProblems must be a whole number"),
        ({"lowest_density": 1.3}, "lowest_density=1.3 of GraphProblems must be a number from 0 to"),
        ({"distractors": 35}, "from 0 to 34; there are 40 names"),
        ({"density": -1.0}, "density"),
        ({"persons": 1}, "from 2 to 20"),
        ({"size": 0}, "size=0"),
    ],
)
def test_options_that_make_no_sense(options: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        GraphProblems(**{"split": "train", "size": 4} | options)


@pytest.mark.slow
def test_too_many_are_asked_for() -> None:
    """One hop and no distractors make a single graph, which is of one split alone."""
    found = []
    for split in ("train", "valid", "test", "mine"):
        try:
            GraphProblems(split, 3, hops=1, distractors=0, density=0.0).load()
            found.append(split)
        except ConfigError as error:
            assert "only 0 different" in str(error)  # noqa: PT017
            assert "raise the former or lower size" in str(error)  # noqa: PT017
    assert len(found) == 1


def test_names() -> None:
    assert len(set(CONCEPTS)) == 40
    assert len(set(PERSONS)) == 20


def test_tokenizer_reads_all_that_is_told() -> None:
    tokenizer = GraphTokenizer().build()
    problem = GraphProblems("train", 1).load()[0]
    for text in (problem.question, *problem.steps, problem.answer):
        ids = encode_text(tokenizer, text)
        assert tokenizer.decode(ids).replace(" ?", "?") == text.replace(".", "")
    _, concept, _, _ = encode_text(tokenizer, "Every baldak is a nipern.")
    assert encode_text(tokenizer, "Tom is a baldak.")[-1] == concept  # it is looked up by its token
    assert len(encode_text(tokenizer, "Is Tom a baldak or nipern?")) == 7
    with pytest.raises(DataError, match="the word 'lempus' is not in the tokenizer's vocabulary"):
        encode_text(tokenizer, "Every lempus is a nipern.")
    assert GraphTokenizer().build().get_vocab() == tokenizer.get_vocab()


def test_randomness_is_its_own() -> None:
    random.seed(0)
    before = random.random()
    random.seed(0)
    GraphProblems("train", 2).load()
    assert random.random() == before
