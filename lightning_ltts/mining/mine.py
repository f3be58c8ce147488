"""Mining a batch of questions: trajectories with thought labels (arXiv 2510.07745, section 4)."""

import torch
from torch import Tensor

from lightning_ltts.data.answers import Answer
from lightning_ltts.engine.grading import read_answers
from lightning_ltts.engine.record import ThoughtRecord
from lightning_ltts.engine.rollout import RolloutEngine
from lightning_ltts.engine.walk import Branches
from lightning_ltts.mining.questions import MinedQuestions
from lightning_ltts.models.trajectories import Trajectories
from lightning_ltts.sampling.keyed_random import fold
from lightning_ltts.sampling.streams import Stream
from lightning_ltts.voting.votes import vote_numbers


@torch.no_grad()
def mine(
    engine: RolloutEngine,
    input_ids: Tensor,
    attention_mask: Tensor,
    keys: Tensor,
    truths: list[Answer],
    rollouts: int,
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

    Returns the questions on the CPU, numbered 0..Q-1.
    """
    questions, samples = keys.shape
    # The greedy trajectory comes first, because it can share the pass of the first thought.
    branches, greedy = _first_thoughts(engine, input_ids, attention_mask, keys)
    # Trajectories and completions grow together: at any time all have as many thoughts.
    tree = PrefixTree(engine, branches, rollouts)
    tree.grow()
    answers = tree.answers()
    # A label is a share of right answers, so answers are read before labels can be counted.
    right = _right(engine, answers, [truths[i // samples] for i in tree.owner.tolist()])
    labels = tree.labels(right)
    own = answers[: keys.numel()]
    texts = read_answers(engine.reasoner, own)
    votes = [vote_numbers(texts[q * samples : (q + 1) * samples]) for q in range(questions)]
    return MinedQuestions(
        input_ids.cpu(),
        attention_mask.cpu(),
        tree.record.trajectories(own, (questions, samples)).on_cpu(),
        labels.unflatten(0, (questions, samples)),
        torch.tensor(votes),
        greedy.on_cpu(),
        torch.arange(questions),
    )


def _first_thoughts(
    engine: RolloutEngine, input_ids: Tensor, attention_mask: Tensor, keys: Tensor
) -> tuple[Branches, Trajectories]:
    """The trajectories (Q x N rows) with their first thoughts, and the greedy trajectories.

    What both have in common is read once: the prompt, and for a sampler that perturbs thoughts
    alone also the pass that makes the first of them.
    """
    questions, samples = keys.shape
    prompts = engine.start(input_ids, attention_mask, keys)
    branches = engine.step(prompts, keys.flatten())
    if engine.sampler.perturbs_prompt:
        greedy_rows = engine.noiseless.start(input_ids, attention_mask, keys[:, :1])
    elif engine.sampler.perturbs_forward:
        greedy_rows = prompts.take(torch.arange(questions))
    else:
        greedy_rows = branches.take(torch.arange(questions) * samples).without_noise()
    return branches, engine.greedy(greedy_rows)


class PrefixTree:
    """Trajectories, and the completions of their prefixes, as rows that step together.

    Row i < Q * N is a trajectory; the rows after those are completions, in the order in which they
    forked.

    Args:
        engine: reasoner and sampler.
        branches: the trajectories with their first thought.
        rollouts: M, completions per prefix.
    """

    def __init__(self, engine: RolloutEngine, branches: Branches, rollouts: int):
        self.engine, self.rollouts = engine, rollouts
        self.steps = engine.reasoner.spec.num_thoughts
        self.trajectories = len(branches.keys)
        self.record = ThoughtRecord(self.trajectories, self.steps, branches.pending)
        self.owner = torch.arange(self.trajectories)  # of each row, the trajectory it completes
        self.prefix = torch.zeros_like(self.owner)  # of each row, the thoughts of its prefix
        self._branches, self._live = branches, self.owner  # rows that still think, and their names
        self._ready: list[tuple[Tensor, Branches]] = []  # rows that wait to be answered
        self._answered: list[tuple[Tensor, Tensor]] = []  # names of rows, and their answers

    def grow(self) -> None:
        """Goes on until every row has all its thoughts and its answer."""
        for step in range(1, self.steps + 1):
            self._live, self._branches, ended = self._branches.set_aside_ended(self._live)
            if ended is not None:
                names, _ = ended
                self.record.end(names[names < self.trajectories], step - 1)
                self._ready.append(ended)
            if not len(self._live):
                break
            own = (self._live < self.trajectories).nonzero().squeeze(-1)
            self._note_thoughts(own, step)
            if step == self.steps:
                self._ready.append((self._live, self.engine.close(self._branches)))
                break
            self._fork(own, step)
            self._make_room()
        names = torch.cat([names for names, _ in self._ready]).sort().values
        self._answered.append((names, self.engine.answer(Branches.join(self._ready))))

    def answers(self) -> Tensor:
        """Answers of all rows (R, A), on the CPU; padding alone where a completion was dropped."""
        ids = torch.cat([ids for _, ids in self._answered]).cpu()
        answers = ids.new_full((len(self.owner), ids.shape[1]), self.engine.reasoner.pad_id)
        answers[torch.cat([names for names, _ in self._answered])] = ids
        return answers

    def labels(self, right: Tensor) -> Tensor:
        """Which rows are right (R,), 1 or 0 -> labels (Q * N, T).

        The label of a prefix is the share of its completions that are right; where there are none,
        it is whether the trajectory itself is right.
        """
        # completions that ended with their trajectory were dropped, and count for nothing
        names = torch.cat([names for names, _ in self._answered])
        answered = torch.zeros_like(right).index_fill(0, names, 1.0)
        place = (self.owner * self.steps + self.prefix - 1)[self.trajectories :]

        def per_prefix(values: Tensor) -> Tensor:
            sums = values.new_zeros(self.trajectories * self.steps)
            sums = sums.index_add(0, place, values[self.trajectories :])
            return sums.view(-1, self.steps)

        number = per_prefix(answered)
        share = per_prefix(right * answered) / number.clamp(min=1)
        return share.where(number > 0, right[: self.trajectories, None])

    def _note_thoughts(self, own: Tensor, step: int) -> None:
        """Writes down the pending thoughts of the trajectories, which are live rows `own`."""
        index = own.to(self._branches.keys.device)
        clean = self._branches.clean
        self.record.add(
            self._live[own],
            step - 1,
            self._branches.pending[index],
            None if clean is None else clean[index],
        )

    def _fork(self, own: Tensor, step: int) -> None:
        """Reads the thoughts numbered `step`; each trajectory's completions fork from it there."""
        copies = torch.arange(self.rollouts, device=self._branches.keys.device)
        parents = self._branches.keys[own.to(copies.device), None]
        keys = fold(parents, Stream.COMPLETION, step, copies).flatten()
        names = torch.arange(len(keys)) + len(self.owner)
        rows = torch.cat([torch.arange(len(self._live)), own.repeat_interleave(self.rollouts)])
        owners = self._live[own].repeat_interleave(self.rollouts)
        self.owner = torch.cat([self.owner, owners])
        self.prefix = torch.cat([self.prefix, torch.full_like(names, step)])
        keys = torch.cat([self._branches.keys, keys])
        self._branches = self.engine.step(self._branches, keys, rows)
        self._live = torch.cat([self._live, names])
        if self._branches.token is not None and len(names):
            # a trajectory that ends its thinking here needs none: its own answer is the label
            kept = torch.ones_like(self._live, dtype=torch.bool)
            goes_on = self._branches.token.cpu()[own] < 0
            kept[-len(names) :] = goes_on.repeat_interleave(self.rollouts)
            self._keep(kept)

    def _make_room(self) -> None:
        """Finishes the completions first, where all rows are too many to be held until the end."""
        completions = self._live >= self.trajectories
        too_many = len(self._live) * self.engine.suffix > self.engine.budget
        if not too_many or not completions.any():
            return
        rows = completions.nonzero().squeeze(-1)
        keys = self._branches.keys[rows.to(self._branches.keys.device)]
        _, finished = self.engine.think(self._branches.take(rows), keys, self.steps)
        self._answered.append((self._live[rows], self.engine.answer(finished)))
        self._keep(~completions)

    def _keep(self, which: Tensor) -> None:
        """Goes on with the live rows where `which` is true."""
        self._live = self._live[which]
        self._branches = self._branches.take(which.nonzero().squeeze(-1))


def _right(engine: RolloutEngine, answer_ids: Tensor, truths: list[Answer]) -> Tensor:
    """Answers (R, A) and their R truths -> (R,) 1 where right, else 0."""
    answers = read_answers(engine.reasoner, answer_ids)
    right = [answer == truth for answer, truth in zip(answers, truths, strict=True)]
    return torch.tensor(right, dtype=torch.float32)
