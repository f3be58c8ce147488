"""Samplers: what makes the trajectories of one question differ.

One sampler object, with one configuration, serves mining, LatentRM training, evaluation and
prediction. A new sampler is one subclass with one or both hooks of `Sampler`.
"""

import inspect
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from lightning_ltts.data.ranges import require_number
from lightning_ltts.errors import ConfigError
from lightning_ltts.files import settings_of
from lightning_ltts.models.families import Site
from lightning_ltts.models.latent_lm import LatentReasoner
from lightning_ltts.sampling.keyed_random import fold, keep_mask, normal, uniform
from lightning_ltts.sampling.streams import Stream

Phase = Literal["prompt", "thought", "answer"]
MAX_SPREAD = 1e6  # beyond which thoughts overflow


class Sampler:
    """Perturbs forward passes (`active`), thoughts (`perturb`), or both; `keys` name trajectories.

    Every draw is a pure function of the trajectory's key, the step and the place it is used, never
    of the batch. Every option of the constructor is kept as an attribute of the same name.
    """

    perturbs_forward = False  # passes differ between trajectories, so siblings cannot share them
    perturbs_matrices = False  # it must see them whole
    perturbs_prompt = False  # the question's own passes differ too: not even those can be shared
    deterministic = False  # all trajectories of a question are equal
    strengths: ClassVar[tuple[str, ...]] = ()  # options that say how much trajectories differ

    def settings(self) -> dict[str, Any]:
        """Class name and every option of the constructor, as plain values.

        This is the sampler's identity: stores and predictions of one with other settings are
        refused.
        """
        return settings_of(self)

    def scaled(self, factor: float) -> Self:
        """The same sampler, `factor` times as strong: the options of `strengths` are multiplied."""
        options = {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}
        for name in self.strengths:
            if options[name] is not None:
                options[name] = self._strength(options[name] * factor)
        return type(self)(**options)

    @staticmethod
    def _strength(value: float) -> float:
        """A scaled option as it can be used; a probability, for instance, stays below 1."""
        return value

    def __repr__(self) -> str:
        """Class and options, to be shown; it also names the sampler in older stores."""
        options = ", ".join(f"{name}={value!r}" for name, value in sorted(vars(self).items()))
        return f"{type(self).__name__}({options})"

    @contextmanager
    def active(
        self, model: LatentReasoner, *, keys: Tensor, step: int, phase: Phase
    ) -> Iterator[None]:
        """Surrounds one forward pass over rows with keys (R,); the default leaves it alone.

        `step` is -1 in the prompt, t in the pass that makes thought t + 1, and counts from 0 anew
        in the answer.
        """
        yield

    def perturb(
        self, thought: Tensor, *, keys: Tensor, step: int, spread: Tensor | None = None
    ) -> Tensor:
        """(R, d) -> (R, d), after the thought head; the default returns the thought as it is.

        `spread` (R, d) is the standard deviation that the thought head has learned, `None` for a
        head without one. A sampler that has no use for it may leave it out of its signature.
        """
        return thought

    def choose(self, logits: Tensor, *, keys: Tensor, position: int) -> Tensor:
        """Logits (R, V) of an answer's token -> the tokens (R,); the default takes the likeliest.

        `position` counts the answer's tokens from 0.
        """
        return logits.argmax(-1)

    def flops(self, model: LatentReasoner, phase: Phase) -> int:
        """FLOPs that `active` adds to each position of a pass; 0 where none are worth counting."""
        return 0


def perturb_thought(
    sampler: Sampler, reasoner: LatentReasoner, hidden: Tensor, keys: Tensor, step: int
) -> tuple[Tensor, Tensor]:
    """Hidden states (R, d) -> the thoughts (R, d) of them under the sampler, and without it."""
    clean, spread = reasoner.thought_head(hidden), reasoner.thought_head.spread(hidden)
    return perturb_clean(sampler, clean, keys, step, spread), clean


def perturb_clean(
    sampler: Sampler, clean: Tensor, keys: Tensor, step: int, spread: Tensor | None
) -> Tensor:
    """Thoughts (R, d) under a sampler, which may leave the spread out of its signature."""
    if "spread" not in inspect.signature(sampler.perturb).parameters:
        return sampler.perturb(clean, keys=keys, step=step)
    return sampler.perturb(clean, keys=keys, step=step, spread=spread)


