"""Directed graphs in which one of two sinks can be reached from a root, in an exact number of hops.

Both sinks look alike: each ends a path of as many hops from a root of its own, and cannot be
reached from the other root. So only the root that is asked about tells them apart.
"""

import hashlib
import random
from collections import defaultdict
from dataclasses import dataclass, field

Edge = tuple[int, int]
FAR = 1_000_000  # of nodes that cannot be reached
ROUNDS = 4  # of refining colours


@dataclass(frozen=True)
class Graph:
    """A question about a directed graph without cycles.

    Roots have the numbers -1, -2 and so on; all other nodes those from 0 on, in a topological
    order.

    Attributes:
        edges: from node to node.
        path: the only shortest path from root -1 to the right sink, both included.
        wrong: the other sink.
    """

    edges: tuple[Edge, ...]
    path: tuple[int, ...]
    wrong: int

    @property
    def form(self) -> str:
        """A text that is the same for all graphs that differ in their nodes' numbers alone.

        By the colours of Weisfeiler and Lehman (1968): a node's is refined by those of the nodes
        it has edges with. Graphs that are not the same can have one form, too, but rarely do.
        """
        nodes = {node for edge in self.edges for node in edge}
        marked = {self.path[0]: "asked", self.path[-1]: "right", self.wrong: "wrong"}
        colours = {node: marked.get(node, "root" if node < 0 else "") for node in nodes}
        before, after = defaultdict[int, list[int]](list), defaultdict[int, list[int]](list)
        for source, target in self.edges:
            after[source].append(target)
            before[target].append(source)
        for _ in range(ROUNDS):
            colours = {
                node: _colour(
                    colours[node],
                    sorted(colours[other] for other in before[node]),
                    sorted(colours[other] for other in after[node]),
                )
                for node in nodes
            }
        return " ".join(sorted(colours.values()))


def _colour(*seen: object) -> str:
    return hashlib.blake2b(repr(seen).encode(), digest_size=6).hexdigest()


class GraphMaker:
    """Draws a graph edge by edge.

    Args:
        rng: where randomness comes from.
        hops: edges of the path from the root to the right sink.
        distractors: nodes besides those of the two paths.
        edges: how many there are to be; fewer where no more fit, more where the paths and one edge
            to each distractor need them.
        roots: how many there are, at least 2.
    """

    def __init__(self, rng: random.Random, hops: int, distractors: int, edges: int, roots: int = 2):
        self._rng, self._hops, self._roots = rng, hops, roots
        places = ["right"] * hops + ["wrong"] * hops + [""] * distractors
        rng.shuffle(places)
        self._size = len(places)
        self._sides = {
            name: _Side(root, [i for i, place in enumerate(places) if place == name])
            for name, root in (("right", -1), ("wrong", -2))
        }
        self._edges: dict[Edge, None] = {}  # in the order in which they were drawn
        for side in self._sides.values():
            for edge in zip([side.root, *side.path], side.path, strict=False):
                self._add(edge)
        for node in (i for i, place in enumerate(places) if not place):
            self._attach(node)
        for _ in range(20 * edges):
            if len(self._edges) >= edges:
                break
            self._try(self._any_edge())

    def graph(self) -> Graph:
        """The graph that was drawn."""
        right, wrong = self._sides["right"], self._sides["wrong"]
        return Graph(tuple(self._edges), (right.root, *right.path), wrong.path[-1])

    def _attach(self, node: int) -> None:
        """Gives a distractor an edge that leads to it; one from a root is never in the way."""
        earlier = [*range(-self._roots, 0), *range(node)]
        for _ in range(10):
            if self._try((self._rng.choice(earlier), node)):
                return
        self._try((-self._rng.randint(1, self._roots), node))

    def _any_edge(self) -> Edge:
        target = self._rng.randrange(self._size)
        return self._rng.randrange(-self._roots, target), target

    def _try(self, edge: Edge) -> bool:
        """Adds an edge, unless it spoils a path, or is there already."""
        sinks = [side.path[-1] for side in self._sides.values()]
        if edge[0] in sinks or edge in self._edges:
            return False
        right, wrong = self._sides.values()
        for side, other in ((right, wrong), (wrong, right)):
            if (
                side.length_over(edge) <= self._hops
            ):  # another path as short as the one that is meant
                return False
            if side.reaches(edge) and other.leads(edge):
                return False
        self._add(edge)
        return True

    def _add(self, edge: Edge) -> None:
        self._edges[edge] = None
        for side in self._sides.values():
            side.add(edge)


@dataclass
class _Side:
    """A root with the path to its sink, and what lies between them."""

    root: int
    path: list[int]
    _after: defaultdict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    _before: defaultdict[int, list[int]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        self._from_root = defaultdict(lambda: FAR, {self.root: 0})  # edges from the root to a node
        self._to_sink = defaultdict(
            lambda: FAR, {self.path[-1]: 0}
        )  # edges from a node to the sink

    def add(self, edge: Edge) -> None:
        source, target = edge
        self._after[source].append(target)
        self._before[target].append(source)
        _shorten(self._from_root, source, target, self._after)
        _shorten(self._to_sink, target, source, self._before)

    def length_over(self, edge: Edge) -> int:
        """Edges of the shortest way from the root to the sink over an edge that is not there yet."""
        return self._from_root[edge[0]] + 1 + self._to_sink[edge[1]]

    def reaches(self, edge: Edge) -> bool:
        """Whether the root reaches the node that an edge begins at."""
        return self._from_root[edge[0]] < FAR

    def leads(self, edge: Edge) -> bool:
        """Whether the node that an edge ends at leads to the sink."""
        return self._to_sink[edge[1]] < FAR


def _shorten(lengths: dict[int, int], known: int, node: int, onward: dict[int, list[int]]) -> None:
    """A new edge from `known` to `node` makes ways to the node, and on from it, shorter."""
    if lengths[known] + 1 >= lengths[node]:
        return
    lengths[node] = lengths[known] + 1
    for following in onward[node]:
        _shorten(lengths, node, following, onward)
