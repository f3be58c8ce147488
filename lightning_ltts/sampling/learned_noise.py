"""A learned Gaussian sampler: how a thought is perturbed depends on the thought."""

import hashlib
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lightning_ltts.data.ranges import Bound, require_number, require_whole
from lightning_ltts.errors import ConfigError
from lightning_ltts.files import atomic
from lightning_ltts.sampling.keyed_random import fold, normal
from lightning_ltts.sampling.samplers import MAX_SPREAD, Sampler
from lightning_ltts.sampling.streams import Stream

MAX_HIDDEN = Bound(100_000)


class NoiseHead(nn.Module):
    """From a thought, the mean and the spread of what is added to it.

    Untrained, the mean is 0 and the spread the same everywhere.

    Args:
        width: d, size of a thought.
        hidden: size of the layer between.
        std: the spread to begin with.

    Raises:
        ConfigError: a number is out of range.
    """

    def __init__(self, width: int, hidden: int = 64, std: float = 0.6):
        super().__init__()
        require_whole("NoiseHead", "hidden", hidden, 1, MAX_HIDDEN)
        require_number("NoiseHead", "std", std, 0, MAX_SPREAD, True)
        self.inner = nn.Linear(width, hidden)
        self.mean = nn.Linear(hidden, width)
        self.log_std = nn.Linear(hidden, width)
        with torch.no_grad():
            for layer in (self.mean, self.log_std):
                layer.weight.zero_()
                layer.bias.zero_()
            self.log_std.bias.add_(torch.tensor(std).log())

    def forward(self, thoughts: Tensor) -> tuple[Tensor, Tensor]:
        """Thoughts (..., d) -> means and standard deviations (..., d) of the noise, in float32."""
        # in training, the Trainer's precision may have made the weights of another type
        state = torch.tanh(self.inner(thoughts.to(self.inner.weight.dtype)))
        return self.mean(state).float(), self.log_std(state).float().exp()

    def save(self, path: str | Path) -> None:
        """Writes the small file that `LearnedNoise` reads."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        tensors = {name: x.detach().cpu().contiguous() for name, x in self.state_dict().items()}
        with atomic(path) as temporary:
            save_file(tensors, temporary)

    @classmethod
    def load(cls, path: str | Path) -> "NoiseHead":
        """Reads a file that `save` wrote.

        Raises:
            ConfigError: it is not there, or is not such a file.
        """
        try:
            tensors = load_file(path)
            hidden, width = tensors["inner.weight"].shape
            head = cls(width, hidden)
            head.load_state_dict(tensors)
        except FileNotFoundError:
            raise ConfigError(
                f"path={path} of LearnedNoise does not exist; train one with "
                "'ltts fit experiment=methods/learned_noise'"
            ) from None
        except (OSError, SafetensorError, KeyError, ValueError, RuntimeError):
            raise ConfigError(
                f"path={path} of LearnedNoise is not a file that its training wrote; give the "
                "learned_noise.safetensors of such a run"
            ) from None
        return head.requires_grad_(False)


class LearnedNoise(Sampler):
    """Adds to every thought a draw from a Gaussian that a small head makes of the thought.

    Source: the Gaussian Thought Sampler, arXiv 2602.14077. The reasoner is left as it is; the head is
    trained by `NoiseModule`.

    Args:
        path: the head's file.
        scale: multiple of the learned spread; the mean stays.

    Raises:
        ConfigError: the file cannot be used, or the scale is out of range.
    """

    strengths = ("scale",)

    def __init__(self, path: str, scale: float = 1.0):
        require_number(
            "LearnedNoise", "scale", scale, 0, MAX_SPREAD, True, "use Deterministic for none"
        )
        self.path = path
        self.scale = scale
        self.head = NoiseHead.load(path)

    def settings(self) -> dict[str, Any]:
        """The scale, and a hash of the head's weights in place of where they lie."""
        weights = hashlib.sha256()
        for name, tensor in sorted(self.head.state_dict().items()):
            weights.update(name.encode() + tensor.cpu().numpy().tobytes())
        settings = super().settings()
        del settings["path"]
        return settings | {"weights": weights.hexdigest()[:16]}

    def perturb(  # noqa: D102
        self, thought: Tensor, *, keys: Tensor, step: int, spread: Tensor | None = None
    ) -> Tensor:
        width = self.head.inner.in_features
        if width != thought.shape[-1]:
            raise ConfigError(
                f"path={self.path} of LearnedNoise is for thoughts of {width} elements, and this "
                f"reasoner's have {thought.shape[-1]}; train a sampler on this reasoner"
            )
        return perturbed(self.head.to(thought.device), thought, keys, step, self.scale)

    def __repr__(self) -> str:
        return f"LearnedNoise(path={self.path!r}, scale={self.scale})"


class LiveNoise(Sampler):
    """The same with a head that is being trained."""

    def __init__(self, head: NoiseHead):
        self.head = head

    def perturb(  # noqa: D102
        self, thought: Tensor, *, keys: Tensor, step: int, spread: Tensor | None = None
    ) -> Tensor:
        return perturbed(self.head, thought, keys, step, 1.0)


def perturbed(head: NoiseHead, thought: Tensor, keys: Tensor, step: int, scale: float) -> Tensor:
    """Thoughts (R, d) with a draw each from what the head makes of them."""
    mean, std = head(thought)
    noise = normal(fold(keys, Stream.NOISE, step), thought.shape[-1])
    result: Tensor = (thought.float() + mean + scale * std * noise).to(thought.dtype)
    return result
