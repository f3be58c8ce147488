"""Results of a run in the JSON layout of lm-evaluation-harness, for what reads its files."""

import json
import math
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from lightning_ltts.analysis.methods import Method
from lightning_ltts.files import write_text
from lightning_ltts.report.runs import Run

_METRIC, _VERSION = "exact_match", 1.0


def write_harness_results(runs: Sequence[Run], path: Path) -> None:
    """Writes accuracies as the harness writes those of its tasks.

    A run is a task. A method stands where the harness names the filter that answers went through,
    as in `exact_match,weighted_vote@32`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(harness_results(runs), indent=2) + "\n")


def harness_results(runs: Sequence[Run]) -> dict[str, Any]:
    """The content of such a file."""
    names = [run.name for run in runs]
    sizes = {run.name: run.summary.num_problems for run in runs}
    first = runs[0].rows[0]
    return {
        "results": {run.name: _task(run) for run in runs},
        "group_subtasks": {name: [] for name in names},
        "configs": {
            name: {"task": name, "output_type": "generate_until", "num_fewshot": 0}
            for name in names
        },
        "versions": dict.fromkeys(names, _VERSION),
        "n-shot": dict.fromkeys(names, 0),
        "higher_is_better": {name: {_METRIC: True} for name in names},
        "n-samples": {name: {"original": n, "effective": n} for name, n in sizes.items()},
        "config": {
            "model": "latent_tts",
            "model_args": {"num_samples": runs[0].num_samples, "sampler": first.get("sampler")},
            "random_seed": first.get("seed"),
        },
        "date": datetime.now().timestamp(),
    }


def _task(run: Run) -> dict[str, Any]:
    task: dict[str, Any] = {"alias": run.name, "sample_len": run.summary.num_problems}
    for method in run.summary.methods:
        task[f"{_METRIC},{method.title}"] = float(method.values.mean())
        task[f"{_METRIC}_stderr,{method.title}"] = _standard_error(method)
    return task


def _standard_error(method: Method) -> float | str:
    """Of the mean, as the harness computes it; `N/A` for a single problem."""
    count = len(method.values)
    return float(method.values.std()) / math.sqrt(count) if count > 1 else "N/A"
