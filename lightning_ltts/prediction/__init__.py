"""Search over a problem set inside `ltts predict`: module, data, and the files it writes."""

from lightning_ltts.prediction.ablation import ThoughtAblation
from lightning_ltts.prediction.data import PredictionData
from lightning_ltts.prediction.module import LatentSearch
from lightning_ltts.prediction.rows import Prediction
from lightning_ltts.prediction.writer import PredictionWriter

__all__ = ["LatentSearch", "Prediction", "PredictionData", "PredictionWriter", "ThoughtAblation"]
