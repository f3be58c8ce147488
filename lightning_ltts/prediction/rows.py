"""Rows of `predictions.jsonl`: from tensors to plain values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from lightning_ltts.analysis.thought_store import StoredThoughts
from lightning_ltts.data.answers import format_answer
from lightning_ltts.data.problems import Problem
from lightning_ltts.engine.grading import read_answers
from lightning_ltts.models.cost import Cost
from lightning_ltts.models.latent_lm import LatentReasoner
from lightning_ltts.models.latent_rm_spec import LatentRMSpec
from lightning_ltts.models.scores import Scores
from lightning_ltts.models.step_decoder import StepDecoder
from lightning_ltts.models.trajectories import Trajectories
from lightning_ltts.sampling.samplers import Sampler
from lightning_ltts.search.search import Pruning, Search, SearchResult
from lightning_ltts.voting.selection import selections
from lightning_ltts.voting.signals import Signal
from lightning_ltts.voting.votes import vote_numbers

LENS_SAMPLES = 3  # trajectories besides the greedy one whose thoughts are decoded
LENS_TOKENS = 5  # tokens of each thought
# names that a tree search must not have: they are other entries of a row, or parts of the search
TAKEN = (
    *("id", "question", "answer", "sampler", "seed", "steps", "prompt_tokens", "greedy"),
    *("samples", "choices", "cost", "temperature", "agreement", "fitted", "reads_greedy", "tuned"),
    *("prompt", "sampling", "tuned_sampling", "latent_rm_prompt", "scoring", "ablation"),
    "answer_is",
)


@dataclass(frozen=True)
class Outcome:
    """What was found for a batch of Q problems."""

    greedy: Trajectories  # (Q, 1, ...)
    samples: Trajectories  # (Q, N, ...)
    tuned: Trajectories | None  # (Q, N, ...): of the sampler chosen for majority voting alone
    scores: Scores | None  # of the samples, where there is a LatentRM
    found: SearchResult | None  # what the tree search ended with, where there is one
    costs: dict[str, Cost]  # of each part, for all problems together
    # of each problem, where asked for: what is answered with thoughts replaced
    replaced: list[list[dict[str, Any]]] | None = None


class Prediction(dict[str, Any]):
    """A row of `predictions.jsonl`, together with the trajectories that it tells of.

    It is a dictionary, so that whoever wants rows has them. A copy that Lightning makes, of what
    `trainer.predict` returns, holds the row alone, so that no tensors pile up.

    Args:
        row: plain values.
        samples: (1, N, ...), what the problem's samples thought.
        greedy: (1, 1, ...), likewise of the greedy trajectory.
    """

    def __init__(
        self,
        row: dict[str, Any],
        samples: Trajectories | None = None,
        greedy: Trajectories | None = None,
    ):
        super().__init__(row)
        self.samples = samples
        self.greedy = greedy


@dataclass(frozen=True)
class RowMaker:
    """Turns outcomes into predictions."""

    reasoner: LatentReasoner
    latent_rm: LatentRMSpec | None  # with the parameters of selections that were fitted with it
    search: Search | None
    sampler: Sampler
    seed: int
    num_samples: int = 1  # N
    tuned: Mapping[str, float] = field(default_factory=dict)  # parameters chosen by tuning
    num_tuned: int = 0  # samples for majority voting alone

    def __call__(
        self, problems: list[Problem], prompts: list[list[int]], outcome: Outcome
    ) -> list[Prediction]:
        """Q problems with their prompts' tokens and what was found -> their Q predictions."""
        counts = outcome.samples.thought_counts if self.reasoner.spec.open_ended else None
        signals = signals_of(outcome)
        greedy = sample_rows(self.reasoner, outcome.greedy.answer_ids, None)
        samples = sample_rows(
            self.reasoner, outcome.samples.answer_ids, outcome.scores, counts, signals
        )
        choices = self._choices(samples, signals)
        tuned = None
        if outcome.tuned is not None:
            tuned = sample_rows(self.reasoner, outcome.tuned.answer_ids, None)
        reads_greedy = self.latent_rm is not None and self.latent_rm.reference
        fitted = self._fitted
        searched = self._searched(problems, outcome.found)
        predictions = []
        for i, problem in enumerate(problems):
            row = {
                "id": problem.id,
                "question": problem.question,
                "answer": format_answer(problem.value),
                **({"answer_is": "latex"} if problem.answer_is == "latex" else {}),
                "sampler": repr(self.sampler),
                "seed": self.seed,
                "steps": len(problem.steps),
                "prompt_tokens": len(prompts[i]),
                "greedy": greedy[i][0],
                "samples": samples[i],
                **({} if tuned is None else {"tuned": {"samples": tuned[i]}}),
                **({} if outcome.replaced is None else {"ablation": outcome.replaced[i]}),
                **searched[i],
                **({"fitted": fitted} if fitted else {}),
                **({"reads_greedy": True} if reads_greedy else {}),
                "choices": {name: int(chosen[i]) for name, chosen in choices.items()},
                "cost": _share(outcome.costs, len(problems)),
            }
            own = slice(i, i + 1)
            thoughts = (outcome.samples.questions(own), outcome.greedy.questions(own))
            predictions.append(Prediction(row, *thoughts))
        return predictions

    @property
    def _fitted(self) -> dict[str, float]:
        """Parameters of selections, as they were fitted with the LatentRM or chosen by tuning."""
        return {**({} if self.latent_rm is None else self.latent_rm.fitted), **self.tuned}

    def unread(self, problems: list[Problem], prompts: list[list[int]]) -> list[Prediction]:
        """The predictions of Q problems that nothing was thought or written for: wrong ones.

        They have as many samples and beams as others, so that they count as much.
        """
        pad, steps = self.reasoner.pad_id, self.reasoner.spec.num_thoughts

        def nothing(samples: int) -> Trajectories:
            shape = (len(problems), samples)
            return Trajectories(
                torch.zeros(*shape, steps, self.reasoner.hidden_size),
                torch.zeros(shape, dtype=torch.int64),
                torch.full((*shape, 1), pad),
                log_probs=torch.zeros(shape),
                self_certainty=torch.zeros(shape),
            )

        def zeros(samples: int) -> Scores:
            reads_answer = self.latent_rm is not None and self.latent_rm.reads_answer
            scores = torch.zeros(len(problems), samples, steps)
            return Scores(scores, scores.new_zeros(scores.shape[:2]) if reads_answer else None)

        scores = None if self.latent_rm is None else zeros(self.num_samples)
        parts = ["prompt", "greedy", "sampling"]
        parts += ["latent_rm_prompt", "scoring"] if self.latent_rm is not None else []
        parts += ["tuned_sampling"] if self.num_tuned else []
        costs, found = {part: Cost() for part in parts}, None
        if self.search is not None:
            beams = getattr(self.search, "beams", self.search.budget)
            found = SearchResult(nothing(beams).answer_ids, zeros(beams))
            costs[self.search.name] = Cost()
        tuned = nothing(self.num_tuned) if self.num_tuned else None
        outcome = Outcome(nothing(1), nothing(self.num_samples), tuned, scores, found, costs)
        return [
            Prediction({**prediction, "left_out": "the prompt is too long"})
            for prediction in self(problems, prompts, outcome)
        ]

    def _choices(
        self, samples: list[list[dict[str, Any]]], signals: dict[Signal, Tensor]
    ) -> dict[str, Tensor]:
        """Name of each selection -> index (Q,) of the sample it chooses, -1 for none."""
        answers = [[sample["answer"] for sample in question] for question in samples]
        votes = torch.tensor([vote_numbers(question) for question in answers])
        return {
            selection.name: selection.choose(votes, selection.read(signals, votes))
            for selection in selections(self._fitted, signals)
        }

    def _searched(
        self, problems: list[Problem], found: SearchResult | None
    ) -> list[dict[str, Any]]:
        """What the tree search adds to each problem's row, under its name."""
        if found is None or self.search is None:
            return [{}] * len(problems)
        parts = []
        beams = sample_rows(self.reasoner, found.answer_ids, found.scores)
        for i, problem in enumerate(problems):
            part: dict[str, Any] = {"budget": self.search.budget, "beams": beams[i]}
            if found.trace:
                part["survival"] = [
                    survival_row(self.reasoner, step, i, problem) for step in found.trace
                ]
            parts.append({self.search.name: part})
        return parts


