"""GGUF files of causal language models, de-quantised when they are read."""

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from lightning_ltts.errors import CheckpointError, reason_of
from lightning_ltts.models.weights import State, quiet_transformers


def find_gguf(path: Path) -> Path | None:
    """The GGUF file that `path` is, or the only one in the folder `path`; `None` for others."""
    if path.is_dir():
        found = sorted(path.glob("*.gguf"))
        return found[0] if len(found) == 1 and not (path / "config.json").exists() else None
    with path.open("rb") as file:
        return path if file.read(4) == b"GGUF" else None


def read_gguf(path: Path) -> State:
    """The weights of a GGUF file, in float32.

    Raises:
        CheckpointError: it is damaged, or the package that reads such files is not installed.
    """
    try:
        with quiet_transformers():
            model = AutoModelForCausalLM.from_pretrained(
                path.parent, gguf_file=path.name, dtype=torch.float32
            )
    except ImportError:
        raise CheckpointError(
            f"{path} is a GGUF file; install the extra for it: pip install 'lightning_ltts[gguf]'"
        ) from None
    except Exception as error:  # a damaged file fails in many ways, none of which says more
        raise CheckpointError(f"the GGUF file {path} cannot be read ({reason_of(error)})") from None
    state: State = model.state_dict()
    if model.config.tie_word_embeddings:
        state.pop("lm_head.weight", None)
    return state
