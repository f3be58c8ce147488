"""Stored thoughts of a prediction run, and measures of how samples explore the space around the deterministic trajectory."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_ltts.analysis.thought_store import StoredThoughts


def cosine_similarity(thoughts: Tensor) -> float:
    """Mean cosine of all pairs of N thoughts (N, d); 1 for a single one, and a zero vector is orthogonal to all."""
    if len(thoughts) < 2:
        return 1.0
    unit = torch.nn.functional.normalize(thoughts.double(), dim=-1)
    return float(_mean_of_pairs(unit @ unit.T))


def l2_distance(thoughts: Tensor) -> float:
    """Mean Euclidean distance of all pairs of N thoughts (N, d); 0 for a single one."""
    return (
        float(_mean_of_pairs(torch.cdist(thoughts.double(), thoughts.double())))
        if len(thoughts) > 1
        else 0.0
    )


def drift(thoughts: Tensor, deterministic: Tensor) -> float:
    """Distance of the mean of N thoughts (N, d) from the deterministic one (d,)."""
    return float((thoughts.double().mean(0) - deterministic.double()).norm())


def spread(thoughts: Tensor) -> float:
    """Root mean square distance of N thoughts (N, d) from their mean."""
    return float((thoughts.double() - thoughts.double().mean(0)).square().sum(-1).mean().sqrt())


def isotropy(thoughts: Tensor) -> float:
    """Participation ratio of the covariance of N thoughts (N, d), over its largest value min(N - 1, d).

    (sum of eigenvalues)^2 / sum of squared eigenvalues counts the directions that thoughts spread in: 1 in all alike, low
    where they lie on a line. 0 where they do not spread at all.
    """
    rank = min(len(thoughts) - 1, thoughts.shape[-1])
    if rank < 1:
        return 0.0
    values = torch.linalg.svdvals(thoughts.double() - thoughts.double().mean(0)).square()
    total = float(values.sum())
    return total**2 / float(values.square().sum()) / rank if total > 1e-12 else 0.0


def diversity(thoughts: StoredThoughts) -> float:
    """Mean over steps of 1 - mean pairwise cosine of the samples' thoughts: 0 where all samples think alike.

    The formula of arXiv 2510.07745 is not published; this is the pairwise cosine distance that is usual for sets of
    embeddings (Tevet and Berant 2021), and every figure of this project uses it.
    """
    steps = [1 - cosine_similarity(made) for _, made in steps_of(thoughts)]
    return sum(steps) / len(steps) if steps else 0.0


def steps_of(thoughts: StoredThoughts) -> list[tuple[int, Tensor]]:
    """Step (from 0) and the thoughts (n, d) of the n samples that had not ended, where there are at least two of them."""
    steps = []
    for t in range(thoughts.samples.shape[1]):
        made = thoughts.samples[thoughts.counts > t, t]
        if len(made) > 1:
            steps.append((t, made))
    return steps


def measures(run: Sequence[StoredThoughts]) -> dict[str, list[float]]:
    """Measure -> its mean over questions for each step, while the deterministic trajectory goes on."""
    longest = max((len(thoughts.deterministic) for thoughts in run), default=0)
    columns: dict[str, list[list[float]]] = {}
    for thoughts in run:
        for t, made in steps_of(thoughts):
            if t >= len(thoughts.deterministic):
                break
            values = {
                "drift": drift(made, thoughts.deterministic[t]),
                "spread": spread(made),
                "isotropy": isotropy(made),
                "pairwise cosine": cosine_similarity(made),
                "pairwise L2": l2_distance(made),
                "norm": float(made.double().norm(dim=-1).mean()),
            }
            for name, value in values.items():
                columns.setdefault(name, [[] for _ in range(longest)])[t].append(value)
    return {
        name: [round(sum(c) / len(c), 4) for c in steps if c] for name, steps in columns.items()
    }


def project(vectors: Tensor, method: str) -> Tensor:
    """Vectors (n, d) in two dimensions (n, 2), by `PCA` or `t-SNE` (seeded; scikit-learn).

    Fewer than four vectors are always projected by PCA, and a direction in which nothing spreads gets zeros.
    """
    from sklearn.decomposition import PCA  # a second to import, which predicting need not wait for
    from sklearn.manifold import TSNE

    if bool((vectors == vectors[:1]).all()):  # t-SNE crashes on points without any spread
        return torch.zeros(len(vectors), 2)
    if method == "t-SNE" and len(vectors) > 3:
        model = TSNE(perplexity=min(30.0, (len(vectors) - 1) / 3), init="pca", random_state=0)
        return torch.from_numpy(model.fit_transform(vectors.double().numpy())).float()
    size = min(2, *vectors.shape)
    made = torch.from_numpy(
        PCA(size, random_state=0).fit_transform(vectors.double().numpy())
    ).float()
    return torch.nn.functional.pad(made, (0, 2 - size))


def _mean_of_pairs(table: Tensor) -> Tensor:
    """Mean over the pairs of different rows of a symmetric (n, n)."""
    n = len(table)
    return (table.sum() - table.diagonal().sum()) / (n * (n - 1))