def signals_of(outcome: Outcome) -> dict[Signal, Tensor]:
    """What is known of each sample (Q, N) beside its answer, on the CPU."""
    samples, greedy = outcome.samples, outcome.greedy
    apart = (samples.thoughts.float() - greedy.thoughts.float()).norm(dim=-1)  # (Q, N, T)
    both = samples.thought_mask * greedy.thought_mask
    known = {
        Signal.LOG_PROB: samples.log_probs,
        Signal.SELF_CERTAINTY: samples.self_certainty,
        Signal.NEARNESS: -(apart * both).sum(-1) / both.sum(-1).clamp(min=1)
        if both.shape[-1]
        else None,
        Signal.SCORE: None if outcome.scores is None else outcome.scores.trajectory,
    }
    return {name: values.float().cpu() for name, values in known.items() if values is not None}


def _share(costs: dict[str, Cost], problems: int) -> dict[str, dict[str, float]]:
    """One problem's share: a pass is shared by its problems, and so is its cost."""
    return {
        part: {
            "token_forwards": cost.token_forwards / problems,
            "tree_nodes": cost.tree_nodes / problems,
            "flops": cost.flops / problems,
        }
        for part, cost in costs.items()
    }


def sample_rows(
    reasoner: LatentReasoner,
    answer_ids: Tensor,
    scores: Scores | None,
    counts: Tensor | None = None,
    signals: Mapping[Signal, Tensor] | None = None,
) -> list[list[dict[str, Any]]]:
    """Answer ids (Q, N, A) -> each question's samples.

    They come with scores, numbers of thoughts (Q, N) and signals (Q, N), where there are such.
    """
    questions, samples = answer_ids.shape[:2]
    answers = read_answers(reasoner, answer_ids.flatten(0, 1))
    rows: list[list[dict[str, Any]]] = []
    for q in range(questions):
        rows.append([{"answer": format_answer(answers[q * samples + n])} for n in range(samples)])
        for n, row in enumerate(rows[-1]):
            if counts is not None:
                row["thoughts"] = int(counts[q, n])
            for signal, values in (signals or {}).items():
                if signal != Signal.SCORE:  # which stands there step by step
                    row[signal] = round(float(values[q, n]), 5)
            if scores is not None:
                steps = scores.steps[q, n, : row.get("thoughts")].tolist()
                row["scores"] = [round(score, 5) for score in steps]
                if scores.whole_answer is not None:
                    row["answer_score"] = round(float(scores.whole_answer[q, n]), 5)
    return rows


