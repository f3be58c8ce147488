"""Training some matrices of every block alone."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lightning_ltts.models.families import Matrix, MatrixName
from lightning_ltts.models.latent_lm import LatentReasoner


def train_only(reasoner: LatentReasoner, names: Sequence[MatrixName]) -> None:
    """Freezes all weights but those of the named matrices, in every block.

    Of a matrix that computes queries, keys and values together, only the named part gets gradients;
    an optimiser with weight decay would still change the rest.

    Args:
        reasoner: the model to be trained.
        names: the matrices, as `SingularValueNoise` names its target.

    Raises:
        ConfigError: the family of the backbone names no such matrix.
    """
    reasoner.requires_grad_(False)
    by_path: dict[str, list[Matrix]] = {}
    for name in dict.fromkeys(names):
        matrix = reasoner.family.matrix(name)
        by_path.setdefault(matrix.path, []).append(matrix)
    for block in reasoner.blocks:
        for path, matrices in by_path.items():
            weight: nn.Parameter = block.get_submodule(path).weight  # type: ignore[assignment]
            weight.requires_grad_(True)
            if len(matrices) < matrices[0].parts:
                _keep_gradients(weight, matrices, reasoner.family.transposed)


def _keep_gradients(weight: nn.Parameter, matrices: Sequence[Matrix], transposed: bool) -> None:
    """Sets gradients to zero outside of these parts of one fused matrix."""
    kept = torch.zeros_like(weight, dtype=torch.bool)
    for matrix in matrices:
        kept.chunk(matrix.parts, dim=1 if transposed else 0)[matrix.part].fill_(True)

    def mask(gradient: Tensor) -> Tensor:
        return gradient * kept.to(gradient.device)

    weight.register_hook(mask)
