"""The rollout engine: whole trajectories, from prompts to answers.

Single passes, and how rows fork and drop, are in `walk`.
"""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain

import torch
from torch import Tensor

from lightning_ltts.engine.packing import automatic_budget, halve_if_needed, pack
from lightning_ltts.engine.record import ThoughtRecord
from lightning_ltts.engine.walk import Branches, PrefixWalker
from lightning_ltts.errors import ConfigError
from lightning_ltts.models.cost import Cost
from lightning_ltts.models.latent_lm import LatentReasoner, align_left
from lightning_ltts.models.trajectories import Answers, Trajectories
from lightning_ltts.sampling.keyed_random import question_keys, sample_keys
from lightning_ltts.sampling.samplers import Deterministic, Sampler


@dataclass(frozen=True)
class Rollouts(Trajectories):
    """Sampled trajectories of a batch of questions, and what they cost."""

    cost: Cost = field(default_factory=Cost)

    @property
    def token_forwards(self) -> int:
        """Token positions that went through the model, padding included."""
        return self.cost.token_forwards

    @property
    def tree_nodes(self) -> int:
        """Token positions that are a distinct prefix of a trajectory."""
        return self.cost.tree_nodes


class RolloutEngine(PrefixWalker):
    """Samples trajectories of a latent reasoner.

    Args:
        reasoner: the model; it is put in evaluation mode.
        sampler: what makes trajectories differ; by default nothing does.
        token_budget: positions whose keys and values are held at once; larger requests are cut into
            packs of whole questions of similar length. By default as many as the free memory
            allows. Results do not depend on it.
        compile: use `torch.compile` on the MLPs of the blocks (whole passes have caches of changing
            shape). Off by default, because on a CPU it was slower, see docs/performance.md; not for
            samplers that perturb passes.

    Raises:
        ConfigError: a budget below 1, or `compile` with such a sampler.
    """

    def __init__(
        self,
        reasoner: LatentReasoner,
        sampler: Sampler | None = None,
        token_budget: int | None = None,
        compile: bool = False,
    ):
        super().__init__(reasoner, sampler)
        if token_budget is not None and token_budget < 1:
            raise ConfigError(f"token_budget={token_budget} must be at least 1")
        if compile:
            if self.sampler.perturbs_forward:
                raise ConfigError(
                    f"compile=true does not go with {self.sampler!r}, whose masks change in every pass; leave it out"
                )
            for block in reasoner.blocks:
                block.get_submodule("mlp").compile(dynamic=True)
        self.budget = automatic_budget(reasoner) if token_budget is None else token_budget
        self.may_halve = True  # passes that memory turns out to be too small for
        # what one process says of right and wrong, where several have to go on alike
        self.agree: Callable[[Tensor], Tensor] = _own

    def keep_in_step(self, budget: int, agree: Callable[[Tensor], Tensor]) -> None:
        """Makes the passes of other processes, which hold the other parts of the model.

        Args:
            budget: theirs, in positions.
            agree: gives all of them the value that one of them has.
        """
        self.budget, self.may_halve, self.agree = budget, False, agree

    @property
    def noiseless(self) -> "RolloutEngine":
        """This engine without its sampler; what it reads is counted here, too."""
        return self.with_sampler(Deterministic())

    def with_sampler(self, sampler: Sampler) -> "RolloutEngine":
        """This engine with another sampler; what it reads is counted here, too."""
        engine = copy.copy(self)
        engine.sampler = sampler
        engine._leaves_last |= sampler.perturbs_forward
        return engine

    def packs(
        self, lengths: Sequence[int], rows: int, suffix: int | None = None
    ) -> list[list[int]]:
        """Questions that are read together, by index; see `pack`.

        Args:
            lengths: prompt length of each question.
            rows: trajectories of one question.
            suffix: positions of each after the prompt; by default those of the specification.
        """
        suffix = self.suffix if suffix is None else suffix
        return pack(lengths, rows, suffix, self.budget, shared=not self.sampler.perturbs_prompt)

    @torch.no_grad()
    def rollout(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        num_samples: int = 1,
        question_ids: Sequence[int | str] | Tensor | None = None,
        seed: int = 0,
        num_thoughts: int | None = None,
        max_answer_tokens: int | None = None,
    ) -> Rollouts:
        """`num_samples` trajectories for each prompt (Q, L), start token included.

        Args:
            input_ids: (Q, L) prompts, padded on any side.
            attention_mask: (Q, L), 1 on real tokens.
            num_samples: N, trajectories per question; row r of the flattened result is question
                r // N.
            question_ids: names of the questions, integers or strings; by default 0..Q-1. With
                `seed` and the sample index they fix every trajectory.
            seed: seed of the randomness.
            num_thoughts: T, by default the reasoner's; the most there can be where the reasoner
                ends its thinking by itself.
            max_answer_tokens: A, by default the reasoner's.

        Raises:
            ConfigError: no samples asked for, or a sequence longer than the backbone's positions.
        """
        if num_samples < 1:
            raise ConfigError(f"num_samples={num_samples} must be at least 1")
        steps, max_tokens = self._lengths(num_thoughts, max_answer_tokens)
        ids = range(len(input_ids)) if question_ids is None else question_ids
        device = self.reasoner.device
        keys = question_keys(seed, list(ids)).to(device)
        # one trajectory stands for all where they do not differ
        distinct = 1 if self.sampler.deterministic else num_samples

        input_ids, attention_mask = align_left(input_ids, attention_mask)
        lengths: list[int] = attention_mask.sum(-1).tolist()
        packs = self.packs(lengths, distinct, steps + 2 + max_tokens)

        def run(questions: list[int]) -> Trajectories:
            chosen = torch.tensor(questions, device=input_ids.device)
            width = max(lengths[i] for i in questions)
            part, mask = (x[chosen, -width:].to(device) for x in (input_ids, attention_mask))
            names = sample_keys(keys[chosen.to(device)], distinct)
            prompts = self.start(part, mask, names, steps + 1 + max_tokens)
            return self.sample(prompts, names, steps, max_tokens)

        with self.counting() as cost:
            made = [halve_if_needed(questions, run, self.may_halve) for questions in packs]
        inverse = torch.tensor(
            [i for questions in packs for i in questions], device=device
        ).argsort()
        ordered = Trajectories.join(list(chain.from_iterable(made))).questions(inverse)
        repeated = ordered.map(lambda x: x.expand(-1, num_samples, *x.shape[2:]))
        return Rollouts(**vars(repeated), cost=cost)

    # -- its parts, for mining and search

    @torch.no_grad()
    def sample(
        self,
        branches: Branches,
        keys: Tensor,
        steps: int | None = None,
        max_tokens: int | None = None,
    ) -> Trajectories:
        """From prompts that are read, under the names `keys` (Q, N), to whole trajectories.

        T and A, `steps` and `max_tokens`, are by default those of the specification.
        """
        steps, max_tokens = self._lengths(steps, max_tokens)
        record, finished = self.think(branches, keys.flatten(), steps)
        questions, samples = keys.shape
        return record.trajectories(self.answer(finished, max_tokens), (questions, samples))

    @torch.no_grad()
    def greedy(
        self, branches: Branches, steps: int | None = None, max_tokens: int | None = None
    ) -> Trajectories:
        """Goes on from R rows without noise, to one trajectory of each: (R, 1, ...).

        From a prompt that is read, this is the greedy trajectory. From rows that have thought
        already, it is where they lead; thoughts that they have read on from are zeros in it.
        """
        return self.noiseless.sample(branches, branches.keys[:, None], steps, max_tokens)

    @torch.no_grad()
    def think(self, branches: Branches, keys: Tensor, steps: int) -> tuple[ThoughtRecord, Branches]:
        """Goes on until every row has all its thoughts.

        Where the reasoner is open-ended, rows leave when they predict the end token; one that has
        not done so after `steps` thoughts goes on with whatever token it predicts then, as the
        first of its answer.

        Args:
            branches: rows to go on from.
            keys: names of the rows from here on; a whole multiple of the rows forks them in the
                first step.
            steps: T, thoughts in all, those made before included.

        Returns the rows' thoughts, from the pending one on, with counts that include those made
        before; and the rows, ready for `answer`.
        """
        made, forks = branches.step, len(keys) // len(branches.keys)
        record = ThoughtRecord(len(keys), steps, branches.pending)
        if made == steps and forks > 1:  # no step is left to fork in
            every = torch.arange(len(branches.keys))
            branches = branches.take(every.repeat_interleave(forks), keys)
        live, ready = torch.arange(len(keys)), []
        for step in range(made, steps + 1):
            live, branches, ended = branches.set_aside_ended(live)
            if ended is not None:
                record.end(ended[0], step - 1)
                ready.append(ended)
            if not len(live):
                break
            if step > 0:
                record.add(live, step - 1, branches.pending, branches.clean)
            if step == steps:
                ready.append((live, self.close(branches)))
            else:
                index = live.to(keys.device, non_blocking=True)
                branches = self.step(branches, keys[index])
        return record, Branches.join(ready)

    @torch.no_grad()
    def answer(self, branches: Branches, max_tokens: int | None = None) -> Answers:
        """Reads what is pending and the end token, then decodes as the sampler chooses.

        A is `max_tokens`, by default that of the specification. The end of sequence is not part of
        an answer. Rows that reach it leave the batch. A first token that the reasoner predicted
        where it ended its thinking by itself is part of the answer and not of how sure it was.
        """
        _, max_tokens = self._lengths(None, max_tokens)
        reasoner, device = self.reasoner, branches.keys.device
        # which rows go on is worked out on the CPU: the tokens are all that is waited for
        answers = torch.full((len(branches.keys), max_tokens), reasoner.pad_id)
        live = torch.arange(len(answers))
        written = torch.zeros(len(answers), dtype=torch.int64)
        sure = _Certainty(len(answers), reasoner.suppressed_ids, device)
        if branches.token is None:
            end = self._embed_end(branches.keys).to(branches.pending.dtype)
            inputs = torch.stack((branches.pending, end), 1)
            if branches.state is not None:  # without any thought, what is pending was read already
                inputs = end[:, None]
            branches = branches.take(live)  # a copy: the cache grows, callers may go on from theirs
        else:  # a token other than the end token is the answer's first
            token = branches.token.cpu()
            first = (token != reasoner.end_id) & (token != reasoner.eos_id)
            answers[first, 0] = token[first]
            written += first
            live = live[(token != reasoner.eos_id) & (written < max_tokens)]
            branches = branches.take(live)
            inputs = branches.pending[:, None]
        for position in range(max_tokens if len(live) else 0):
            hidden, branches = self._read(branches, inputs, "answer", position)
            logits = sure.allowed(self._logits(hidden[:, -1]))
            chosen = self.sampler.choose(logits, keys=branches.keys, position=position)
            sure.add(live, logits, chosen)
            tokens = chosen.cpu()
            goes_on = tokens != reasoner.eos_id
            answers[live[goes_on], written[live[goes_on]]] = tokens[goes_on]
            written[live] += 1
            goes_on &= written[live] < max_tokens
            if not goes_on.any():
                break
            live, tokens = live[goes_on], tokens[goes_on]
            if not goes_on.all():
                branches = branches.take(goes_on.nonzero().squeeze(-1))
            inputs = reasoner.embed(tokens.to(device))[:, None]
        return Answers(answers.to(device), sure.log_probs, sure.mean_certainty)

    def _lengths(self, steps: int | None, max_tokens: int | None) -> tuple[int, int]:
        """T and A, by default those of the specification."""
        spec = self.reasoner.spec
        return (
            spec.num_thoughts if steps is None else steps,
            spec.max_answer_tokens if max_tokens is None else max_tokens,
        )


