"""Rows of `predictions.jsonl`: from tensors to plain values."""

from typing import Any

from torch import Tensor

from lightning_ltts.data.answers import format_answer
from lightning_ltts.data.problems import Problem
from lightning_ltts.engine.grading import read_answers
from lightning_ltts.models.latent_lm import LatentReasoner
from lightning_ltts.models.latent_rm import Scores
from lightning_ltts.search.beam import Pruning


def sample_rows(
    reasoner: LatentReasoner, answer_ids: Tensor, scores: Scores | None, counts: Tensor | None = None
) -> list[list[dict[str, Any]]]:
    """Answer ids (Q, N, A), scores and numbers of thoughts (Q, N) -> each question's samples as plain values."""
    questions, samples = answer_ids.shape[:2]
    answers = read_answers(reasoner, answer_ids.flatten(0, 1))
    rows: list[list[dict[str, Any]]] = []
    for q in range(questions):
        rows.append([{"answer": format_answer(answers[q * samples + n])} for n in range(samples)])
        for n, row in enumerate(rows[-1]):
            if counts is not None:
                row["thoughts"] = int(counts[q, n])
            if scores is not None:
                row["scores"] = [round(score, 5) for score in scores.steps[q, n, : row.get("thoughts")].tolist()]
                if scores.answer is not None:
                    row["answer_score"] = round(float(scores.answer[q, n]), 5)
    return rows


def survival_row(reasoner: LatentReasoner, step: Pruning, question: int, problem: Problem) -> dict[str, int]:
    """How many candidates of a beam search's step lead to the right answer, before and after pruning."""
    right = [answer == problem.value for answer in read_answers(reasoner, step.answer_ids[question])]
    return {"right": sum(right), "kept": sum(right[i] for i in step.kept[question].tolist())}


LENS_SAMPLES, LENS_TOKENS = 3, 5  # trajectories besides the deterministic one that are decoded, and tokens of each thought
