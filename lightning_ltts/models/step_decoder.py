"""The step decoder of SIM-CoT (arXiv 2509.20317): it writes a step from the thoughts in its place.

It is trained beside a reasoner (`training/step_supervision.py`), stays in that training's
checkpoints, and is no part of the reasoner. Here it is what reads thoughts out as text.
"""

import copy
import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lightning_ltts.errors import CheckpointError
from lightning_ltts.models.adapters import ALPHA, merge_lora
from lightning_ltts.models.checkpoints import ENTRY, locate
from lightning_ltts.models.latent_lm import LatentReasoner
from lightning_ltts.models.weights import read_pickle

PREFIX = "step_decoder."  # of its weights in a checkpoint
MAX_STEP_TOKENS = 48  # that are read out of the thoughts of a step


class StepDecoder(nn.Module):
    """Writes explicit steps, each from the thoughts in place of it alone.

    It starts as a copy of the reasoner's backbone, and no reasoner needs it: its only purpose in
    training is the gradient that its loss sends into the thoughts.

    Args:
        reasoner: the model whose thoughts it reads.
        thoughts_per_step: c, thoughts in place of a step. Step k is written from the thoughts k c
            to k c + c - 1.
        end_steps: whether each step ends with the end-of-sequence token. A tokenizer of words has
            no line breaks, so that otherwise nothing says where a step ends.
    """

    def __init__(
        self, reasoner: LatentReasoner, thoughts_per_step: int = 1, end_steps: bool = False
    ):
        super().__init__()
        self.backbone = copy.deepcopy(reasoner.backbone)
        self.projection = nn.Linear(reasoner.hidden_size, reasoner.hidden_size)
        self.thoughts_per_step = thoughts_per_step
        self.end_id = reasoner.eos_id if end_steps else None

    def settings(self) -> dict[str, Any]:
        """What it is beside its weights, in plain values."""
        return {
            "thoughts_per_step": self.thoughts_per_step,
            "end_steps": self.end_id is not None,
        }

    def logits(self, held: Tensor, before: Tensor) -> Tensor:
        """What the tokens of S steps are predicted to be.

        Args:
            held: (S, c, d) the thoughts in place of each step.
            before: (S, L) the tokens of the steps that are known, from the first on.

        Returns (S, L + 1, V): the logits of the first L + 1 tokens.
        """
        projected = self.projection(held)
        tokens = self.backbone.get_input_embeddings()(before)
        inputs = torch.cat([projected, tokens.to(projected.dtype)], dim=1)
        result: Tensor = self.backbone(inputs_embeds=inputs, use_cache=False).logits
        return result[:, held.shape[1] - 1 :]

    @torch.no_grad()
    def read(self, thoughts: Tensor, reasoner: LatentReasoner) -> list[str]:
        """The steps that a trajectory's thoughts (T, d) hold, T // c of them, greedily decoded.

        A step ends at its line break or the end of the sequence, as in training, or after
        `MAX_STEP_TOKENS`.
        """
        held = thoughts[: len(thoughts) // self.thoughts_per_step * self.thoughts_per_step]
        held = held.to(self.projection.weight).unflatten(0, (-1, self.thoughts_per_step))
        if not len(held):
            return []
        written = torch.zeros(len(held), 0, dtype=torch.int64, device=held.device)
        texts = [""] * len(held)
        for _ in range(MAX_STEP_TOKENS):
            tokens = self.logits(held, written)[:, -1].argmax(-1, keepdim=True)
            written = torch.cat([written, tokens], dim=1)
            texts = [_text(row, reasoner) for row in written.tolist()]
            if all("\n" in text for text in texts):
                break
        return [text.partition("\n")[0].strip() for text in texts]

    def fingerprint(self) -> str:
        """A hash of the weights."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.float().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]


def _text(tokens: list[int], reasoner: LatentReasoner) -> str:
    """The text of tokens, with a line break in place of the end of a sequence."""
    if reasoner.eos_id in tokens:
        return reasoner.decode(tokens[: tokens.index(reasoner.eos_id)]) + "\n"
    return reasoner.decode(tokens)


def load_step_decoder(path: str | Path, reasoner: LatentReasoner) -> StepDecoder:
    """The step decoder of a training checkpoint, on the CPU, in evaluation mode.

    Args:
        path: a checkpoint that `ltts fit` wrote with `step_factor` above 0.
        reasoner: the reasoner whose thoughts it is to read.

    Raises:
        CheckpointError: there is none in it, or it is another reasoner's.
    """
    file = locate(path)
    checkpoint = read_pickle(file) if file.is_file() and file.suffix == ".ckpt" else {}
    whole = checkpoint.get("state_dict", {})
    state = {k.removeprefix(PREFIX): tensor for k, tensor in whole.items() if k.startswith(PREFIX)}
    entry = checkpoint.get(ENTRY, {})
    settings = entry.get("step_decoder")
    if not state or settings is None:
        raise CheckpointError(
            f"{path} holds no step decoder; give a checkpoint of a training with "
            "model.init_args.step_factor above 0 (an exported folder has none)"
        )
    if not settings["end_steps"] and not reasoner.tokenizer.encode("\n", add_special_tokens=False):
        raise CheckpointError(
            f"the step decoder in {path} has not learned where steps end, since the tokenizer has no "
            "line breaks; train with model.init_args.end_steps=true"
        )
    merge_lora(state, reasoner.family, str(path), entry.get(ALPHA))
    decoder = StepDecoder(reasoner, **settings)
    try:
        decoder.load_state_dict(state)
    except RuntimeError:
        raise CheckpointError(
            f"the step decoder in {path} does not fit the reasoner, whose thoughts have the size "
            f"{reasoner.hidden_size}; give the checkpoint of its own training"
        ) from None
    return decoder.to(reasoner.backbone.dtype).eval()
