"""Where prediction files are; for what reads them, see `predictions.py`."""

from pathlib import Path

from lightning_ltts.errors import DataError

PREDICTIONS = "predictions.jsonl"
MANIFEST = "predictions.manifest.json"
TIMING = "predictions.timing.json"
PAGE = "report.html"


def require_predictions(path: str | Path) -> Path:
    """The prediction file at a path, or in the folder there.

    Raises:
        DataError: there is none.
    """
    path = Path(path)
    if path.is_dir():
        path = path / PREDICTIONS
    if not path.is_file():
        raise DataError(f"prediction file {path} does not exist; make it with 'ltts predict'")
    return path


def runs_below(path: str) -> list[str]:
    """A path as given, or the folders below it where these, and not it, hold predictions."""
    below = sorted(str(file.parent) for file in Path(path).glob(f"*/{PREDICTIONS}"))
    return below if below and not (Path(path) / PREDICTIONS).exists() else [path]