def _own(value: Tensor) -> Tensor:
    return value


_CACHED = 2**19  # probabilities of this many tokens and rows fit into the caches of a CPU


class _Certainty:
    """How sure the reasoner is of the tokens that R rows answer with.

    All sums stay on the device, so that nothing more is waited for.
    """

    def __init__(self, rows: int, suppressed: list[int], device: torch.device):
        self._suppressed = suppressed
        self._tokens = torch.zeros(rows, device=device)  # (R,): decoded so far
        self._certainty = torch.zeros(
            rows, dtype=torch.float32, device=device
        )  # (R,): summed over tokens
        self.log_probs = torch.zeros(rows, dtype=torch.float32, device=device)  # (R,)

    def allowed(self, logits: Tensor) -> Tensor:
        """Logits (R', V) with -inf for the tokens that an answer must not have."""
        if self._suppressed:
            logits[:, self._suppressed] = -torch.inf
        return logits

    def add(self, live: Tensor, logits: Tensor, tokens: Tensor) -> None:
        """The next tokens (R',) of rows `live` (R',), on the CPU, whose logits are (R', V)."""
        rows = live.to(logits.device, non_blocking=True)
        allowed = logits.shape[-1] - len(self._suppressed)
        # a few rows at a time on a CPU, so that their probabilities stay in its caches; never a
        # single one of several, whose sum would be rounded otherwise
        at_once = _CACHED if logits.device.type == "cpu" else logits.numel()
        parts = min(-(-logits.numel() // at_once), max(len(rows) // 2, 1))
        split = (x.tensor_split(parts) for x in (logits, rows, tokens))
        for part, those, ids in zip(*split, strict=True):
            log_probs = part.float().log_softmax(-1)
            self.log_probs[those] += log_probs.gather(-1, ids[:, None]).squeeze(-1)
            if self._suppressed:  # these are no part of what was chosen from
                log_probs[:, self._suppressed] = 0
            self._certainty[those] -= log_probs.sum(-1) / allowed + math.log(allowed)
        self._tokens[rows] += 1

    @property
    def mean_certainty(self) -> Tensor:
        """(R,): 0 for a row that decoded nothing."""
        return self._certainty / self._tokens.clamp(min=1)
