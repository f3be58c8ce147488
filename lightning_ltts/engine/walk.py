"""Walking the tree of prefixes, one pass at a time: each distinct prefix is read once.

The prompt is read once per question. Samples, rollouts and beams are rows over it that fork and
drop by index. Where the sampler perturbs passes, the prompt's last token belongs to the thinking: it
is read with the first thought, which differs too then. Otherwise it is read with the prompt.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import DynamicCache

from lightning_ltts.errors import ConfigError
from lightning_ltts.models.cost import Cost, CostMeter, flops_per_position
from lightning_ltts.models.latent_lm import LatentReasoner, align_left, position_ids
from lightning_ltts.models.shared_prefix import RowLayout, SharedPrefixCache
from lightning_ltts.sampling.samplers import Deterministic, Phase, Sampler, perturb_thought


@dataclass(frozen=True)
class Branches:
    """Live rows of the prefix tree.

    Reading on from them uses them up; `take` makes a copy that forks and drops rows.
    """

    cache: SharedPrefixCache
    pending: (
        Tensor  # (R, d): the next input, not yet read but for `state`; after step t thought h_t
    )
    keys: Tensor  # (R,) int64: names of the trajectories, for randomness
    positions: Tensor  # (R,): position id of what is read next
    step: int  # thoughts made so far, by the rows that are still thinking
    token: Tensor | None = None  # (R,): the pending token where a row ended its thinking, else -1
    clean: Tensor | None = None  # (R, d): the pending thought as it was before noise
    hidden: Tensor | None = None  # (R, d): the state that the pending thought was made of
    state: Tensor | None = None  # (R, d): what `pending` gave, where it was read with the prompt

    def take(
        self, rows: Tensor, keys: Tensor | None = None, questions: Tensor | None = None
    ) -> "Branches":
        """These rows, under new keys where given; a row can be repeated.

        `rows` are on the CPU, or else this waits for the device. Where `questions` are given, no
        other prompts are kept (see `SharedPrefixCache.take`).
        """
        index = rows.to(self.pending.device, non_blocking=True)
        return Branches(
            self.cache.take(rows, questions),
            self.pending[index],
            self.keys[index] if keys is None else keys,
            self.positions[index],
            self.step,
            None if self.token is None else self.token[index],
            None if self.clean is None else self.clean[index],
            None if self.hidden is None else self.hidden[index],
            None if self.state is None else self.state[index],
        )

    def without_noise(self) -> "Branches":
        """The same rows with their pending thought as it was before noise."""
        assert self.clean is not None, "rows that have made a thought know it as it was"
        return replace(self, pending=self.clean)

    def set_aside_ended(
        self, names: Tensor
    ) -> "tuple[Tensor, Branches, tuple[Tensor, Branches] | None]":
        """Rows that still think, and those that have ended their thinking by themselves, if any.

        `names` (R,) go with the rows.
        """
        if self.token is None:
            return names, self, None
        has_ended = self.token.cpu() >= 0
        if not has_ended.any():
            return names, self, None
        going, gone = ((~has_ended).nonzero().squeeze(-1), has_ended.nonzero().squeeze(-1))
        return names[going], self.take(going), (names[gone], self.take(gone))

    @classmethod
    def join(cls, parts: "list[tuple[Tensor, Branches]]") -> "Branches":
        """The rows of several parts, each with the names of its rows, in the order of the names."""
        if len(parts) == 1:
            return parts[0][1]
        branches = [part for _, part in parts]
        assert all(part.state is None for part in branches), "rows part after their first thought"
        tokens = [part.token for part in branches if part.token is not None]
        clean = [part.clean for part in branches if part.clean is not None]
        joined = cls(
            SharedPrefixCache.join([part.cache for part in branches]),
            torch.cat([part.pending for part in branches]),
            torch.cat([part.keys for part in branches]),
            torch.cat([part.positions for part in branches]),
            max(part.step for part in branches),
            torch.cat(tokens) if tokens else None,
            torch.cat(clean) if len(clean) == len(parts) else None,
        )
        return joined.take(torch.cat([names for names, _ in parts]).argsort())


class PrefixWalker:
    """Reads prompts, and makes one thought after the other of rows that share them.

    Args:
        reasoner: the model; it is put in evaluation mode.
        sampler: what makes trajectories differ; by default nothing does.
    """

    def __init__(self, reasoner: LatentReasoner, sampler: Sampler | None = None):
        self.reasoner = reasoner.eval()
        self.sampler = sampler if sampler is not None else Deterministic()
        # whether the prompt's last token is left to the first thought, also by `noiseless`
        self._leaves_last = self.sampler.perturbs_forward
        self._meter = CostMeter()
        head = reasoner.backbone.get_output_embeddings().weight
        self._flops_of = {
            "position": flops_per_position(reasoner.backbone.base_model),
            "thought": flops_per_position(reasoner.thought_head),
            "token": 2 * head.numel(),
        }

    def counting(self) -> AbstractContextManager[Cost]:
        """Counts what is read in a `with` block. Blocks can be nested; each counts all in it."""
        return self._meter.counting()

    @property
    def suffix(self) -> int:
        """Positions after the prompt of one trajectory, as the reasoner's specification has it.

        They are its thoughts, the end token, the answer, and the prompt's last token, which may be
        read with the first thought.
        """
        return self.reasoner.spec.num_thoughts + 2 + self.reasoner.spec.max_answer_tokens

    @torch.no_grad()
    def start(
        self, input_ids: Tensor, attention_mask: Tensor, keys: Tensor, room: int | None = None
    ) -> Branches:
        """Reads the prompts; all tokens but the last where the sampler perturbs passes.

        Args:
            input_ids: (Q, L) prompts, padded on any side, start token included.
            attention_mask: (Q, L).
            keys: (Q, N) names of the trajectories to come; they matter only to samplers that
                perturb the prompt.
            room: positions needed after the prompt; by default those of the specification.

        Returns one row per question, or one per trajectory where the sampler perturbs the prompt.

        Raises:
            ConfigError: the backbone has too few positions.
        """
        room = self.suffix - 1 if room is None else room
        input_ids, attention_mask = align_left(input_ids, attention_mask)
        longest = int(attention_mask.sum(-1).max())
        if longest + room > self.reasoner.max_positions:
            raise ConfigError(
                f"a prompt of {longest} tokens with {room} more for thoughts and answer does not "
                f"fit the backbone's {self.reasoner.max_positions} positions; shorten the prompt "
                "or lower max_answer_tokens"
            )
        if self.sampler.perturbs_prompt:
            samples = keys.shape[1]
            input_ids, attention_mask = (
                x.repeat_interleave(samples, 0) for x in (input_ids, attention_mask)
            )
            keys = keys.flatten()
        else:
            keys = keys[:, 0]
        cache = DynamicCache(config=self.reasoner.backbone.config)
        prefix, mask = input_ids, attention_mask
        if self._leaves_last:
            prefix, mask = input_ids[:, :-1], attention_mask[:, :-1]
            if prefix.shape[1] == 0:  # a prompt of one token: its prefix is one padded position
                prefix, mask = input_ids, torch.zeros_like(attention_mask)
        with self.sampler.active(self.reasoner, keys=keys, step=-1, phase="prompt"):
            inputs = self.reasoner.embed(prefix)
            hidden = self.reasoner.read(inputs, position_ids(mask), cache, mask)
        flops = prefix.numel() * self._flops_at("prompt")
        self._meter.add(prefix.numel(), int(mask.sum()), flops)
        layout = RowLayout.of(torch.arange(len(input_ids)), len(input_ids), input_ids.device)
        shared = SharedPrefixCache(cache, mask, layout)
        last, length = self.reasoner.embed(input_ids[:, -1]), attention_mask.sum(-1)
        if self._leaves_last:
            return Branches(shared, last, keys, length - 1, step=0)
        return Branches(shared, last, keys, length, step=0, state=hidden[:, -1])

    @torch.no_grad()
    def step(self, branches: Branches, keys: Tensor, rows: Tensor | None = None) -> Branches:
        """Reads every row's pending input and makes its next thought.

        Rows fork where more keys than rows are given: row i of the result goes on from row
        `rows`[i] under the name keys[i]. By default all rows fork alike: with C = len(keys) / R,
        row r becomes rows r*C .. r*C + C - 1. Forks share the pass unless the sampler perturbs it.
        Where the reasoner is open-ended and predicts its end token, that is pending instead of a
        thought (see `Branches.token`).
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
        hidden, branches = self._state(branches)
        token = self._logits(hidden).argmax(-1) if self.reasoner.spec.open_ended else None
        if apart:
            index = rows.to(hidden.device, non_blocking=True)
            branches, hidden = branches.take(rows, keys), hidden[index]
            token = None if token is None else token[index]
        thought, clean = perturb_thought(self.sampler, self.reasoner, hidden, keys, branches.step)
        self._meter.add(flops=len(keys) * self._flops_of["thought"])
        if token is not None:
            token = token.where(token == self.reasoner.end_id, -1)
            end, ended = self._embed_end(token).to(thought.dtype), (token >= 0)[:, None]
            thought, clean = torch.where(ended, end, thought), torch.where(ended, end, clean)
        return replace(
            branches,
            pending=thought,
            step=branches.step + 1,
            token=token,
            clean=clean,
            hidden=hidden,
        )

    @torch.no_grad()
    def draw_again(self, branches: Branches) -> Branches:
        """Rows whose pending thought is drawn anew under their names, from the pass that made it.

        Only where the sampler leaves passes alone, since it is not read again; and only of rows
        that still think.
        """
        assert branches.hidden is not None, "rows that have made a thought know its state"
        assert not self.sampler.perturbs_forward, "another name would have had another pass"
        thought, clean = perturb_thought(
            self.sampler, self.reasoner, branches.hidden, branches.keys, branches.step - 1
        )
        return replace(branches, pending=thought, clean=clean)

    @torch.no_grad()
    def close(self, branches: Branches) -> Branches:
        """Makes rows with all their thoughts ready for `answer`.

        Of an open-ended reasoner, that reads the last thought.
        """
        if not self.reasoner.spec.open_ended:
            return branches
        hidden, branches = self._state(branches)
        token = self._logits(hidden).argmax(-1)
        return replace(branches, pending=self.reasoner.embed(token), token=token)

    def _state(self, branches: Branches) -> tuple[Tensor, Branches]:
        """What the rows' pending inputs give (R, d), which may have been read with the prompt."""
        if branches.state is not None:
            assert not self.sampler.perturbs_forward, "it would have perturbed that pass"
            return branches.state, replace(branches, state=None)
        hidden, branches = self._read(branches, branches.pending[:, None], "thought", branches.step)
        return hidden[:, -1], branches

    def _flops_at(self, phase: Phase) -> int:
        """FLOPs of one position of a pass, those of the sampler included."""
        own: int = self._flops_of["position"]
        return own + self.sampler.flops(self.reasoner, phase)

    def _logits(self, hidden: Tensor) -> Tensor:
        """Hidden states (R, d) -> logits (R, V)."""
        self._meter.add(flops=len(hidden) * self._flops_of["token"])
        return self.reasoner.logits(hidden)

    def _embed_end(self, like: Tensor) -> Tensor:
        """The end token's embedding for every row (R, ...) -> (R, d)."""
        return self.reasoner.embed(
            torch.full((len(like),), self.reasoner.end_id, device=like.device)
        )

    def _read(
        self, branches: Branches, inputs: Tensor, phase: Phase, step: int
    ) -> tuple[Tensor, Branches]:
        """One pass over inputs (R, L, d) at the rows' positions; the cache grows in place."""
        length = inputs.shape[1]
        positions = branches.positions[:, None] + torch.arange(length, device=inputs.device)
        with self.sampler.active(self.reasoner, keys=branches.keys, step=step, phase=phase):
            hidden = self.reasoner.read(inputs, positions, branches.cache)
        flops = positions.numel() * self._flops_at(phase)
        self._meter.add(positions.numel(), positions.numel(), flops)
        return hidden, replace(branches, positions=branches.positions + length)
