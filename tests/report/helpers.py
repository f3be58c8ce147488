"""Predictions by hand, for pages and figures."""

import json
from pathlib import Path


def write(
    folder: Path,
    questions: int = 6,
    samples: int = 4,
    scored: bool = True,
    kind: str = "mixed",
    text: bool = False,
    torn: bool = False,
    search: str | None = None,
    replaced: bool = False,
) -> Path:
    """A prediction file; `kind` says whether samples are right, wrong or both.

    A tree search, where one is named, ended with the first two samples. Where thoughts are
    `replaced`, by zero, all of them or the first, the answer is wrong and right.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for q in range(questions):
        truth = f"Tom is a {q}pus." if text else str(q)
        made = []
        for n in range(samples):
            right = kind == "right" or (kind == "mixed" and (q + n) % 3 != 0)
            sample: dict = {"answer": truth if right else None if n % 2 else "999"}
            if scored:
                sample |= {"scores": [0.1 * n, 0.2 * right], "answer_score": 0.5 - 0.1 * n}
            made.append(sample)
        costs = {
            part: {"token_forwards": 10.0, "tree_nodes": 10.0}
            for part in ("prompt", "greedy", "sampling", *([search] if search else []))
        }
        row = {
            "id": f"q-{q}",
            "question": f"What is {q}? </script><b>",
            "answer": truth,
            "sampler": "GaussianNoise(std=0.6)",
            "seed": 0,
        }
        if search:
            survival = [{"right": 2, "kept": 1}] * 2
            row[search] = {"budget": 2, "beams": made[:2], "survival": survival}
        if replaced:
            row["ablation"] = [
                {"by": "zero", "step": None, "answer": "999"},
                {"by": "zero", "step": 0, "answer": truth},
            ]
        lines.append(
            json.dumps(row | {"greedy": {"answer": truth}, "samples": made, "cost": costs})
        )
    seconds = {"prompt": 0.1, "greedy": 0.1, "sampling": 1.0, "scoring": 0.5}
    seconds |= {search: 2.0} if search else {}
    (folder / "predictions.timing.json").write_text(json.dumps({"seconds_per_question": seconds}))
    (folder / "predictions.jsonl").write_text(
        "\n".join(lines) + ("\n" if not torn else '\n{"id": "q-9", "ans')
    )
    return folder
