"""The questions of a run with their samples, for the page's table."""

import json
from itertools import islice
from typing import Any

import torch

from lightning_ltts.report.drawing import drawn
from lightning_ltts.report.runs import Run
from lightning_ltts.report.words import words_of


def question_table(run: Run, listed: int, limit: int) -> tuple[dict[str, Any], int]:
    """The first questions for the page's table, and the bytes that their samples take.

    Args:
        run: whose questions.
        listed: how many questions there is room for.
        limit: bytes of samples that there is room for; questions beyond are listed without theirs.
    """
    methods = [method for method in run.summary.methods if method.chooses]
    right = torch.stack([method.values[:listed] for method in methods]).T.tolist()
    # those that are shown before a question is opened
    first = [name for name, is_first in drawn(run, [run]).items() if is_first]
    choices = torch.stack([chosen[:listed] for chosen in run.choices.values()]).T.tolist()
    questions: list[dict[str, Any]] = []
    used, shown = 0, 0
    for i, row in enumerate(islice(run.rows, listed)):
        samples = _samples_of(run, i)
        size = len(json.dumps(samples, separators=(",", ":")))
        fits = used + size <= limit
        used, shown = used + size * fits, shown + fits
        questions.append(
            {
                "id": row["id"],
                "text": row.get("question", ""),
                "answer": row["answer"],
                "greedy": row["greedy"]["answer"],
                "share": round(float(run.pool.correct[i].mean()), 3),  # of right samples
                "right": [round(value, 3) for value in right[i]],  # of each method
                "chosen": choices[i],  # sample of each selection, -1 for none
                "samples": samples if fits else None,
            }
        )
    table = {
        "run": run.name,
        "methods": [
            {"name": m.name, "title": words_of(m.name).title, "first": m.name in first}
            for m in methods
        ],
        "selections": [words_of(name).title for name in run.choices],
        "all": len(run.rows),
        "shown": shown,
        "questions": questions,
    }
    return table, used


def _samples_of(run: Run, question: int) -> dict[str, list[Any]]:
    """The samples of a question in columns, which take half the room of an object for each."""
    samples, scores = run.rows[question]["samples"], run.pool.scores
    steps = [
        [*s.get("scores", []), *([s["answer_score"]] if "answer_score" in s else [])]
        for s in samples
    ]
    return {
        "answer": [sample["answer"] for sample in samples],
        "right": [int(right) for right in run.pool.correct[question].tolist()],
        "score": [] if scores is None else [round(score, 3) for score in scores[question].tolist()],
        "steps": [[round(x, 2) for x in of_sample] for of_sample in steps],
    }