class Deterministic(Sampler):
    """No randomness: every trajectory of a question is the greedy one."""

    deterministic = True


class GaussianNoise(Sampler):
    """Additive Gaussian noise on every thought: h_t + eps with eps ~ N(0, std^2 I).

    Source: arXiv 2510.07745, section 3.

    Args:
        std: absolute standard deviation, as in the paper.
        relative_std: instead of `std`, a multiple of each thought's root mean square, comparable
            between models.
    """

    strengths = ("std", "relative_std")

    def __init__(self, std: float | None = None, relative_std: float | None = None):
        if (std is None) == (relative_std is None):
            raise ConfigError("GaussianNoise takes exactly one of std and relative_std")
        name, value = ("std", std) if std is not None else ("relative_std", relative_std)
        require_number(
            "GaussianNoise", name, value, 0, MAX_SPREAD, True, "use Deterministic for none"
        )
        self.std = std
        self.relative_std = relative_std

    def perturb(  # noqa: D102
        self, thought: Tensor, *, keys: Tensor, step: int, spread: Tensor | None = None
    ) -> Tensor:
        noise = normal(fold(keys, Stream.NOISE, step), thought.shape[-1]).to(thought.dtype)
        if self.std is not None:
            return thought + self.std * noise
        rms = thought.pow(2).mean(-1, keepdim=True).sqrt()
        return thought + (self.relative_std or 0.0) * rms * noise

    def __repr__(self) -> str:
        if self.std:
            return f"GaussianNoise(std={self.std})"
        return f"GaussianNoise(relative_std={self.relative_std})"


class LearnedSpread(Sampler):
    """Draws every thought from the Gaussian that the thought head has learned.

    Source: CoLaR, arXiv 2505.16552, section 3.

    Args:
        scale: multiple of the learned standard deviation (the temperature of the latent policy).
    """

    strengths = ("scale",)

    def __init__(self, scale: float = 1.0):
        require_number(
            "LearnedSpread", "scale", scale, 0, MAX_SPREAD, True, "use Deterministic for none"
        )
        self.scale = scale

    def perturb(  # noqa: D102
        self, thought: Tensor, *, keys: Tensor, step: int, spread: Tensor | None = None
    ) -> Tensor:
        if spread is None:
            raise ConfigError(
                "LearnedSpread needs a reasoner with a learned spread (some CoLaR ones); use GaussianNoise"
            )
        noise = normal(fold(keys, Stream.NOISE, step), thought.shape[-1]).to(thought.dtype)
        return thought + self.scale * spread * noise


class TokenSampling(Sampler):
    """Draws the tokens that a reasoner writes, as chains of thought are usually sampled.

    Thoughts stay as they are, so that it is of use for a reasoner that writes its steps, or for
    the answer alone. A token is the argmax of its logits with Gumbel noise, which is a draw from
    their softmax.

    Args:
        temperature: divides the logits.
        top_p: draw among the likeliest tokens whose probabilities add up to this share (nucleus
            sampling, Holtzman et al. 2020, arXiv 1904.09751).
    """

    strengths = ("temperature",)

    def __init__(self, temperature: float = 0.7, top_p: float = 1.0):
        if not 0 < temperature < math.inf:
            raise ConfigError(
                f"TokenSampling needs a temperature above 0, not {temperature}; use Deterministic "
                "for none"
            )
        if not 0 < top_p <= 1:
            raise ConfigError(f"TokenSampling needs 0 < top_p <= 1, not {top_p}")
        self.temperature = temperature
        self.top_p = top_p

    def choose(self, logits: Tensor, *, keys: Tensor, position: int) -> Tensor:  # noqa: D102
        log_probs = (logits.float() / self.temperature).log_softmax(-1)
        if self.top_p < 1:
            ordered, ids = log_probs.exp().sort(dim=-1, descending=True, stable=True)
            # a token stays where those before it have not reached the share yet: at least one does
            beyond = ordered.cumsum(-1) - ordered >= self.top_p
            log_probs = log_probs.masked_fill(beyond.gather(-1, ids.argsort(-1)), -torch.inf)
        draws = uniform(fold(keys, Stream.TOKEN, position), logits.shape[-1])
        gumbel = -torch.log(-torch.log(draws.clamp(2.0**-25, 1 - 2.0**-24)))
        return (log_probs + gumbel).argmax(-1)


