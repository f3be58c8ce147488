"""Methods: what answered the questions of a prediction run, how well, and what it took."""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_ltts.analysis.method_names import (
    GREEDY,
    GREEDY_MAJORITY,
    SEARCH_VOTE,
    TUNED_MAJORITY,
)
from lightning_ltts.analysis.predictions import SamplePool, is_right, sample_pool
from lightning_ltts.analysis.rows import Rows
from lightning_ltts.voting.estimates import accuracy_of_blocks
from lightning_ltts.voting.selection import BestOfN, Majority, Selection, WeightedVote
from lightning_ltts.voting.signals import Signal

GREEDY_VOTES = "greedy_votes"  # the fitted parameter of `greedy_majority`
# parts of the search, as costs and timings name them
PROMPT, SAMPLING, TUNED_SAMPLING = "prompt", "sampling", "tuned_sampling"
LATENT_RM_PROMPT, SCORING = "latent_rm_prompt", "scoring"
_AT_ONCE = 2**14  # questions
GROWING = (SAMPLING, TUNED_SAMPLING, SCORING)  # those that take as much as there are samples


@dataclass(frozen=True)
class Method:
    """What answered the questions, with how many samples or candidates, and how well."""

    name: str  # greedy, pass, coverage, a selection's or a search's, or a search's with _vote
    n: int | None  # samples per question; None where there is one trajectory without noise
    values: Tensor = field(repr=False)  # (Q,) float64: accuracy on each question
    chooses: bool = True  # whether it gives one answer a question, which pass@1 and coverage do not
    scored: bool = False  # whether it reads the LatentRM's scores
    parts: tuple[str, ...] = (PROMPT, SAMPLING)  # of the search that it needs
    as_greedy: float | None = None  # share of questions that it answers as greedy decoding does

    @property
    def title(self) -> str:
        """The name in tables, such as `majority@32`."""
        return self.name if self.n is None else f"{self.name}@{self.n}"


def greedy_method(rows: Sequence[dict[str, Any]]) -> Method:
    """Greedy decoding: the one trajectory without noise."""
    values = array("f", (is_right(row["greedy"]["answer"], row) for row in rows))
    right = torch.from_numpy(np.array(values)).double()
    return Method(GREEDY, None, right, parts=(PROMPT, GREEDY), as_greedy=1.0)


def selected(
    selection: Selection, pool: SamplePool, values: Tensor, parts: tuple[str, ...]
) -> Method:
    """A selection among all samples, with its accuracy (Q,) where that is known already."""
    size, scored = pool.votes.shape[1], selection.reads == Signal.SCORE
    same = selected_accuracy(selection, replace(pool, correct=pool.as_greedy))
    return Method(
        selection.name, size, values, scored=scored, parts=parts, as_greedy=float(same.mean())
    )


