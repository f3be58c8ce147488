"""Every graph is searched anew, by plain breadth-first search."""

import random

import pytest

from lightning_ltts.data.reachability import Edge, Graph, GraphMaker


def shortest_paths(edges: tuple[Edge, ...], start: int, end: int) -> list[list[int]]:
    """All paths from start to end with the fewest edges."""
    paths = [[start]]
    while paths:
        found = [path for path in paths if path[-1] == end]
        if found:
            return found
        paths = [[*path, b] for path in paths for a, b in edges if a == path[-1]]
    return []


SIZES = [(1, 0, 0, 2), (2, 1, 6, 2), (3, 2, 10, 2), (3, 6, 30, 3), (5, 9, 40, 4)]


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_one_sink_in_so_many_hops_and_the_other_not_at_all(size: tuple[int, ...]) -> None:
    hops, distractors, *_ = size
    for seed in range(20):
        graph = GraphMaker(random.Random(seed), *size).graph()
        assert shortest_paths(graph.edges, -1, graph.path[-1]) == [list(graph.path)]
        assert len(graph.path) == hops + 1
        assert shortest_paths(graph.edges, -1, graph.wrong) == []
        # the question about the other root is as hard, so that nothing but the root tells them apart
        assert shortest_paths(graph.edges, -2, graph.path[-1]) == []
        (other,) = shortest_paths(graph.edges, -2, graph.wrong)
        assert len(other) == hops + 1
        assert all(a < b for a, b in graph.edges)  # without cycles
        assert len(set(graph.edges)) == len(graph.edges)
        assert not {graph.path[-1], graph.wrong} & {a for a, _ in graph.edges}  # they are sinks
        targets = {b for _, b in graph.edges}
        assert targets == set(range(2 * hops + distractors))  # every node is told of


def test_number_of_edges() -> None:
    """Paths and one edge to each distractor at least, what was asked for if it fits, and no more than fits."""
    drawn = [
        len(GraphMaker(random.Random(0), 3, 2, edges).graph().edges) for edges in (0, 10, 14, 10**3)
    ]
    assert drawn[:3] == [8, 10, 14]
    assert 14 < drawn[3] < 10 * 9 / 2


def relabelled(graph: Graph, rng: random.Random) -> Graph:
    """The same graph with other numbers, and its edges in another order."""
    nodes = sorted({node for edge in graph.edges for node in edge if node >= 0})
    names = dict(zip(nodes, rng.sample(nodes, len(nodes)), strict=True)) | {-1: -1, -2: -2}
    edges = [(names[a], names[b]) for a, b in graph.edges]
    rng.shuffle(edges)
    return Graph(tuple(edges), tuple(names[node] for node in graph.path), names[graph.wrong])


def test_form_is_that_of_all_numberings() -> None:
    forms = set()
    for seed in range(30):
        rng = random.Random(seed)
        graph = GraphMaker(rng, 3, 3, 12).graph()
        assert relabelled(graph, rng).form == graph.form
        forms.add(graph.form)
    assert len(forms) == 30


def test_form_tells_graphs_apart() -> None:
    """By one edge, and by the question that is asked of the same edges."""
    graph = Graph(((-1, 0), (0, 2), (-2, 1), (1, 3)), (-1, 0, 2), 3)
    more = Graph((*graph.edges, (-2, 0)), graph.path, graph.wrong)
    assert more.form != graph.form
    one = Graph(more.edges, (-1, 0, 2), 3)
    two = Graph(more.edges, (-2, 1, 3), 2)
    assert one.form != two.form
