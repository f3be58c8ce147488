"""Prediction by an engine: what its workers do with the problems of a pass."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

from lightning_ltts.cluster.engine import Place, Work
from lightning_ltts.data.problems import Problem
from lightning_ltts.prediction.module import LatentSearch
from lightning_ltts.prediction.rows import Prediction


class Pass(NamedTuple):
    """What came of problems that were predicted together."""

    predictions: list[Prediction]
    seconds: dict[str, float]  # part of the search -> wall clock


@dataclass
class SearchWork(Work):
    """Predicts the problems of a pass.

    Args:
        module: what predicts.
        keep: ids of the problems whose thoughts are wanted; those of others stay where they are.
    """

    module: LatentSearch
    keep: frozenset[str] = frozenset()
    _place: Any = field(init=False, default=None)

    def settle(self, place: Place) -> None:
        """Converts the models and moves them to the device, whose memory bounds the passes."""
        self._place, self.module = place, place.take(self.module)
        self.module.fit_budget()

    def do(self, shard: list[Problem]) -> Pass:
        """Predictions of the problems, as one process would make them of the same pass."""
        self.module.seconds = defaultdict(float)
        with torch.inference_mode(), self._place.computing():
            predictions = self.module.predict_step(shard, 0)
        return Pass(list(self._lightened(predictions)), dict(self.module.seconds))

    def _lightened(self, predictions: Iterable[Prediction]) -> Iterable[Prediction]:
        for made in predictions:
            if made["id"] in self.keep and made.samples is not None and made.greedy is not None:
                yield Prediction(dict(made), made.samples.on_cpu(), made.greedy.on_cpu())
            else:
                yield Prediction(dict(made))
