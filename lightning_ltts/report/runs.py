"""A prediction run as a report reads it: rows, pool of samples, summary and what is known about how it was made."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from torch import Tensor

from lightning_ltts.analysis.methods import cost_of, with_samples
from lightning_ltts.analysis.prediction_files import MANIFEST, PREDICTIONS, TIMING
from lightning_ltts.analysis.predictions import SamplePool, open_rows, sample_pool
from lightning_ltts.analysis.rows import Rows
from lightning_ltts.analysis.summary import Summary, selections_for, summarize
from lightning_ltts.files import read_json
from lightning_ltts.voting.adaptive import StoppingRule
from lightning_ltts.voting.selection import Selection, fitted_in


@dataclass(frozen=True, eq=False)
class Run:
    """One prediction file."""

    name: str
    folder: Path
    rows: Rows
    pool: SamplePool
    summary: Summary
    temperature: float | None
    drawn: int  # samples of each question in the file, of which N are used

    @property
    def num_samples(self) -> int:
        """N, samples of each question."""
        return self.pool.votes.shape[1]

    @cached_property
    def selections(self) -> list[Selection]:
        """The selections that its samples allow, with the parameters that the summary used."""
        return selections_for(self.rows, self.pool, self.temperature)

    @cached_property
    def choices(self) -> dict[str, Tensor]:
        """Name of each selection -> the sample that it chooses among all (Q,), -1 for none."""
        pool = self.pool
        return {
            s.name: s.choose(pool.votes, s.read(pool.signals, pool.votes)) for s in self.selections
        }

    @property
    def settings(self) -> dict[str, Any]:
        """Sampler, seed, fitted parameters, and the manifest that `ltts predict` left beside the file."""
        first = self.rows[0]
        settings: dict[str, Any] = {key: first[key] for key in ("sampler", "seed") if key in first}
        manifest = self.folder / MANIFEST
        settings |= fitted_in(first)
        settings |= _read(manifest) if manifest.is_file() else {}
        return {**settings, "folder": self.folder.name}

    def cost(self, unit: str, *parts: str) -> float | None:
        """What parts of the search took per question, of all samples that were drawn.

        Args:
            unit: `token_forwards` or `flops`.
            parts: names of the parts.

        Returns None where it was not stored.
        """
        found = cost_of(self.rows, parts)
        return None if found is None else found.get(unit)

    def seconds(self, *parts: str) -> float | None:
        """Wall clock per question of parts of the search, as `ltts predict` measured it; None where it did not."""
        timing = self.folder / TIMING
        measured = (
            _read(timing, "seconds_per_question")["seconds_per_question"]
            if timing.is_file()
            else {}
        )
        return sum(measured[part] for part in parts) if set(parts) <= measured.keys() else None


def _read(path: Path, *keys: str) -> dict[str, Any]:
    return read_json(path, "delete it, or run the same 'ltts predict' again", keys)


def load_runs(
    paths: Sequence[str],
    temperature: float | None,
    rule: str,
    against: str,
    stopping: StoppingRule,
    num_samples: int | None,
) -> list[Run]:
    """Reads prediction files; see `summarize` for the rest."""
    runs = []
    for path, name in zip(paths, short_names(paths), strict=True):
        rows = open_rows(path)
        summary = summarize(rows, temperature, rule, against, stopping, num_samples)
        drawn = len(rows[0]["samples"])
        rows = rows.changed(partial(with_samples, num_samples=num_samples))
        folder = Path(path) if Path(path).is_dir() else Path(path).parent
        runs.append(Run(name, folder, rows, sample_pool(rows, rule), summary, temperature, drawn))
    return runs


def short_names(paths: Sequence[str]) -> list[str]:
    """Paths without the folders that all have in common, at the front and at the end; numbered where they are equal."""
    parts = [[x for x in Path(path).parts if x != PREDICTIONS] for path in paths]
    while len(parts) > 1 and all(len(p) > 1 for p in parts) and len({p[0] for p in parts}) == 1:
        parts = [p[1:] for p in parts]
    while len(parts) > 1 and all(len(p) > 1 for p in parts) and len({p[-1] for p in parts}) == 1:
        parts = [p[:-1] for p in parts]
    names = ["/".join(p[-2:] if len(parts) == 1 else p) for p in parts]
    return [
        name if names.count(name) == 1 else f"{name} ({i})" for i, name in enumerate(names, start=1)
    ]
