"""LatentRM-guided beam search over thoughts (arXiv 2510.07745, section 4)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_ltts.engine.rollout import Branches, RolloutEngine
from lightning_ltts.errors import ConfigError
from lightning_ltts.models.latent_rm import LatentRM, Reference, RMState, Scores
from lightning_ltts.sampling.keyed_random import fold
from lightning_ltts.sampling.samplers import Deterministic
from lightning_ltts.sampling.streams import Stream


@dataclass(frozen=True)
class Beams:
    """The final beams of every question, best first."""

    answer_ids: Tensor  # (Q, B, A), padded
    scores: Scores  # of the surviving trajectories
    trace: tuple["Pruning", ...] = ()  # one per step, where it was asked for


@dataclass(frozen=True)
class Pruning:
    """What one step chose from, and what it kept."""

    answer_ids: Tensor  # (Q, candidates, A), padded: the answer to which each candidate leads without further noise
    kept: Tensor  # (Q, B), indices of candidates


class BeamSearch:
    """At every step, expands each beam to C candidates, scores them, and keeps the B best by cumulative score.

    In the end, the beams are ordered by the score of their answers where the LatentRM reads them.

    The budget is B x C candidates per step, also at the first step, where all grow from the question; it equals that of
    sampling N = B x C trajectories. The scores come from the LatentRM's own cache, extended by one position a step.

    Args:
        beams: B, kept after each step.
        candidates: C, grown from each beam.
        subtrees: the beams are kept in this many independent groups, which do not displace each other; with as many as there
            are beams, this is diverse verifier tree search (Beeching et al. 2024), each subtree keeping its own best.
        limit: largest B x C that is accepted.
        trace: also find out where every candidate leads, by completing it without noise; to see what pruning loses.
    """

    def __init__(self, beams: int = 8, candidates: int = 4, subtrees: int = 1, limit: int = 4096, trace: bool = False):
        if beams < 1 or candidates < 1:
            raise ConfigError(f"beam search needs beams >= 1 and candidates >= 1, not {beams} and {candidates}")
        if beams * candidates > limit:
            raise ConfigError(
                f"beams x candidates = {beams} x {candidates} = {beams * candidates} is over the limit of {limit}; "
                "lower one of them or raise the search's limit"
            )
        if subtrees < 1 or beams % subtrees:
            raise ConfigError(f"beams={beams} must be a multiple of subtrees={subtrees}, which must be at least 1")
        self.beams = beams
        self.subtrees = subtrees
        self.trace = trace
        self.candidates = candidates

    @property
    def budget(self) -> int:
        """Candidates per step."""
        return self.beams * self.candidates

    @torch.no_grad()
    def search(
        self,
        engine: RolloutEngine,
        latent_rm: LatentRM,
        input_ids: Tensor,
        attention_mask: Tensor,
        keys: Tensor,
        read: tuple[Branches, RMState] | None = None,
        reference: Reference | None = None,
    ) -> Beams:
        """Searches for a batch of questions.

        Args:
            engine: reasoner and sampler.
            latent_rm: what scores the candidates.
            input_ids: (Q, L) prompts, left padded, start token included.
            attention_mask: (Q, L).
            keys: (Q,) int64 names of the questions; a candidate's randomness depends on its question, step and slot alone.
            read: what `engine.start` and `latent_rm.start` made of these prompts, where they are read already; it is used up.
            reference: the deterministic trajectories, for a LatentRM that compares with them and has not read them yet.
        """
        questions, device = len(input_ids), input_ids.device
        steps, max_tokens = engine.reasoner.spec.num_thoughts, engine.reasoner.spec.max_answer_tokens
        slots = torch.arange(self.budget, device=device)
        offsets = torch.arange(questions, device=device)[:, None] * self.budget
        if read is None:
            first = fold(keys[:, None], Stream.BEAM, 0, slots)
            read = (
                engine.start(input_ids, attention_mask, first, steps + 1 + max_tokens),
                latent_rm.start(input_ids, attention_mask, reference),
            )
        branches, state = read
        trace = []
        scores = torch.zeros(questions, 1, 0, dtype=torch.float32, device=device)  # (Q, beams, steps so far)
        for step in range(steps):
            branches = engine.step(branches, fold(keys[:, None], Stream.BEAM, step, slots).flatten())
            grown = self.budget // scores.shape[1]
            parents = torch.arange(len(state.positions)).repeat_interleave(grown)
            clean = None if branches.clean is None else branches.clean[:, None]
            new, state = latent_rm.extend(state.take(parents), branches.pending[:, None], clean)
            scores = torch.cat([scores.repeat_interleave(grown, 1), new.view(questions, -1, 1)], dim=2)
            groups = scores.sum(-1).unflatten(1, (self.subtrees, -1))  # a subtree's candidates stand together
            best = groups.topk(self.beams // self.subtrees, dim=2).indices
            best = (best + torch.arange(self.subtrees, device=device)[:, None] * groups.shape[2]).flatten(1)
            if self.trace:
                alone, everyone = RolloutEngine(engine.reasoner, Deterministic(), engine.budget), torch.arange(len(new))
                _, whole = alone.think(branches.take(everyone), branches.keys, steps)
                trace.append(Pruning(alone.answer(whole, max_tokens).unflatten(0, (questions, -1)), best))
            scores = scores.gather(1, best[..., None].expand(-1, -1, step + 1))
            rows = (offsets + best).flatten().cpu()
            branches, state = branches.take(rows), state.take(rows)
        answers = engine.answer(branches, max_tokens)
        final = None if latent_rm.answer_head is None else latent_rm.score_answers(state, answers).view(questions, -1)
        order = Scores(scores, final).trajectory.argsort(dim=1, descending=True, stable=True)
        answers = answers.unflatten(0, (questions, self.beams)).gather(1, order[..., None].expand(-1, -1, max_tokens))
        scores = scores.gather(1, order[..., None].expand(-1, -1, steps))
        return Beams(answers, Scores(scores, None if final is None else final.gather(1, order)), tuple(trace))
