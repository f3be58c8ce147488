"""Singular-value perturbation: noise in weight space, one draw for each trajectory.

Source: github jihwan1205/Singular-Value-Perturbation.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import get_args
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import increment_version
from torch.distributed.fsdp import FSDPModule
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook

from lightning_ltts.data.ranges import require_number
from lightning_ltts.errors import ConfigError, shorten
from lightning_ltts.models.families import Matrix, MatrixName
from lightning_ltts.models.latent_lm import LatentReasoner
from lightning_ltts.sampling.keyed_random import fold, normal
from lightning_ltts.sampling.samplers import MAX_SPREAD, Phase, Sampler
from lightning_ltts.sampling.streams import Stream


class SingularValueNoise(Sampler):
    """Scales the singular values of one matrix of every block, by a draw that a trajectory holds.

    A matrix W = U diag(s) V^T acts as U diag(s (1 + alpha g)) V^T, where g ~ N(0, I) is drawn once
    for each trajectory and block. It acts on the passes that make thoughts, and not while the answer
    is decoded. No weight is made per trajectory: to the output x W is added
    alpha ((x U) (s g)) V^T. Gradients take U, s and V as constants. A fork, in mining or beam
    search, is another trajectory from there on.

    The decomposition is made when a matrix is first used, and again when its weights have changed
    in place or have been replaced, as loading and every step of a PyTorch optimizer do, fused ones
    included (what writes into `weight.data` is not seen). Under a training of GPT-2 on one CPU core
    that is 0.4 seconds for each block and step.

    Source: github jihwan1205/Singular-Value-Perturbation.

    Args:
        alpha: standard deviation of the factors that singular values are scaled by, around 1.
        target: the matrix: queries `q`, keys `k`, values `v`, the attention's output `o`, the MLP's
            input `mlp_up` or output `mlp_down`. Of a matrix that computes queries, keys and values
            together, it is the part that computes these.
        prompt: also perturb the prompt, as published; then every trajectory needs its own prompt
            pass. Otherwise all but its last position is read once, and shared.

    Raises:
        ConfigError: alpha is out of range, or the target is not known.
    """

    perturbs_forward = True
    perturbs_matrices = True
    strengths = ("alpha",)

    def __init__(self, alpha: float = 0.6, target: MatrixName = "v", prompt: bool = True):
        require_number(
            "SingularValueNoise", "alpha", alpha, 0, MAX_SPREAD, True, "use Deterministic for none"
        )
        if target not in get_args(MatrixName):
            raise ConfigError(
                f"target={shorten(target)} of SingularValueNoise is not known; use one of "
                f"{', '.join(get_args(MatrixName))}"
            )
        self.alpha = alpha
        self.target: MatrixName = target
        self.prompt = prompt
        self.perturbs_prompt = prompt

    def _acts_in(self, phase: Phase) -> bool:
        return phase == "thought" or (phase == "prompt" and self.prompt)

    @contextmanager
    def active(  # noqa: D102
        self, model: LatentReasoner, *, keys: Tensor, step: int, phase: Phase
    ) -> Iterator[None]:
        if not self._acts_in(phase):
            yield
            return
        matrix, held = model.family.matrix(self.target), fold(keys, Stream.SINGULAR_VALUES)
        handles = [
            module.register_forward_hook(
                partial(
                    self._perturb,
                    keys=fold(held, block),
                    matrix=matrix,
                    transposed=model.family.transposed,
                )
            )
            for block, module in enumerate(_modules(model, matrix))
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _perturb(
        self,
        module: nn.Module,
        inputs: tuple[Tensor, ...],
        output: Tensor,
        *,
        keys: Tensor,
        matrix: Matrix,
        transposed: bool,
    ) -> Tensor:
        """Inputs (R, L, in) and outputs (R, L, out) of a matrix -> outputs, perturbed by row."""
        factors = factors_of(module, matrix, transposed)
        draws = normal(keys, len(factors.values)).to(factors.values.dtype)  # (R, r)
        scales = (self.alpha * factors.values * draws)[:, None]
        change = ((inputs[0] @ factors.left) * scales) @ factors.right.T
        before = matrix.part * change.shape[-1]
        after = output.shape[-1] - before - change.shape[-1]
        return output + F.pad(change, (before, after)).to(output.dtype)

    def flops(self, model: LatentReasoner, phase: Phase) -> int:  # noqa: D102
        if not self._acts_in(phase):
            return 0
        matrix = model.family.matrix(self.target)
        shapes = (
            _columns(m, matrix, model.family.transposed).shape for m in _modules(model, matrix)
        )
        return sum(2 * min(shape) * sum(shape) for shape in shapes)

    def __repr__(self) -> str:
        return (
            f"SingularValueNoise(alpha={self.alpha}, target={self.target!r}, prompt={self.prompt})"
        )


def _modules(model: LatentReasoner, matrix: Matrix) -> list[nn.Module]:
    """The modules that hold a matrix, block by block.

    Raises:
        ConfigError: the weights are sharded, so that none is there as a whole.
    """
    if any(isinstance(block, FSDPModule) for block in model.blocks):
        raise ConfigError(
            "SingularValueNoise needs whole matrices, and those of this training are sharded; use "
            "trainer.strategy=ddp, or another sampler"
        )
    return [block.get_submodule(matrix.path) for block in model.blocks]


# -- singular vectors, made once for given weights


@dataclass(frozen=True)
class Factors:
    """The thin singular value decomposition of a matrix that maps x (..., in) to x W (..., out)."""

    left: Tensor  # (in, r)
    values: Tensor  # (r,), descending
    right: Tensor  # (out, r)


_State = tuple[object, ...]  # what tells whether weights are still the same
_FACTORS: WeakKeyDictionary[nn.Module, dict[Matrix, tuple[_State, Factors]]] = WeakKeyDictionary()


def factors_of(module: nn.Module, matrix: Matrix, transposed: bool) -> Factors:
    """The decomposition of a module's matrix as its weights are now.

    It is worked out in double precision, so that other devices come to the same, and kept in that
    of the weights.

    Args:
        module: a linear layer, with adapters or without.
        matrix: which part of it is meant.
        transposed: whether its weights are kept as (in, out).
    """
    state = tuple(
        (p.data_ptr(), 0 if p.is_inference() else p._version, p.dtype, p.device)
        for p in module.parameters()
    )
    kept = _FACTORS.setdefault(module, {})
    if matrix not in kept or kept[matrix][0] != state:
        # out of inference mode, so that what a search leaves here can be trained with
        with torch.inference_mode(False), torch.no_grad():
            weight = _columns(module, matrix, transposed)
            left, values, right = torch.linalg.svd(weight.double(), full_matrices=False)
            parts = (x.to(weight.dtype) for x in (left, values, right.T.contiguous()))
            kept[matrix] = (state, Factors(*parts))
    return kept[matrix][1]


def _say_stepped(optimizer: Optimizer, *_: object) -> None:
    """Raises the versions of what an optimizer has changed, since its fused kernels do not."""
    parameters = (p for group in optimizer.param_groups for p in group["params"])
    increment_version(p for p in parameters if p.grad is not None)


register_optimizer_step_post_hook(_say_stepped)  # of every optimizer, a user's own too


def _columns(module: nn.Module, matrix: Matrix, transposed: bool) -> Tensor:
    """The weights (in, out) of a part of a linear layer, its adapters included."""
    weight: Tensor = module.weight  # type: ignore[assignment]  # with adapters, that of the base
    if hasattr(module, "get_delta_weight") and not module.merged:
        for adapter in module.active_adapters:  # type: ignore[union-attr]
            weight = weight + module.get_delta_weight(adapter)  # type: ignore[operator]
    weight = weight if transposed else weight.T
    return weight.chunk(matrix.parts, dim=1)[matrix.part]
