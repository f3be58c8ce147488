"""The rollout engine: walks the tree of prefixes, reading each distinct prefix once.

The prompt is read once per question. Samples, rollouts and beams are rows over it that fork and drop by index. The prompt's
last token belongs to the thinking: it is read with the first thought, so that a sampler that perturbs passes makes the
first thought differ too, while one that only perturbs thoughts shares that pass as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import DynamicCache

from lightning_ltts.engine.packing import automatic_budget, halve_if_needed, pack
from lightning_ltts.errors import ConfigError
from lightning_ltts.models.latent_lm import LatentReasoner, align_left, position_ids
from lightning_ltts.models.latent_rm import Reference
from lightning_ltts.models.shared_prefix import RowLayout, SharedPrefixCache
from lightning_ltts.sampling.keyed_random import question_keys, sample_keys
from lightning_ltts.sampling.samplers import Deterministic, Phase, Sampler


@dataclass
class Cost:
    """What a computation took, in token positions.

    `token_forwards` counts all that went through the model, padding included; `tree_nodes` those that are a distinct
    prefix of a trajectory. Their ratio is 1.00 when nothing is recomputed or padded.
    """

    token_forwards: int = 0
    tree_nodes: int = 0

    @property
    def ratio(self) -> float:
        """Token forwards over prefix-tree nodes."""
        return self.token_forwards / max(self.tree_nodes, 1)

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.token_forwards + other.token_forwards, self.tree_nodes + other.tree_nodes)

    def __sub__(self, other: "Cost") -> "Cost":
        return Cost(self.token_forwards - other.token_forwards, self.tree_nodes - other.tree_nodes)


@dataclass(frozen=True)
class Branches:
    """Live rows of the prefix tree. Reading on from them uses them up; `take` makes a copy that forks and drops rows."""

    cache: SharedPrefixCache
    pending: Tensor  # (R, d): the next input, not yet read; after step t it is thought h_t
    keys: Tensor  # (R,) int64: names of the trajectories, for randomness
    positions: Tensor  # (R,): position id of the pending input
    step: int  # thoughts made so far, by the rows that are still thinking
    token: Tensor | None = None  # (R,): of rows that ended their thinking by themselves, the token that is pending; or -1
    clean: Tensor | None = None  # (R, d): the thought that is pending, as it was before noise was added to it

    def take(self, rows: Tensor, keys: Tensor | None = None) -> "Branches":
        """These rows (on the CPU, or else it waits for the device), under new keys where given; a row can be repeated."""
        index = rows.to(self.pending.device, non_blocking=True)
        return Branches(
            self.cache.take(rows),
            self.pending[index],
            self.keys[index] if keys is None else keys,
            self.positions[index],
            self.step,
            None if self.token is None else self.token[index],
            None if self.clean is None else self.clean[index],
        )

    @classmethod
    def join(cls, parts: "list[Branches]") -> "Branches":
        """The rows of several, one after the other."""
        tokens = [part.token for part in parts if part.token is not None]
        return cls(
            SharedPrefixCache.join([part.cache for part in parts]),
            torch.cat([part.pending for part in parts]),
            torch.cat([part.keys for part in parts]),
            torch.cat([part.positions for part in parts]),
            max(part.step for part in parts),
            torch.cat(tokens) if tokens else None,
        )


@dataclass(frozen=True)
class Thoughts:
    """What rows thought."""

    fed: Tensor  # (..., T, d): what was fed back, after thought head and noise; zeros beyond a row's own
    clean: Tensor  # (..., T, d): the same before noise was added
    counts: Tensor  # (...): thoughts of each row, T where the reasoner's number is fixed


@dataclass(frozen=True)
class Rollouts:
    """Sampled trajectories of a batch of questions."""

    thoughts: Tensor  # (Q, N, T, d): what was fed back, after thought head and noise; zeros beyond a trajectory's own
    clean: Tensor  # (Q, N, T, d): the same before noise was added
    thought_counts: Tensor  # (Q, N): thoughts of each trajectory, T where the reasoner's number is fixed
    answer_ids: Tensor  # (Q, N, A): padded with the pad id, end of sequence excluded
    token_forwards: int
    tree_nodes: int


class RolloutEngine:
    """Samples trajectories of a latent reasoner.

    Args:
        reasoner: the model; it is put in evaluation mode.
        sampler: what makes trajectories differ.
        token_budget: positions whose keys and values are held at once; larger requests are cut into packs of whole
            questions of similar length. By default as many as the free memory allows. Results do not depend on it.
        compile: use `torch.compile` on the MLPs of the blocks (whole passes have caches of changing shape). Off by default,
            because on a CPU it was slower, see docs/performance.md; not for samplers that perturb passes.
    """

    def __init__(
        self,
        reasoner: LatentReasoner,
        sampler: Sampler | None = None,
        token_budget: int | None = None,
        compile: bool = False,
    ):
        if token_budget is not None and token_budget < 1:
            raise ConfigError(f"token_budget={token_budget} must be at least 1")
        self.reasoner = reasoner.eval()
        self.sampler = sampler if sampler is not None else Deterministic()
        if compile:
            if self.sampler.perturbs_forward:
                raise ConfigError(
                    f"compile=true does not go with {self.sampler!r}, whose masks change in every pass; leave it out"
                )
            for block in reasoner.blocks:
                block.get_submodule("mlp").compile(dynamic=True)
        self.budget = automatic_budget(reasoner) if token_budget is None else token_budget
        self.cost = Cost()

    def packs(self, lengths: Sequence[int], rows: int, suffix: int) -> list[list[int]]:
        """Questions (by index) that are read together, with `rows` trajectories of `suffix` positions each; see `pack`."""
        return pack(lengths, rows, suffix, self.budget, shared=not self.sampler.perturbs_prompt)

    # -- the whole of sampling

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
        """`num_samples` trajectories for each prompt (Q, L), padded on any side, start token included.

        Args:
            input_ids: (Q, L) prompts.
            attention_mask: (Q, L), 1 on real tokens.
            num_samples: N, trajectories per question; row r of the flattened result is question r // N.
            question_ids: names of the questions, integers or strings; by default 0..Q-1. With `seed` and the sample index
                they fix every trajectory.
            seed: of the randomness.
            num_thoughts: T, by default the reasoner's; the most there can be where the reasoner ends its thinking by itself.
            max_answer_tokens: by default the reasoner's.

        Raises:
            ConfigError: no samples asked for, or a sequence longer than the backbone's positions.
        """
        if num_samples < 1:
            raise ConfigError(f"num_samples={num_samples} must be at least 1")
        steps = self.reasoner.spec.num_thoughts if num_thoughts is None else num_thoughts
        max_tokens = self.reasoner.spec.max_answer_tokens if max_answer_tokens is None else max_answer_tokens
        ids = range(len(input_ids)) if question_ids is None else question_ids
        device = self.reasoner.device
        keys = question_keys(seed, list(ids)).to(device)
        distinct = 1 if self.sampler.deterministic else num_samples
        before = replace(self.cost)

        input_ids, attention_mask = align_left(input_ids, attention_mask)
        lengths: list[int] = attention_mask.sum(-1).tolist()
        packs = self.packs(lengths, distinct, steps + 2 + max_tokens)

        def run(questions: list[int]) -> tuple[Tensor, ...]:
            chosen, width = torch.tensor(questions, device=input_ids.device), max(lengths[i] for i in questions)
            part, mask = (x[chosen, -width:].to(device) for x in (input_ids, attention_mask))
            names = sample_keys(keys[chosen.to(device)], distinct)
            made, answers = self.sample(self.start(part, mask, names, steps + 1 + max_tokens), names, steps, max_tokens)
            return made.fed, made.clean, made.counts, answers

        parts = [part for questions in packs for part in halve_if_needed(questions, run)]
        inverse = torch.tensor([i for questions in packs for i in questions], device=device).argsort()
        joined = (torch.cat(tensors)[inverse] for tensors in zip(*parts, strict=True))
        # one trajectory stands for all where they do not differ
        fed, clean, counts, answers = (x.expand(-1, num_samples, *x.shape[2:]) for x in joined)
        spent = self.cost - before
        return Rollouts(fed, clean, counts, answers, spent.token_forwards, spent.tree_nodes)

    # -- its parts, for mining and search

    def sample(self, branches: Branches, keys: Tensor, steps: int, max_tokens: int) -> tuple[Thoughts, Tensor]:
        """From prompts that are read: keys (Q, N) -> their thoughts (Q, N, ...) and answer ids (Q, N, A)."""
        made, branches = self.think(branches, keys.flatten(), steps)
        answers = self.answer(branches, max_tokens).unflatten(0, keys.shape)
        shaped = (x.unflatten(0, keys.shape) for x in (made.fed, made.clean, made.counts))
        return Thoughts(*shaped), answers

    @torch.no_grad()
    def start(self, input_ids: Tensor, attention_mask: Tensor, keys: Tensor, room: int) -> Branches:
        """Reads all prompt tokens but the last.

        Args:
            input_ids: (Q, L) prompts, padded on any side, start token included.
            attention_mask: (Q, L).
            keys: (Q, N) of the trajectories to come; they matter only to samplers that perturb the prompt.
            room: positions needed after the prompt.

        Returns one row per question, or one per trajectory where the sampler perturbs the prompt.
        """
        input_ids, attention_mask = align_left(input_ids, attention_mask)
        longest = int(attention_mask.sum(-1).max())
        if longest + room > self.reasoner.max_positions:
            raise ConfigError(
                f"a prompt of {longest} tokens with {room} more for thoughts and answer does not fit the backbone's "
                f"{self.reasoner.max_positions} positions; shorten the prompt or lower max_answer_tokens"
            )
        if self.sampler.perturbs_prompt:
            input_ids, attention_mask = (x.repeat_interleave(keys.shape[1], 0) for x in (input_ids, attention_mask))
            keys = keys.flatten()
        else:
            keys = keys[:, 0]
        cache = DynamicCache(config=self.reasoner.backbone.config)
        prefix, prefix_mask = input_ids[:, :-1], attention_mask[:, :-1]
        if prefix.shape[1] == 0:  # a prompt of one token: an empty prefix is written as one padded position
            prefix, prefix_mask = input_ids, torch.zeros_like(attention_mask)
        with self.sampler.active(self.reasoner, keys=keys, step=-1, phase="prompt"):
            self.reasoner.read(self.reasoner.embed(prefix), position_ids(prefix_mask), cache, prefix_mask)
        self.cost += Cost(prefix.numel(), int(prefix_mask.sum()))
        layout = RowLayout.of(torch.arange(len(input_ids)), len(input_ids), input_ids.device)
        return Branches(
            SharedPrefixCache(cache, prefix_mask, layout),
            self.reasoner.embed(input_ids[:, -1]),
            keys,
            attention_mask.sum(-1) - 1,
            step=0,
        )

    @torch.no_grad()
    def step(self, branches: Branches, keys: Tensor, rows: Tensor | None = None) -> Branches:
        """Reads every row's pending input and makes its next thought, forking rows where more keys than rows are given.

        Row i of the result goes on from row `rows`[i] under the name keys[i]; by default all rows fork alike: with
        C = len(keys) / R, row r becomes rows r*C .. r*C + C - 1. Forks share the pass unless the sampler perturbs it.
        Where the reasoner is open-ended and predicts its end token, that is pending instead of a thought (see `token`).
        """
        forks, remainder = divmod(len(keys), len(branches.keys))
        if rows is None:
            assert remainder == 0, "keys come in equal numbers for every row"
            rows = torch.arange(len(branches.keys)).repeat_interleave(forks)
        apart = len(keys) > len(branches.keys)
        if not apart:
            branches = replace(branches, keys=keys)
        elif self.sampler.perturbs_forward:
            branches, apart = branches.take(rows, keys), False
        hidden, branches = self._read(branches, branches.pending[:, None], "thought", branches.step)
        hidden = hidden[:, -1]
        token = self._best_token(hidden) if self.reasoner.spec.open_ended else None
        if apart:
            index = rows.to(hidden.device, non_blocking=True)
            branches, hidden = branches.take(rows, keys), hidden[index]
            token = None if token is None else token[index]
        spread = {}
        if self.sampler.uses_spread:
            spread["spread"] = getattr(self.reasoner.thought_head, "spread", lambda _: None)(hidden)
        clean = self.reasoner.thought_head(hidden)
        thought = self.sampler.perturb(clean, keys=keys, step=branches.step, **spread)
        if token is not None:
            token = token.where(token == self.reasoner.end_id, -1)
            end, ended = self._embed_end(token).to(thought.dtype), (token >= 0)[:, None]
            thought, clean = torch.where(ended, end, thought), torch.where(ended, end, clean)
        return replace(branches, pending=thought, step=branches.step + 1, token=token, clean=clean)

    @torch.no_grad()
    def think(self, branches: Branches, keys: Tensor, steps: int) -> tuple[Thoughts, Branches]:
        """Goes on until every row has all its thoughts.

        Where the reasoner is open-ended, rows leave when they predict the end token; one that has not done so after `steps`
        thoughts goes on with whatever token it predicts then, as the first of its answer.

        Args:
            branches: rows to go on from.
            keys: names of the rows from here on; a whole multiple of the rows forks them in the first step.
            steps: T, thoughts in all, those made before included.

        Returns the thoughts (R, ...), from the pending one on, zeros where there is none, their counts with those made before;
        and the rows, ready for `answer`.
        """
        made = branches.step
        thoughts = branches.pending.new_zeros(len(keys), steps, self.reasoner.hidden_size)
        clean = torch.zeros_like(thoughts)
        counts = torch.full((len(keys),), steps)
        live, ready = torch.arange(len(keys)), []
        if made == steps and len(keys) > len(branches.keys):  # no step is left to fork in
            branches = branches.take(torch.arange(len(branches.keys)).repeat_interleave(len(keys) // len(branches.keys)), keys)
        for t in range(made, steps + 1):
            live, branches, ended = set_aside_ended(live, branches)
            if ended is not None:
                counts[ended[0]] = t - 1
                ready.append(ended)
            if not len(live):
                break
            index = live.to(keys.device, non_blocking=True)
            if t > 0:
                thoughts[index, t - 1] = branches.pending.to(thoughts.dtype)
                assert branches.clean is not None, "rows that have made a thought know it as it was before noise"
                clean[index, t - 1] = branches.clean.to(thoughts.dtype)
            if t == steps:
                ready.append((live, self.close(branches)))
            else:
                branches = self.step(branches, keys[index])
        return Thoughts(thoughts, clean, counts.to(keys.device)), join_rows(ready)

    @torch.no_grad()
    def close(self, branches: Branches) -> Branches:
        """Makes rows with all their thoughts ready for `answer`; of an open-ended reasoner, reads the last one for that."""
        if not self.reasoner.spec.open_ended:
            return branches
        hidden, branches = self._read(branches, branches.pending[:, None], "thought", branches.step)
        token = self._best_token(hidden[:, -1])
        return replace(branches, pending=self.reasoner.embed(token), token=token)

    @torch.no_grad()
    def answer(self, branches: Branches, max_tokens: int) -> Tensor:
        """Reads what is pending and the end token, then decodes greedily: (R, max_tokens) ids, padded with the pad id.

        The end of sequence is not part of an answer. Rows that reach it leave the batch.
        """
        reasoner, device = self.reasoner, branches.keys.device
        # which rows go on is worked out on the CPU: the tokens themselves are all that is waited for
        answers = torch.full((len(branches.keys), max_tokens), reasoner.pad_id)
        live, written = torch.arange(len(answers)), torch.zeros(len(answers), dtype=torch.int64)
        if branches.token is None:
            end = self._embed_end(branches.keys).to(branches.pending.dtype)
            inputs = torch.stack((branches.pending, end), 1)
            branches = branches.take(live)  # a copy, since the cache grows and callers may go on from theirs
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
            tokens = self._best_token(hidden[:, -1], answer=True).cpu()
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
        return answers.to(device)

    def _best_token(self, hidden: Tensor, answer: bool = False) -> Tensor:
        """Hidden states (R, d) -> the most likely tokens (R,), in an answer without the suppressed ones."""
        logits = self.reasoner.logits(hidden)
        if answer and self.reasoner.suppressed_ids:
            logits[:, self.reasoner.suppressed_ids] = -torch.inf
        return logits.argmax(-1)

    def _embed_end(self, like: Tensor) -> Tensor:
        """The end token's embedding for every row (R, ...) -> (R, d)."""
        return self.reasoner.embed(torch.full((len(like),), self.reasoner.end_id, device=like.device))

    def _read(self, branches: Branches, inputs: Tensor, phase: Phase, step: int) -> tuple[Tensor, Branches]:
        """One pass over inputs (R, L, d) at the rows' positions; the cache grows in place."""
        length = inputs.shape[1]
        positions = branches.positions[:, None] + torch.arange(length, device=inputs.device)
        with self.sampler.active(self.reasoner, keys=branches.keys, step=step, phase=phase):
            hidden = self.reasoner.read(inputs, positions, branches.cache)
        self.cost += Cost(positions.numel(), positions.numel())
        return hidden, replace(branches, positions=branches.positions + length)


def deterministic(rollouts: Rollouts) -> Reference:
    """The first trajectory of each question, for a LatentRM that compares with the deterministic one.

    `rollouts` are those of a `RolloutEngine(reasoner)` without sampler.
    """
    return Reference(rollouts.thoughts[:, 0], rollouts.thought_counts[:, 0], rollouts.answer_ids[:, 0])


def set_aside_ended(live: Tensor, branches: Branches) -> tuple[Tensor, Branches, tuple[Tensor, Branches] | None]:
    """Rows (named by `live`) that still think, and those that ended their thinking by themselves, where there are any."""
    if branches.token is None:
        return live, branches, None
    has_ended = branches.token.cpu() >= 0
    if not has_ended.any():
        return live, branches, None
    going, gone = ((~has_ended).nonzero().squeeze(-1), has_ended.nonzero().squeeze(-1))
    return live[going], branches.take(going), (live[gone], branches.take(gone))


def join_rows(parts: list[tuple[Tensor, Branches]]) -> Branches:
    """The rows of several branches in the order of their names."""
    if len(parts) == 1:
        return parts[0][1]
    return Branches.join([part for _, part in parts]).take(torch.cat([rows for rows, _ in parts]).argsort())
