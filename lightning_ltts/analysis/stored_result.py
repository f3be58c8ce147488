"""`summary.json`: what a prediction run came to, for whoever asks again.

Its table is shown without reading the predictions, and so without PyTorch, as long as they are what
it was computed from.
"""

from importlib.metadata import version
from pathlib import Path

from lightning_ltts.analysis.prediction_files import PREDICTIONS
from lightning_ltts.analysis.result import Result
from lightning_ltts.errors import StoreError
from lightning_ltts.files import read_json, sha256_of, write_json

SUMMARY = "summary.json"
_ORIGIN = "computed_from"  # the key of what tells whether a summary still holds


def write_result(folder: Path, result: Result, by_default: bool = True) -> None:
    """Writes `summary.json` beside the predictions.

    Args:
        folder: the run's, with its predictions.
        result: what they came to.
        by_default: whether it is what `ltts report` computes without options.
    """
    content = result.as_dict()
    if by_default:
        content[_ORIGIN] = _origin(folder / PREDICTIONS)
    write_json(folder / SUMMARY, content)


def read_result(predictions: Path) -> Result | None:
    """What predictions came to; None where it is not stored, or not known to be of them.

    Args:
        predictions: the prediction file, or the folder that holds it.
    """
    predictions = predictions / PREDICTIONS if predictions.is_dir() else predictions
    stored = predictions.with_name(SUMMARY)
    if predictions.name != PREDICTIONS or not stored.is_file():
        return None
    try:
        content = read_json(stored, "delete it")
        if content.get(_ORIGIN) != _origin(predictions):
            return None
        return Result.from_dict(content)
    except (StoreError, KeyError, TypeError, AttributeError):  # it can be computed again
        return None


def _origin(predictions: Path) -> dict[str, str]:
    return {"version": version("lightning-ltts"), "sha256": sha256_of(predictions)}
