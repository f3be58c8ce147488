from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_ltts.analysis.thought_store import StoredThoughts, read_thoughts, write_thoughts
from lightning_ltts.analysis.thoughts import (
    cosine_similarity,
    diversity,
    drift,
    isotropy,
    l2_distance,
    measures,
    project,
    spread,
)


def make(
    samples: torch.Tensor,
    counts: list[int] | None = None,
    deterministic: torch.Tensor | None = None,
) -> StoredThoughts:
    n, t, d = samples.shape
    given = torch.tensor(counts if counts is not None else [t] * n)
    return StoredThoughts(
        "q", samples, given, torch.zeros(t, d) if deterministic is None else deterministic, []
    )


def test_pairs_by_hand() -> None:
    """(1, 0), (0, 2), (3, 0): cosines 0, 1, 0; distances sqrt 5, 2, sqrt 13."""
    thoughts = torch.tensor([[1.0, 0], [0, 2], [3, 0]])
    assert cosine_similarity(thoughts) == pytest.approx(1 / 3)
    assert l2_distance(thoughts) == pytest.approx((5**0.5 + 2 + 13**0.5) / 3)


def test_drift_and_spread_by_hand() -> None:
    """(2, 1) and (4, 1) have the mean (3, 1), 3 away from (0, 1), and are 1 away from it themselves."""
    thoughts = torch.tensor([[2.0, 1], [4, 1]])
    assert drift(thoughts, torch.tensor([0.0, 1])) == pytest.approx(3)
    assert spread(thoughts) == pytest.approx(1)


def test_isotropy_by_hand() -> None:
    """Four corners of a square spread alike in both directions of the plane; points on a line in one of two."""
    assert isotropy(torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])) == pytest.approx(1)
    assert isotropy(torch.tensor([[0.0, 0], [1, 1], [2, 2]])) == pytest.approx(0.5)


def test_diversity_by_hand() -> None:
    """Step 1 has cosine 0, step 2 has cosine 1: (1 + 0) / 2. A sample that ended does not count."""
    samples = torch.tensor([[[1.0, 0], [1, 1]], [[0, 1.0], [2, 2]]])
    assert diversity(make(samples)) == pytest.approx(0.5)
    assert diversity(make(samples, [2, 1])) == pytest.approx(1)


@pytest.mark.slow
@pytest.mark.parametrize("thoughts", [torch.ones(1, 3), torch.ones(5, 3), torch.zeros(4, 3)])
def test_what_does_not_vary(thoughts: torch.Tensor) -> None:
    """One sample, equal samples, zeros: no spread in any direction, and numbers throughout."""
    assert spread(thoughts) == isotropy(thoughts) == l2_distance(thoughts) == 0
    assert diversity(make(thoughts[:, None])) == pytest.approx(
        1.0 if len(thoughts) == 4 else 0.0
    )  # zeros are like nothing
    for method in ("PCA", "t-SNE"):
        flat = project(thoughts, method)
        assert flat.shape == (len(thoughts), 2)
        assert bool(flat.isfinite().all())


@pytest.mark.slow
@given(st.integers(2, 6), st.integers(1, 5), st.floats(0.1, 10))
def test_measures_under_scaling(n: int, d: int, scale: float) -> None:
    """Cosine and isotropy do not depend on the scale; distances grow with it."""
    thoughts = torch.randn(
        n, d, generator=torch.Generator().manual_seed(n * 7 + d), dtype=torch.float64
    )
    assert cosine_similarity(scale * thoughts) == pytest.approx(
        cosine_similarity(thoughts), abs=1e-9
    )
    assert isotropy(scale * thoughts) == pytest.approx(isotropy(thoughts), abs=1e-6)
    assert spread(scale * thoughts) == pytest.approx(scale * spread(thoughts), rel=1e-9)
    assert 0 < isotropy(thoughts) <= 1 + 1e-9


def test_measures_end_with_the_deterministic_trajectory() -> None:
    longer = make(torch.randn(3, 4, 2), deterministic=torch.zeros(2, 2))
    assert {len(values) for values in measures([longer]).values()} == {2}
    assert measures([]) == {}


def test_stored_and_read(tmp_path: Path) -> None:
    lens = [{"sample": None, "step": 0, "tokens": [" 1"], "probabilities": [0.5]}]
    thoughts = StoredThoughts(
        "q-1", torch.randn(3, 2, 4), torch.tensor([2, 1, 2]), torch.randn(2, 4), lens
    )
    write_thoughts(tmp_path, 7, thoughts)
    (read,) = read_thoughts(tmp_path)
    assert (read.id, read.lens) == ("q-1", lens)
    assert torch.allclose(read.samples, thoughts.samples, atol=1e-2)
    assert torch.equal(read.counts, thoughts.counts)
    assert read_thoughts(tmp_path / "nowhere") == []
