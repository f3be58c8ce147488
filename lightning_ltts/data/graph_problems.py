"""A second built-in task: which of two concepts can be reached in a graph that sentences describe.

"Every baldak is a monern. Tom is a baldak. ... Is Tom a monern or dorzon?", after ProsQA (arXiv
2412.06769, section 4.1). The steps are the path, and the answer is a sentence.
"""

import random

from lightning_ltts.data.problems import Problem, ProblemSource, question_id
from lightning_ltts.data.ranges import require_number, require_whole
from lightning_ltts.data.reachability import Graph, GraphMaker
from lightning_ltts.data.splits import Split, require_split, split_of_text
from lightning_ltts.errors import ConfigError

_FIRST = ["bal", "dor", "fen", "gim", "hol", "jas", "kel", "lum", "mon", "nip"]
_SECOND = ["dak", "wick", "zon", "ern"]
CONCEPTS = [first + second for first in _FIRST for second in _SECOND]  # made up, 40 of them
PERSONS = [
    "Ann", "Bob", "Eva", "Max", "Mia", "Sam", "Zoe", "Tom", "Ben", "Kim",
    "Leo", "Amy", "Jim", "Ida", "Pat", "Ray", "Sue", "Ted", "Uma", "Vic",
]  # fmt: skip
RELATION = ["Every", "is a"]  # what stands before a concept in a sentence
WORDS = ["Is", "a", "or", "?"]  # of the question


class GraphProblems(ProblemSource):
    """Generated problems of reachability, each different, the same for the same arguments.

    Both candidates end a path of as many hops, each from a person of its own, and lead nowhere. The
    path to the right one is the only one as short.

    Args:
        split: `train`, `valid`, `test`, or `mine` for trajectories that a LatentRM is trained on. It
            is decided by a hash of the graph whatever its names and the order of its sentences, so
            that no two splits share any.
        size: how many problems.
        seed: which problems of the split.
        hops: sentences of the path, which are the steps; more is harder.
        fewest_hops: draw the hops evenly between this number and `hops`; by default all have `hops`.
        distractors: concepts besides those of the paths to both candidates.
        fewest_distractors: draw them evenly between this number and `distractors`; by default all
            problems have `distractors`. Graphs from easy to hard teach what hard ones alone do not.
        density: sentences for each concept; the paths and one sentence for each distractor are there
            in any case.
        lowest_density: draw it evenly between this number and `density`; by default it is `density`.
        persons: how many are told of, at least 2.
        max_size: the largest size that is generated, about four kilobytes of memory each.

    Raises:
        ConfigError: a number is out of range, or there are fewer names than concepts or persons.
    """

    def __init__(
        self,
        split: Split,
        size: int,
        seed: int = 0,
        hops: int = 3,
        fewest_hops: int | None = None,
        distractors: int = 3,
        density: float = 1.2,
        persons: int = 2,
        fewest_distractors: int | None = None,
        lowest_density: float | None = None,
        max_size: int = 1_000_000,
    ):
        owner = "GraphProblems"
        require_split(owner, split)
        require_whole(owner, "seed", seed)
        require_whole(owner, "hops", hops, 1, len(CONCEPTS) // 2)
        require_whole(owner, "fewest_hops", 1 if fewest_hops is None else fewest_hops, 1, hops)
        most = len(CONCEPTS) - 2 * hops
        require_whole(owner, "distractors", distractors, 0, most, "there are 40 names of concepts")
        fewest = distractors if fewest_distractors is None else fewest_distractors
        require_whole(owner, "fewest_distractors", fewest, 0, distractors)
        require_number(owner, "density", density, 0, 10)
        lowest = density if lowest_density is None else lowest_density
        require_number(owner, "lowest_density", lowest, 0, density)
        require_whole(owner, "persons", persons, 2, len(PERSONS))
        require_whole(owner, "max_size", max_size, 1)
        require_whole(owner, "size", size, 1, max_size, "raise max_size for more")
        self.split = split
        self.size = size
        self.seed = seed
        self.hops = hops
        self.fewest_hops = fewest_hops
        self.distractors = distractors
        self.fewest_distractors = fewest_distractors
        self.density = density
        self.lowest_density = lowest_density
        self.persons = persons

    def load(self) -> list[Problem]:  # noqa: D102
        rng = random.Random(f"graph problems {self.seed}")
        problems: dict[str, Problem] = {}
        for _ in range(1000 + 100 * self.size):
            hops = rng.randint(self.fewest_hops or self.hops, self.hops)
            distractors, density = self.distractors, self.density
            if self.fewest_distractors is not None:
                distractors = rng.randint(self.fewest_distractors, distractors)
            if self.lowest_density is not None:
                density = rng.uniform(self.lowest_density, density)
            edges = round(density * (2 * hops + distractors))
            graph = GraphMaker(rng, hops, distractors, edges, self.persons).graph()
            if split_of_text(graph.form) == self.split:
                problem = told(graph, self.persons, rng, f"GraphProblems({self.split})")
                problems[problem.question] = problem
            if len(problems) == self.size:
                return list(problems.values())
        raise ConfigError(
            f"only {len(problems)} different {self.split} problems of GraphProblems were found with "
            f"hops={self.hops}, distractors={self.distractors} and density={self.density}, but "
            f"size={self.size}; raise the former or lower size"
        )


def told(graph: Graph, persons: int, rng: random.Random, source: str) -> Problem:
    """The problem that a graph makes, with names and an order of sentences that are drawn."""
    people, concepts = rng.sample(PERSONS, persons), rng.sample(CONCEPTS, len(CONCEPTS))

    def name(node: int) -> str:
        return people[-node - 1] if node < 0 else concepts[node]

    def sentence(source: int, target: int) -> str:
        return f"{name(source) if source < 0 else f'Every {name(source)}'} is a {name(target)}."

    root, right = name(graph.path[0]), name(graph.path[-1])
    sentences = [sentence(*edge) for edge in graph.edges]
    candidates = [right, name(graph.wrong)]
    rng.shuffle(sentences)
    rng.shuffle(candidates)
    question = " ".join([*sentences, f"Is {root} a {' or '.join(candidates)}?"])
    steps = tuple(sentence(*edge) for edge in zip(graph.path, graph.path[1:], strict=False))
    answer = f"{root} is a {right}."
    return Problem(question_id(question), question, steps, answer, source, "text")