class MCDropout(Sampler):
    """Monte Carlo dropout at inference: a fresh mask in every pass that makes a thought.

    Works for models without dropout modules, because it acts on the outputs of the projections
    that the published models follow with dropout. The model stays in evaluation mode throughout.
    Source: arXiv 2510.07745, section 3.

    Args:
        p: probability of dropping an element.
        sites: `residual` is after attention and after the MLP (the published GPT-2 setting),
            `mlp_output` after the MLP alone (the published Llama setting), `embedding` on the
            inputs of the first block.
        prompt: also drop in the prompt; then every trajectory needs its own prompt pass.
        answer: also drop while the answer is decoded.
        lifetime: `per_forward` draws a mask for every position (the paper); `per_trajectory` holds
            one mask per site for all of a trajectory, as if each were written by a thinned network
            of its own. A fork, in mining or beam search, is another trajectory from there on.
    """

    perturbs_forward = True
    strengths = ("p",)

    def __init__(
        self,
        p: float = 0.2,
        sites: Sequence[Literal["residual", "mlp_output", "embedding"]] = ("residual",),
        prompt: bool = False,
        answer: bool = False,
        lifetime: Literal["per_forward", "per_trajectory"] = "per_forward",
    ):
        require_number("MCDropout", "p", p, 0, 1, True, "use Deterministic for no dropout")
        if not sites:
            raise ConfigError(
                "sites of MCDropout must name at least one place, for instance residual; use "
                "Deterministic for no dropout"
            )
        self.p = p
        self.sites = tuple(sites)
        self.prompt = prompt
        self.answer = answer
        self.lifetime = lifetime
        self.perturbs_prompt = prompt

    @staticmethod
    def _strength(value: float) -> float:
        return min(value, 0.95)

    @contextmanager
    def active(  # noqa: D102
        self, model: LatentReasoner, *, keys: Tensor, step: int, phase: Phase
    ) -> Iterator[None]:
        if (phase == "prompt" and not self.prompt) or (phase == "answer" and not self.answer):
            yield
            return
        if self.lifetime == "per_trajectory":
            pass_keys = fold(keys, Stream.HELD_DROPOUT)
        else:
            stream = Stream.ANSWER_DROPOUT if phase == "answer" else Stream.DROPOUT
            pass_keys = fold(keys, stream, step)
        sites: list[Site] = []
        for site in self.sites:
            sites += ["attention_output", "mlp_output"] if site == "residual" else [site]
        family = model.family.model_type
        places = [(site, module) for site in sites for module in model.modules_at([site])]
        handles = [
            module.register_forward_hook(
                partial(
                    self._drop,
                    keys=fold(pass_keys, number),
                    where=f"site '{site}' of the {family} family",
                )
            )
            for number, (site, module) in enumerate(places)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _drop(
        self, module: nn.Module, inputs: object, output: Tensor, *, keys: Tensor, where: str
    ) -> Tensor:
        """(R, L, d) -> (R, L, d) with a mask for each position.

        Positions are counted from the last, so that left padding is harmless.

        Raises:
            ConfigError: the output has another shape, as it can in a family that was added.
        """
        if not isinstance(output, Tensor) or output.dim() != 3:
            shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise ConfigError(
                f"the output of {where} is {shape}, but MCDropout needs (rows, positions, d); name "
                "another module for this site in the family's entry, or leave the site out of sites"
            )
        rows, length, width = output.shape
        if self.lifetime == "per_trajectory":
            held = keep_mask(keys, width, self.p)[:, None]
            return output * held.to(output.dtype) / (1 - self.p)
        from_end = torch.arange(length - 1, -1, -1, device=output.device)
        position_keys = fold(keys[:, None], from_end).view(-1)
        keep = keep_mask(position_keys, width, self.p).view(rows, length, width)
        return output * keep.to(output.dtype) / (1 - self.p)

    def __repr__(self) -> str:
        held = ", lifetime=per_trajectory" if self.lifetime == "per_trajectory" else ""
        options = f"sites={self.sites}, prompt={self.prompt}, answer={self.answer}{held}"
        return f"MCDropout(p={self.p}, {options})"
