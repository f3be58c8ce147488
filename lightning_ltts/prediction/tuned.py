"""What `ltts tune` chooses on validation problems, and the file it is kept in."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import yaml
from lightning.pytorch.cli import instantiate_class

from lightning_ltts.analysis.methods import GREEDY_VOTES, greedy_majority, selected_accuracy
from lightning_ltts.analysis.predictions import SamplePool, sample_pool
from lightning_ltts.analysis.summary import summarize
from lightning_ltts.errors import ConfigError
from lightning_ltts.files import write_text
from lightning_ltts.sampling.samplers import Sampler
from lightning_ltts.voting.selection import Majority, WeightedVote, kinds_for
from lightning_ltts.voting.signals import Signal
from lightning_ltts.voting.votes import answer_diversity

TUNED = "tuned.yaml"
COUNTED = (1, 2, 4, 8, 16, 32)  # samples that the greedy answer can count as
COMPARED = ("greedy", "pass", "majority", "coverage", WeightedVote.name)  # of every strength
SHOWN = (*COMPARED, "diversity")


@dataclass(frozen=True)
class Tuned:
    """What was chosen on validation problems for the rules that need no training.

    Args:
        majority_sampler: the sampler at the strength at which majority voting does best.
        fitted: parameters of the rules, name -> value, at the run's own sampler.
        table: accuracies of every strength that was tried, for the reader of the file.
    """

    majority_sampler: Sampler
    fitted: dict[str, float]
    table: list[dict[str, Any]] = field(default_factory=list)

    def settings(self) -> dict[str, Any]:
        """All that determines what is predicted with it, as plain values."""
        return {"majority_sampler": self.majority_sampler.settings(), "fitted": self.fitted}

    def shown(self) -> str:
        """A line of text for each strength."""
        lines = []
        for line in self.table:
            shares = [f"{name} {line[name]:.1%}" for name in SHOWN if name in line]
            lines.append(f"strength x {line['factor']:g}: {', '.join(shares)}")
        return "\n".join(lines)

    def save(self, path: Path) -> None:
        """Writes the file that `load` reads."""
        kind = type(self.majority_sampler)
        settings = self.majority_sampler.settings()
        # an option that is no part of the sampler's identity, such as where a file lies, too
        names = inspect.signature(kind).parameters
        options = {name: settings.get(name, getattr(self.majority_sampler, name)) for name in names}
        sampler = {"class_path": f"{kind.__module__}.{kind.__name__}", "init_args": options}
        content = {"majority_sampler": sampler, "fitted": self.fitted, "table": self.table}
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, yaml.safe_dump(content, sort_keys=False))

    @classmethod
    def load(cls, path: str | Path) -> "Tuned":
        """Reads a file that `ltts tune` wrote.

        Raises:
            ConfigError: it is not there, or is not such a file.
        """
        again = f"write one with 'ltts tune', or leave out model.init_args.tuned={path}"
        try:
            content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
            sampler, fitted = content["majority_sampler"], content["fitted"]
            kind = resolve_name(sampler["class_path"])
            if not issubclass(kind, Sampler):
                raise TypeError(f"{sampler['class_path']} is no sampler")
            parameters = {str(name): float(value) for name, value in fitted.items()}
            return cls(instantiate_class((), sampler), parameters, content.get("table", []))
        except OSError as error:
            raise ConfigError(f"{path} cannot be read ({error.strerror}); {again}") from None
        except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError, ImportError):
            raise ConfigError(f"{path} is not a file that 'ltts tune' wrote; {again}") from None


def choose(
    sampler: Sampler, factors: Sequence[float], rows: Mapping[float, list[dict[str, Any]]]
) -> Tuned:
    """The best on validation problems.

    Args:
        sampler: of the run.
        factors: strengths that were tried, as multiples of the sampler's own.
        rows: predictions at each strength, and at the sampler's own.
    """
    table = []
    for factor in factors:
        lines = {line.method: line.accuracy for line in summarize(rows[factor]).lines}
        own = {name: round(lines[name], 4) for name in COMPARED if name in lines}
        diversity = float(answer_diversity(sample_pool(rows[factor]).votes).mean())
        table.append({"factor": factor, **own, "diversity": round(diversity, 4)})
    best = max(table, key=lambda line: line[Majority.name])  # the first, where several are
    pool = sample_pool(rows[1.0])
    return Tuned(sampler.scaled(best["factor"]), fit_rules(pool), table)


def fit_rules(pool: SamplePool) -> dict[str, float]:
    """Parameters of the rules without training that do best on a pool, the first where several do.

    Those of rules that read the LatentRM's scores are fitted in its training.
    """
    fitted = {}
    for kind in kinds_for(pool.signals):
        if kind.parameter is not None and kind.reads != Signal.SCORE:
            reached = [float(selected_accuracy(s, pool).mean()) for s in kind.variants()]
            best = max(range(len(reached)), key=reached.__getitem__)
            fitted[kind.parameter] = kind.candidates[best]
    size = pool.votes.shape[1]
    votes = [float(greedy_majority(pool, counted, size).mean()) for counted in COUNTED]
    fitted[GREEDY_VOTES] = float(COUNTED[max(range(len(votes)), key=votes.__getitem__)])
    return fitted
