"""Loading reasoners and LatentRMs from the checkpoints that training writes.

A checkpoint describes its model by itself (entry `ENTRY`: kind, specification, weights' prefix), so that loading needs
neither the configuration nor the files it was trained with. It is unpickled in PyTorch's weights-only mode: nothing in it
is executed.
"""

import pickle
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch

from lightning_ltts.errors import CheckpointError
from lightning_ltts.models.latent_lm import LatentReasoner, ReasonerSpec
from lightning_ltts.models.latent_rm import LatentRM, LatentRMSpec

ENTRY = "lightning_ltts"
_KINDS: dict[str, tuple[str, type, type]] = {
    "reasoner": ("latent reasoner", ReasonerSpec, LatentReasoner),
    "latent_rm": ("LatentRM", LatentRMSpec, LatentRM),
}
Model = TypeVar("Model", LatentReasoner, LatentRM)


def describe(kind: str, model: LatentReasoner | LatentRM, **changes: Any) -> dict[str, Any]:
    """The checkpoint entry of a model that the LightningModule holds as attribute `kind`; `changes` override its spec."""
    return {"kind": kind, "spec": {**asdict(model.spec), **changes}}


def load_reasoner(path: str | Path) -> LatentReasoner:
    """The latent reasoner of a checkpoint, on the CPU, in evaluation mode.

    Raises:
        CheckpointError: the file is missing, damaged, or not a latent reasoner's.
    """
    return _load(Path(path), "reasoner")


def load_latent_rm(path: str | Path) -> LatentRM:
    """The LatentRM of a checkpoint, on the CPU, in evaluation mode.

    Raises:
        CheckpointError: the file is missing, damaged, or not a LatentRM's.
    """
    return _load(Path(path), "latent_rm")


def _load(path: Path, kind: str) -> Any:
    title, spec_class, model_class = _KINDS[kind]
    checkpoint = read_checkpoint(path)
    entry = checkpoint.get(ENTRY)
    if not isinstance(entry, dict) or "state_dict" not in checkpoint:
        raise CheckpointError(f"{path} is not a checkpoint of this package, so no {title} can be loaded from it")
    if entry["kind"] != kind:
        raise CheckpointError(f"{path} holds a {_KINDS[entry['kind']][0]}, but a {title} is needed here")
    prefix = f"{kind}."
    state = {k.removeprefix(prefix): v for k, v in checkpoint["state_dict"].items() if k.startswith(prefix)}
    model = model_class(spec_class(**entry["spec"]))
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"the weights in {path} do not fit the model it describes: {reason[:300]}") from None
    return model.eval()


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint file as a dictionary of plain values and tensors.

    Raises:
        CheckpointError: missing, damaged, or holding more than plain values and tensors.
    """
    if not path.is_file():
        raise CheckpointError(f"checkpoint {path} does not exist; train it first or give another path")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"checkpoint {path} cannot be read, it may be cut off or of another kind ({reason[:200]})"
        ) from None