def survival_row(
    reasoner: LatentReasoner, step: Pruning, question: int, problem: Problem
) -> dict[str, int]:
    """How many candidates of a step lead to the right answer, before and after pruning."""
    answers = read_answers(reasoner, step.answer_ids[question])
    right = [answer == problem.value for answer in answers]
    return {"right": sum(right), "kept": sum(right[i] for i in step.kept[question].tolist())}


def stored_thoughts(
    reasoner: LatentReasoner, prediction: Prediction, step_decoder: StepDecoder | None = None
) -> StoredThoughts:
    """A prediction's thoughts, and what those of some trajectories say by the logit lens.

    That is the output embedding applied to the thought as it is fed back. For COCONUT it is the
    hidden state that would have been decoded; CODI's and CoLaR's thoughts are inputs, and this
    finds the tokens whose embeddings they are like. With a step decoder the last of the thoughts
    that stand for a step has the text that the decoder reads out of them, too.
    """
    assert prediction.samples is not None, "a copy of a prediction has no thoughts"
    assert prediction.greedy is not None, "a copy of a prediction has no thoughts"
    samples, counts = prediction.samples.thoughts[0], prediction.samples.thought_counts[0]
    greedy = prediction.greedy.thoughts[0, 0, : int(prediction.greedy.thought_counts[0, 0])]
    lens = []
    for number in (None, *range(min(LENS_SAMPLES, len(samples)))):
        thoughts = greedy if number is None else samples[number, : int(counts[number])]
        logits = reasoner.logits(thoughts.to(reasoner.backbone.dtype)).float()
        likely, ids = logits.softmax(-1).topk(LENS_TOKENS)
        read = _read_out(reasoner, thoughts, step_decoder)
        for t, (row, tokens) in enumerate(zip(likely.tolist(), ids.tolist(), strict=True)):
            texts = [reasoner.tokenizer.decode([token]) for token in tokens]
            shares = [round(x, 4) for x in row]
            said = {"tokens": texts, "probabilities": shares}
            lens.append({"sample": number, "step": t, **said, **read.get(t, {})})
    return StoredThoughts(prediction["id"], samples, counts, greedy, lens)


def _read_out(
    reasoner: LatentReasoner, thoughts: Tensor, step_decoder: StepDecoder | None
) -> dict[int, dict[str, str]]:
    """Number of a thought (T, d) that completes a step -> the text of that step."""
    if step_decoder is None:
        return {}
    per_step = step_decoder.thoughts_per_step
    texts = step_decoder.read(thoughts, reasoner)
    return {(k + 1) * per_step - 1: {"text": text} for k, text in enumerate(texts)}
