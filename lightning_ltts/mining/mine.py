"""Mining a batch of questions: trajectories with thought labels (arXiv 2510.07745, section 4)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_ltts.data.latex_answers import Truth
from lightning_ltts.engine.grading import read_answers
from lightning_ltts.engine.record import ThoughtRecord
from lightning_ltts.engine.rollout import RolloutEngine
from lightning_ltts.engine.walk import Branches
from lightning_ltts.mining.questions import MinedQuestions
from lightning_ltts.models.trajectories import Answers, Trajectories
from lightning_ltts.sampling.keyed_random import fold
from lightning_ltts.sampling.streams import Stream
from lightning_ltts.voting.votes import mixed_questions, vote_numbers


@torch.no_grad()
def mine(
    engine: RolloutEngine,
    input_ids: Tensor,
    attention_mask: Tensor,
    keys: Tensor,
    truths: list[Truth],
    rollouts: int,
    informative_only: bool = False,
) -> MinedQuestions:
    """Samples trajectories and labels every prefix h_1..h_t by `rollouts` completions of it.

    The completions fork from the trajectory's cache, so no prefix is read again. A trajectory's
    last step needs none: its label is whether the trajectory itself is right. With no rollouts,
    that label stands for all steps (the paper's ablation).

    Args:
        engine: reasoner and the sampler to mine with.
        input_ids: (Q, L) prompts, left padded.
        attention_mask: (Q, L).
        keys: (Q, N) int64 names of the trajectories.
        truths: Q right answers.
        rollouts: M, completions per prefix.
        informative_only: complete the trajectories of questions with both right and wrong ones
            alone, which is where the labels of a contrast are needed. Their labels are the same.

    Returns the questions on the CPU, numbered 0..Q-1.
    """
    questions, samples = keys.shape
    if engine.reasoner.spec.num_thoughts == 0:
        return _mine_written(engine, input_ids, attention_mask, keys, truths)
    # The greedy trajectory comes first, because it can share the pass of the first thought.
    branches, greedy = _first_thoughts(engine, input_ids, attention_mask, keys)
    tree = PrefixTree(engine, branches, samples, rollouts)
    # The trajectories are finished first: whether completions are worth their price depends on them.
    own = tree.grow()
    of_rows = [truths[i // samples] for i in range(keys.numel())]
    right = engine.agree(_right(engine, own.ids, of_rows))
    chosen = torch.ones(questions, dtype=torch.bool)
    if informative_only:
        chosen = mixed_questions(right.view(questions, samples))
    # Completions of as many questions as fit are made together; at any time all have as many thoughts.
    lengths = attention_mask.sum(1).tolist()
    labels = right[:, None].repeat(1, tree.steps)
    for pack in _packs(engine, chosen, lengths, samples, rollouts, tree.steps):
        completions = tree.complete(pack)
        if not len(completions.owner):  # all ended their thinking with their first thought
            continue
        owners = [truths[i // samples] for i in completions.owner.tolist()]
        completions.write_labels(labels, _right(engine, completions.answers, owners))
    return MinedQuestions(
        input_ids.cpu(),
        attention_mask.cpu(),
        tree.record.trajectories(own, (questions, samples)).on_cpu(),
        labels.unflatten(0, (questions, samples)),
        _votes(engine, own.ids, (questions, samples)),
        greedy.on_cpu(),
        torch.arange(questions),
    )


def _mine_written(
    engine: RolloutEngine,
    input_ids: Tensor,
    attention_mask: Tensor,
    keys: Tensor,
    truths: list[Truth],
) -> MinedQuestions:
    """`mine` for a reasoner that writes its steps: its answers are all there is to label.

    They hold the steps, and their one label, whether they are right, stands where the first
    thought's would.
    """
    questions, samples = keys.shape
    prompts = engine.start(input_ids, attention_mask, keys)
    greedy = engine.greedy(prompts.take(torch.arange(questions)))
    written = engine.sample(prompts, keys)
    ids = written.answer_ids.flatten(0, 1)
    right = _right(engine, ids, [truths[i // samples] for i in range(keys.numel())])
    return MinedQuestions(
        input_ids.cpu(),
        attention_mask.cpu(),
        written.on_cpu(),
        right.view(questions, samples, 1),
        _votes(engine, ids, (questions, samples)),
        greedy.on_cpu(),
        torch.arange(questions),
    )


def _votes(engine: RolloutEngine, answer_ids: Tensor, shape: tuple[int, int]) -> Tensor:
    """Answers (Q * N, A) -> votes (Q, N)."""
    texts = read_answers(engine.reasoner, answer_ids)
    questions, samples = shape
    votes = [vote_numbers(texts[q * samples : (q + 1) * samples]) for q in range(questions)]
    return torch.tensor(votes)


def _packs(
    engine: RolloutEngine,
    chosen: Tensor,
    lengths: list[int],
    samples: int,
    rollouts: int,
    steps: int,
) -> list[Tensor]:
    """The chosen questions (Q,) whose completions are made together, ascending, by index."""
    which = chosen.nonzero().squeeze(-1)
    if not rollouts or not len(which):
        return []
    rows = samples * rollouts * (steps - 1)
    packs = engine.packs([lengths[i] for i in which.tolist()], max(rows, 1))
    return [which[torch.tensor(pack).sort().values] for pack in packs]


def _first_thoughts(
    engine: RolloutEngine, input_ids: Tensor, attention_mask: Tensor, keys: Tensor
) -> tuple[Branches, Trajectories]:
    """The trajectories (Q x N rows) with their first thoughts, and the greedy trajectories.

    What both have in common is read once: the prompt, and for a sampler that perturbs thoughts
    alone also the pass that makes the first of them.
    """
    questions, samples = keys.shape
    prompts = engine.start(input_ids, attention_mask, keys)
    if engine.sampler.perturbs_prompt:
        greedy_rows = engine.noiseless.start(input_ids, attention_mask, keys[:, :1])
    elif engine.sampler.perturbs_forward:  # before a step, which may use the prompts up
        greedy_rows = prompts.take(torch.arange(questions))
    branches = engine.step(prompts, keys.flatten())
    if not (engine.sampler.perturbs_prompt or engine.sampler.perturbs_forward):
        greedy_rows = branches.take(torch.arange(questions) * samples).without_noise()
    return branches, engine.greedy(greedy_rows)


@dataclass(frozen=True)
class Completions:
    """R rows that complete prefixes of trajectories, and where those that did not fit ended."""

    owner: Tensor  # (R,): the trajectory that each completes
    prefix: Tensor  # (R,): thoughts of its prefix
    answers: Tensor  # (R, A), on the CPU

    def write_labels(self, labels: Tensor, right: Tensor) -> None:
        """Writes, into labels (Q * N, T), the share of each prefix's completions that are right.

        `right` (R,) says which completions are. The label of a prefix without any stays as it is.
        """
        place = self.owner * labels.shape[1] + self.prefix - 1
        none = torch.zeros(labels.numel(), dtype=right.dtype)  # Lightning may set another default
        number = none.index_add(0, place, torch.ones_like(right))
        share = none.index_add(0, place, right) / number.clamp(min=1)
        has = number > 0
        labels.view(-1)[has] = share[has]


class PrefixTree:
    """Trajectories, and the completions of their prefixes, as rows that step together.

    Args:
        engine: reasoner and sampler.
        branches: the trajectories, N of each question, with their first thought.
        samples: N.
        rollouts: M, completions per prefix.
    """

    def __init__(self, engine: RolloutEngine, branches: Branches, samples: int, rollouts: int):
        self.engine, self.samples, self.rollouts = engine, samples, rollouts
        self.steps = engine.reasoner.spec.num_thoughts
        self.record = ThoughtRecord(len(branches.keys), self.steps, branches.pending)
        self._first = branches
        self._kept: list[tuple[Tensor, Branches]] = []  # names, rows with a pending thought

    def grow(self) -> Answers:
        """Goes on until every trajectory has all its thoughts; returns the Q * N answers.

        Where completions are to come, the rows are kept to fork from: as they were before each
        thought was read, or after it where the sampler lets all forks share that pass.
        """
        shared = not self.engine.sampler.perturbs_forward
        branches, live = self._first, torch.arange(len(self._first.keys))
        ready: list[tuple[Tensor, Branches]] = []
        for step in range(1, self.steps + 1):
            live, branches, ended = branches.set_aside_ended(live)
            if ended is not None:
                self.record.end(ended[0], step - 1)
                ready.append(ended)
            if not len(live):
                break
            self.record.add(live, step - 1, branches.pending, branches.clean)
            if step == self.steps:
                ready.append((live, self.engine.close(branches)))
            else:
                every = torch.arange(len(live))
                before = branches.take(every) if self.rollouts and not shared else None
                branches = self.engine.step(branches, branches.keys)
                if self.rollouts:
                    self._kept.append((live, before or branches.take(every)))
        return self.engine.answer(Branches.join(ready))

    def complete(self, questions: Tensor) -> Completions:
        """The completions of all prefixes of the trajectories of some questions, ascending.

        A trajectory that ends its thinking by itself is not completed from its last thought on: its
        own answer is the label.
        """
        chosen = torch.zeros(len(self._first.keys) // self.samples, dtype=torch.bool)
        chosen[questions] = True
        prompts = questions
        if self.engine.sampler.perturbs_prompt:  # each trajectory has one of its own
            prompts = (questions[:, None] * self.samples + torch.arange(self.samples)).flatten()
        rows = _Rows(self.engine, self.steps)
        for step, (names, kept) in enumerate(self._kept, start=1):
            goes_on = chosen[names // self.samples] & (self.record.counts[names] > step)
            own = goes_on.nonzero().squeeze(-1)
            copies = torch.arange(self.rollouts, device=kept.keys.device)
            parents = kept.keys[own.to(copies.device), None]
            keys = fold(parents, Stream.COMPLETION, step, copies).flatten()
            forks = kept.take(own.repeat_interleave(self.rollouts), keys, prompts)
            rows.add(forks, names[own].repeat_interleave(self.rollouts), step)
        return rows.finish()


class _Rows:
    """Completions while they are made: rows that still think, wait for their answers, or have them.

    Args:
        engine: reasoner and sampler.
        steps: T, thoughts of a trajectory at most.
    """

    def __init__(self, engine: RolloutEngine, steps: int):
        self.engine, self.steps = engine, steps
        self.owner, self.prefix = (
            torch.zeros(0, dtype=torch.int64),
            torch.zeros(0, dtype=torch.int64),
        )
        self._branches: Branches | None = None
        self._live = torch.zeros(0, dtype=torch.int64)  # names of the rows that still think
        self._ready: list[tuple[Tensor, Branches]] = []
        self._answered: list[tuple[Tensor, Tensor]] = []

    def add(self, forks: Branches, trajectories: Tensor, prefix: int) -> None:
        """Makes the next thought of all rows, and takes up forks with as many.

        Args:
            forks: F rows under their own names, as `PrefixTree.grow` kept them.
            trajectories: (F,) what they complete.
            prefix: thoughts of the prefix that they complete.
        """
        self._step()
        names = len(self.owner) + torch.arange(len(trajectories))
        self.owner = torch.cat([self.owner, trajectories])
        self.prefix = torch.cat([self.prefix, torch.full_like(names, prefix)])
        if not len(names):
            return
        own_pass = self.engine.sampler.perturbs_forward
        forks = self.engine.step(forks, forks.keys) if own_pass else self.engine.draw_again(forks)
        parts = [] if self._branches is None else [(self._live, self._branches)]
        self._branches = Branches.join([*parts, (names, forks)])
        self._live = torch.cat([self._live, names])
        self._make_room()

    def finish(self) -> Completions:
        """Goes on until every row has its answer."""
        self._answer()
        if self._ready:
            names = torch.cat([names for names, _ in self._ready]).sort().values
            self._answered.append((names, self.engine.answer(Branches.join(self._ready)).ids))
        if not self._answered:
            return Completions(self.owner, self.prefix, torch.zeros(0, 0, dtype=torch.int64))
        names = torch.cat([names for names, _ in self._answered])
        answers = torch.cat([ids.cpu() for _, ids in self._answered])
        return Completions(self.owner, self.prefix, answers[names.argsort()])

    def _step(self) -> None:
        """One more thought of the rows that still think; others are set aside."""
        if self._branches is None:
            return
        self._live, branches, ended = self._branches.set_aside_ended(self._live)
        if ended is not None:
            self._ready.append(ended)
        self._branches = self.engine.step(branches, branches.keys) if len(self._live) else None

    def _make_room(self) -> None:
        """Finishes the rows first, where they are too many to be held until the end."""
        if len(self._live) * self.engine.suffix > self.engine.budget:
            self._answer()

    def _answer(self) -> None:
        """Thoughts to the end, and the answers, of the rows that still think."""
        if self._branches is None:
            return
        _, finished = self.engine.think(self._branches, self._branches.keys, self.steps)
        self._answered.append((self._live, self.engine.answer(finished).ids))
        self._branches, self._live = None, self._live[:0]


def _right(engine: RolloutEngine, answer_ids: Tensor, truths: list[Truth]) -> Tensor:
    """Answers (R, A) and their R truths -> (R,) 1 where right, else 0."""
    answers = read_answers(engine.reasoner, answer_ids)
    right = [answer == truth for answer, truth in zip(answers, truths, strict=True)]
    return torch.tensor(right, dtype=torch.float32)
