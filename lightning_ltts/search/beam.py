"""LatentRM-guided beam search over thoughts (arXiv 2510.07745, section 4)."""

from typing import Any

import torch
from torch import Tensor

from lightning_ltts.data.ranges import require_whole
from lightning_ltts.engine.rollout import RolloutEngine
from lightning_ltts.engine.walk import Branches
from lightning_ltts.errors import ConfigError
from lightning_ltts.models.latent_rm import LatentRM
from lightning_ltts.models.rm_state import RMState
from lightning_ltts.models.scores import Scores
from lightning_ltts.models.trajectories import Trajectories
from lightning_ltts.sampling.keyed_random import fold
from lightning_ltts.sampling.streams import Stream
from lightning_ltts.search.search import Pruning, Search, SearchResult


class BeamSearch(Search):
    """At every step, expands each beam to C candidates and keeps the B best by cumulative score.

    In the end, the beams are ordered by the score of their answers where the LatentRM reads them.

    The budget is B x C candidates per step, also at the first step, where all grow from the
    question; it equals that of sampling N = B x C trajectories. The scores come from the LatentRM's
    own cache, extended by one position a step.

    Args:
        beams: B, kept after each step.
        candidates: C, grown from each beam.
        subtrees: the beams are kept in this many independent groups, which do not displace each
            other; with as many as there are beams, this is diverse verifier tree search (Beeching
            et al. 2024), each subtree keeping its own best.
        limit: largest B x C that is accepted.
        trace: also find out where every candidate leads, by completing it without noise; to see
            what pruning loses.
    """

    name = "beam"

    def __init__(
        self,
        beams: int = 8,
        candidates: int = 4,
        subtrees: int = 1,
        limit: int = 4096,
        trace: bool = False,
    ):
        for name, value in (("beams", beams), ("candidates", candidates), ("limit", limit)):
            require_whole("BeamSearch", name, value, 1)
        if beams * candidates > limit:
            raise ConfigError(
                f"beams x candidates = {beams} x {candidates} = {beams * candidates} is over the "
                f"limit of {limit}; lower one of them or raise the search's limit"
            )
        if subtrees < 1 or beams % subtrees:
            raise ConfigError(
                f"beams={beams} must be a multiple of subtrees={subtrees}, which must be at least 1"
            )
        self.beams = beams
        self.candidates = candidates
        self.subtrees = subtrees
        self.limit = limit
        self.trace = trace

    @property
    def budget(self) -> int:
        """B x C, the candidates of each step."""
        return self.beams * self.candidates

    def settings(self) -> dict[str, Any]:
        """All options but the limit, which changes nothing where it is not reached."""
        settings = super().settings()
        del settings["limit"]
        return settings

    @torch.no_grad()
    def search(  # noqa: D102
        self,
        engine: RolloutEngine,
        latent_rm: LatentRM,
        input_ids: Tensor,
        attention_mask: Tensor,
        keys: Tensor,
        reference: Trajectories | None = None,
        branches: Branches | None = None,
        prompt_state: RMState | None = None,
    ) -> SearchResult:
        slots = torch.arange(self.budget, device=input_ids.device)
        if branches is None:
            first = fold(keys[:, None], Stream.BEAM, 0, slots)
            branches = engine.start(input_ids, attention_mask, first)
        if prompt_state is None:
            prompt_state = latent_rm.start(input_ids, attention_mask, reference)
        state, trace = prompt_state, []
        # an engine of its own: what tracing reads is no cost of the search
        tracer = RolloutEngine(engine.reasoner, token_budget=engine.budget) if self.trace else None
        scores = torch.zeros(len(keys), 1, 0, dtype=torch.float32, device=keys.device)
        for step in range(engine.reasoner.spec.num_thoughts):
            # a candidate's randomness depends on its question, step and slot alone
            names = fold(keys[:, None], Stream.BEAM, step, slots).flatten()
            branches = engine.step(branches, names)
            new, state = _score(latent_rm, state, branches)
            scores = scores.repeat_interleave(self.budget // scores.shape[1], 1)
            scores = torch.cat([scores, new.view(len(keys), -1, 1)], dim=2)  # (Q, B x C, t)
            kept = self._best(scores.sum(-1))
            if tracer is not None:
                every = torch.arange(len(new))
                led = tracer.greedy(branches.take(every)).answer_ids
                trace.append(Pruning(led.view(len(keys), self.budget, -1), kept))
            scores = scores.gather(1, kept[..., None].expand(-1, -1, step + 1))
            offsets = torch.arange(len(keys), device=keys.device)[:, None] * self.budget
            rows = (offsets + kept).flatten().cpu()
            branches, state = branches.take(rows), state.take(rows)
        return self._finish(engine, latent_rm, branches, state, scores, tuple(trace))

    def _best(self, totals: Tensor) -> Tensor:
        """Cumulative scores (Q, B x C) -> the candidates (Q, B) to keep."""
        groups = totals.unflatten(1, (self.subtrees, -1))  # a subtree's candidates stand together
        best = groups.topk(self.beams // self.subtrees, dim=2).indices
        first = torch.arange(self.subtrees, device=totals.device)[:, None] * groups.shape[2]
        result: Tensor = (best + first).flatten(1)
        return result

    def _finish(
        self,
        engine: RolloutEngine,
        latent_rm: LatentRM,
        branches: Branches,
        state: RMState,
        steps: Tensor,
        trace: tuple[Pruning, ...],
    ) -> SearchResult:
        """Decodes the beams' answers and puts the beams in order, best first."""
        shape = steps.shape[:2]
        answers, final = engine.answer(branches).ids, None
        if latent_rm.answer_head is not None:
            final = latent_rm.score_answers(state, answers).view(shape)
        totals = Scores(steps, final).trajectory
        order = totals.argsort(dim=1, descending=True, stable=True)
        answers, steps = (
            x.gather(1, order[..., None].expand(-1, -1, x.shape[-1]))
            for x in (answers.unflatten(0, shape), steps)
        )
        scores = Scores(steps, None if final is None else final.gather(1, order))
        return SearchResult(answers, scores, trace)


def _score(latent_rm: LatentRM, state: RMState, branches: Branches) -> tuple[Tensor, RMState]:
    """Scores (R, 1) of the pending thoughts, and the state after them.

    Of the rows, as many have grown from each row of `state`, in their order.
    """
    grown = len(branches.keys) // len(state.positions)
    parents = torch.arange(len(state.positions)).repeat_interleave(grown)
    clean = None if branches.clean is None else branches.clean[:, None]
    return latent_rm.extend(state.take(parents), branches.pending[:, None], clean)
