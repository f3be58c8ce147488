"""What mining and prediction will take, worked out before anything runs: positions, FLOPs, memory.

The engine reads every node of the prefix tree once, so that positions can be counted on paper. All
are per question, on average.
"""

from dataclasses import dataclass

FLOAT = 4  # bytes of a number in a store
PEAK_SHARE = 0.4  # of a device's peak that long runs reach


@dataclass(frozen=True)
class Shape:
    """What matters of a model.

    Attributes:
        weights: that a position is multiplied with, embeddings left out.
        vocabulary: tokens that there are.
        hidden: size of hidden states, and of thoughts.
        layers: blocks with keys and values of their own.
        key_width: size of a position's keys in one block, all heads together.
        bytes: of a number of the cache, 2 where it is computed in half precision.
    """

    weights: int
    vocabulary: int
    hidden: int
    layers: int
    key_width: int
    bytes: int = 2

    @property
    def cache_bytes(self) -> int:
        """Of the keys and values of one position."""
        return 2 * self.layers * self.key_width * self.bytes


# published backbones, so that a plan needs no checkpoint
SHAPES = {
    "gpt2": Shape(85_056_000, 50_257, 768, 12, 768),
    "llama-1b": Shape(973_146_112, 128_256, 2048, 16, 512),
    "llama-8b": Shape(6_979_588_096, 128_256, 4096, 32, 1024),
}


@dataclass(frozen=True)
class Task:
    """What is asked of the model for one question.

    Attributes:
        prompt: L, tokens of the prompt.
        thoughts: T.
        answer: A, tokens of an answer, its marker included and its end left out.
        samples: N.
        rollouts: M, completions per prefix; none in prediction.
        mixed: share of the questions whose trajectories are completed.
        own_passes: whether the sampler perturbs passes, so that forks share fewer.
        own_prompts: whether it perturbs the prompt's, too.
        scored: whether a LatentRM reads the prompt and the samples.
        reference: whether it reads the greedy trajectory, too.
        reads_answer: whether it reads the samples' answers.
        budget: beams times candidates of a tree search.
        beams: that it keeps.
        keep_clean: whether a store holds thoughts as they were before noise, too.
    """

    prompt: float
    thoughts: int
    answer: float
    samples: int
    rollouts: int = 0
    mixed: float = 1.0
    own_passes: bool = False
    own_prompts: bool = False
    scored: bool = False
    reference: bool = True
    reads_answer: bool = True
    budget: int = 0
    beams: int = 0
    keep_clean: bool = False


@dataclass(frozen=True)
class Plan:
    """What one question takes, on average.

    Attributes:
        positions: that the reasoner reads, by part of the work.
        scored: positions that the LatentRM reads.
        chosen: tokens that are chosen from the vocabulary.
        rows: trajectories that are held at once.
        task: what is asked.
    """

    positions: dict[str, float]
    scored: float
    chosen: float
    rows: int
    task: Task

    @property
    def read(self) -> float:
        """Positions that both models read."""
        return sum(self.positions.values()) + self.scored

    def flops(self, shape: Shape) -> float:
        """Two for every weight that a position is multiplied with; see `flops_per_position`."""
        return 2 * (self.read * shape.weights + self.chosen * shape.vocabulary * shape.hidden)

    def cache_bytes(self, shape: Shape) -> float:
        """Keys and values that one question's trajectories hold, the prompt's once."""
        suffix = self.task.thoughts + 2 + self.task.answer
        return (self.task.prompt + self.rows * suffix) * shape.cache_bytes

    def store_bytes(self, shape: Shape) -> float:
        """Of a kept question in a trajectory store."""
        task = self.task
        stored = task.samples * (1 + int(task.keep_clean)) + 1  # trajectories, with the greedy one
        labels = task.samples * (task.thoughts + task.answer + 4)
        # counts, votes and numbers of questions take twice as much as a label
        own = task.answer + task.prompt + 6
        return FLOAT * (stored * task.thoughts * shape.hidden + labels + own)

    def device_hours(self, shape: Shape, questions: int, peak: float) -> float:
        """Hours of one device for so many questions, at `PEAK_SHARE` of its peak in FLOPs/s."""
        return questions * self.flops(shape) / (PEAK_SHARE * peak) / 3600


def plan(task: Task) -> Plan:
    """Counts what `mine` (where there are rollouts) or `predict` reads for a question.

    A trajectory reads its thoughts, the end token and its answer: T + 1 + A positions. What made
    its first thought, the prompt's last token, is shared unless the sampler perturbs passes. A
    completion of t thoughts reads t positions less.
    """
    steps, own = task.thoughts, int(task.own_passes)
    each = steps + 1 + task.answer
    completed = task.mixed * task.samples * task.rollouts
    prefixes = max(steps - 1, 0)
    later = prefixes * (task.answer + 1 + own) + steps * prefixes / 2
    prompts = task.prompt * (1 + task.samples * int(task.own_prompts))
    prompts += own * (task.samples if not task.own_prompts else 0)
    positions = {
        "prompt": prompts,
        "greedy": each,
        "trajectories": task.samples * each,
        "completions": completed * later,
    }
    trajectories = 1 + task.samples + completed * prefixes
    if task.budget:
        # every step reads a thought of each beam, and once it is chosen no other candidate's
        positions["tree search"] = task.beams * each
        trajectories += task.beams
    scored = 0.0
    if task.scored:
        answers = task.answer if task.reads_answer else 0
        scored = task.prompt + int(task.reference) * (steps + task.answer)
        scored += (task.samples + task.beams) * (steps + answers)
        scored += (task.budget - task.beams) * steps
    rows = round(task.samples * (1 + prefixes * (task.rollouts + 1 if task.rollouts else 0)))
    kept = {name: value for name, value in positions.items() if value}
    return Plan(kept, scored, trajectories * (task.answer + 1), max(rows, task.budget), task)
