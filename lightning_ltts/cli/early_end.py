"""Why a training ended before its last epoch."""

import lightning.pytorch as pl
from lightning.pytorch.callbacks import EarlyStopping


def why_it_ended(trainer: pl.Trainer) -> str | None:
    """One sentence on the early stopping that ended a training; None where none did."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, EarlyStopping) and (reason := _reason(callback)):
            return f"stopped early after epoch {trainer.current_epoch}: {reason}"
    return None


def _reason(callback: EarlyStopping) -> str | None:
    if callback.wait_count >= callback.patience:
        return (
            f"{callback.monitor} was not better than {float(callback.best_score):.4g} in "
            f"{callback.wait_count} validations (patience={callback.patience})"
        )
    if callback.stopped_epoch > 0:  # by a threshold, or what is no number; Lightning says it
        said = getattr(callback, "stopping_reason_message", None) or "a threshold was reached"
        return str(said).split(" Signaling Trainer")[0].rstrip(".")
    return None
