"""What a row of a prediction file must be, before anything is computed from it."""

import math
from collections.abc import Iterator
from typing import Any

from lightning_ltts.errors import shorten
from lightning_ltts.voting.signals import Signal

NEEDED = ("id", "answer", "greedy", "samples")


def fault_of(row: Any) -> str | None:
    """What about a row cannot be, in words; None where all is well."""
    if not isinstance(row, dict):
        return f"is not a prediction: it is {shorten(row)}"
    missing = [name for name in NEEDED if name not in row]
    if missing:
        return f"is not a prediction: it lacks {', '.join(missing)}"
    return next(_faults(row), None)


def _faults(row: dict[str, Any]) -> Iterator[str]:
    texts = {"id": row["id"], "answer": row["answer"], "question": row.get("question", "")}
    yield from (
        _must(name, value, "a text") for name, value in texts.items() if type(value) is not str
    )
    if row.get("answer_is", "latex") != "latex":  # of other kinds nothing is said
        yield _must("answer_is", row["answer_is"], "latex, or not be there")
    yield from _answer_faults("greedy", row["greedy"])
    yield from _sample_faults("samples", row["samples"])
    for name, part in row.items():  # what a tree search adds, under its own name
        if isinstance(part, dict) and "beams" in part:
            yield from _sample_faults(f"{name}.beams", part["beams"])
            if not _is_number(part.get("budget"), 1):
                yield _must(f"{name}.budget", part.get("budget"), "a number of at least 1")
    yield from _ablation_faults(row.get("ablation", []))
    yield from _number_faults(row)


def _ablation_faults(replaced: Any) -> Iterator[str]:
    """Of answers with thoughts replaced: by what, at which step, null for all."""
    if not isinstance(replaced, list):
        yield _must("ablation", replaced, "a list of answers with thoughts replaced")
        return
    for number, entry in enumerate(replaced):
        place = f"ablation[{number}]"
        yield from _answer_faults(place, entry)
        if isinstance(entry, dict):
            step = entry.get("step", -1)
            whole = isinstance(step, int) and not isinstance(step, bool) and step >= 0
            if not isinstance(entry.get("by"), str) or not (step is None or whole):
                yield _must(place, entry, "by a text, of a step that is a number from 0 or null")


def _answer_faults(name: str, sample: Any) -> Iterator[str]:
    """Of a trajectory's answer, which is a text, or null where there is none."""
    if not isinstance(sample, dict) or not isinstance(sample.get("answer", 0), str | None):
        yield _must(name, sample, "an object with an answer, a text or null")


def _sample_faults(name: str, samples: Any) -> Iterator[str]:
    if not isinstance(samples, list) or not samples:
        yield _must(name, samples, "a list of at least one sample")
        return
    for number, sample in enumerate(samples):
        place = f"{name}[{number}]"
        yield from _answer_faults(place, sample)
        if not isinstance(sample, dict):
            return
        scores = sample.get("scores", [])
        if not isinstance(scores, list) or not all(map(_is_number, scores)):
            yield _must(f"{place}.scores", scores, "a list of numbers")
        for signal in ("answer_score", *Signal):
            if not _is_number(sample.get(signal, 0.0)):
                yield _must(f"{place}.{signal}", sample[signal], "a number")


def _number_faults(row: dict[str, Any]) -> Iterator[str]:
    """Of fitted parameters and costs."""
    fitted = row.get("fitted", {})
    if not isinstance(fitted, dict):
        yield _must("fitted", fitted, "numbers by name")
        return
    early = [(name, row[name]) for name in ("temperature", "agreement") if name in row]
    for name, value in (*fitted.items(), *early):
        if not _is_number(value, 0) or (name == "temperature" and value == 0):
            yield _must(name, value, "a number above 0" if name == "temperature" else "a number")
    cost = row.get("cost", {})
    if not isinstance(cost, dict) or not all(isinstance(part, dict) for part in cost.values()):
        yield _must("cost", cost, "numbers of every part of the search")
        return
    for part, numbers in cost.items():
        for name, value in numbers.items():
            if not _is_number(value, 0):
                yield _must(f"cost.{part}.{name}", value, "a number of at least 0")


def _is_number(value: Any, low: float = -math.inf) -> bool:
    kind = isinstance(value, int | float) and not isinstance(value, bool)
    return kind and low <= value < math.inf and value > -math.inf


def _must(name: str, value: Any, kind: str) -> str:
    return f"has {name}={shorten(value)}, which must be {kind}"