def parts_of(selection: Selection, rows: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    """Parts of the search that a selection among the samples needs."""
    if selection.reads == Signal.NEARNESS:
        return (PROMPT, GREEDY, SAMPLING)
    if selection.reads != Signal.SCORE:
        return (PROMPT, SAMPLING)
    return (*_judging(rows), SAMPLING, SCORING)


def _judging(rows: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    """What comes before a LatentRM can score anything."""
    greedy = (GREEDY,) if rows[0].get("reads_greedy") else ()
    # rows that were written before all of the LatentRM's work was counted have one part for it
    prompt = (LATENT_RM_PROMPT,) if LATENT_RM_PROMPT in rows[0].get("cost", {}) else ()
    return (PROMPT, *greedy, *prompt)


def greedy_majority(pool: SamplePool, counted: int, num_samples: int, shuffles: int = 1) -> Tensor:
    """(Q,): accuracy of majority voting where the greedy answer counts as several samples.

    Args:
        pool: samples and greedy answers of the questions.
        counted: as how many samples.
        num_samples: N, samples beside it.
        shuffles: as those of `accuracy_of_blocks`.
    """
    parts = _with_greedy(pool, counted)
    return torch.cat(
        [selected_accuracy(Majority(), part, num_samples, shuffles, counted) for part in parts]
    )


def greedy_majority_method(pool: SamplePool, counted: int) -> Method:
    """Majority voting among all samples where the greedy answer counts as several of them."""
    size, same = pool.votes.shape[1], 0.0
    for part in _with_greedy(pool, counted):
        alike = replace(part, correct=part.as_greedy)
        same += float(selected_accuracy(Majority(), alike, size, fixed=counted).sum())
    values, parts = greedy_majority(pool, counted, size), (PROMPT, GREEDY, SAMPLING)
    as_greedy = same / len(pool.votes)
    return Method(GREEDY_MAJORITY, size, values, parts=parts, as_greedy=as_greedy)


def _with_greedy(pool: SamplePool, counted: int) -> Iterator[SamplePool]:
    """The pool with the greedy answer as further samples, the last ones.

    It comes in parts of some questions each, since the whole would be several times as large as the
    pool. Signals are left out.
    """
    for start in range(0, len(pool.votes), _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        greedy_vote, greedy_correct = pool.greedy_vote[some], pool.greedy_correct[some]
        votes, right = (x[:, None].expand(-1, counted) for x in (greedy_vote, greedy_correct))
        yield SamplePool(
            torch.cat([pool.votes[some], votes], 1),
            torch.cat([pool.correct[some], right], 1),
            {},
            greedy_vote,
            greedy_correct,
        )


def with_samples(row: dict[str, Any], num_samples: int | None) -> dict[str, Any]:
    """A prediction with its first samples alone; all of them where no number is given."""
    tuned = {"tuned": {"samples": row["tuned"]["samples"][:num_samples]}} if "tuned" in row else {}
    return {**row, "samples": row["samples"][:num_samples], **tuned}


def tuned_methods(rows: Sequence[dict[str, Any]]) -> list[Method]:
    """Majority voting at the sampler that was chosen for it on validation, where it was sampled."""
    if "tuned" not in rows[0]:
        return []
    pool = sample_pool({**row, "samples": row["tuned"]["samples"]} for row in rows)
    values = selected_accuracy(Majority(), pool)
    method = selected(Majority(), pool, values, (PROMPT, TUNED_SAMPLING))
    return [replace(method, name=TUNED_MAJORITY)]


def searches_of(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Names of the tree searches in the rows: the keys under which a budget and its beams are."""
    return [
        name
        for name, part in rows[0].items()
        if isinstance(part, dict) and {"budget", "beams"} <= part.keys()
    ]


def search_methods(
    search: str, rows: Sequence[dict[str, Any]], chosen_by: Sequence[Selection], rule: str
) -> list[Method]:
    """The best trajectory that a tree search ended with, and a weighted vote over all of them."""
    budget, parts = rows[0][search]["budget"], (*_judging(rows), search)
    pool = sample_pool(({**row, "samples": row[search]["beams"]} for row in rows), rule)
    assert pool.scores is not None, "the trajectories of a tree search are always scored"
    # not a subclass, which may weigh by something else
    vote = next((s for s in chosen_by if type(s) is WeightedVote), WeightedVote())
    chosen: list[tuple[str, Selection]] = [(search, BestOfN()), (f"{search}{SEARCH_VOTE}", vote)]
    return [
        replace(
            selected(selection, pool, selected_accuracy(selection, pool), parts),
            name=name,
            n=budget,
        )
        for name, selection in chosen
    ]


def selected_accuracy(
    selection: Selection,
    pool: SamplePool,
    num_samples: int | None = None,
    shuffles: int = 1,
    fixed: int = 0,
) -> Tensor:
    """(Q,): accuracy of a selection on each question; see `accuracy_of_blocks`."""
    # only this rule's scores depend on the other samples
    by_rule = pool.steps is not None and pool.steps.rule == "standardized"
    by_rule = by_rule and selection.reads == Signal.SCORE and not fixed
    read = pool.steps.of if by_rule else selection.read(pool.signals, pool.votes)  # type: ignore[union-attr]
    return accuracy_of_blocks(
        selection, pool.votes, pool.correct, read, num_samples, shuffles, fixed
    )


def cost_of(
    rows: Sequence[dict[str, Any]], parts: Sequence[str], share: float = 1.0
) -> dict[str, float] | None:
    """Token forwards and FLOPs per question, on average, of parts of the search.

    Args:
        rows: lines of a prediction file.
        parts: names of the parts.
        share: of the samples that are used.

    Returns None where a part was not stored; without FLOPs where those were not.
    """
    costs = Rows.of(rows).costs
    if any(part not in costs for part in parts):
        return None
    found = {}
    for unit in ("token_forwards", "flops"):
        if all(unit in costs[part] for part in parts):
            found[unit] = sum(
                costs[part][unit] * (share if part in GROWING else 1) for part in parts
            )
    return found
