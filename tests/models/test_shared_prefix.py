import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import DynamicCache

from lightning_ltts.models.latent_lm import LatentReasoner, position_ids
from lightning_ltts.models.shared_prefix import (
    RowLayout,
    SharedPrefixCache,
    SharedPrefixLayer,
    SplitKV,
    shared_prefix_attention,
)


def read_prompt(reasoner: LatentReasoner, ids: Tensor, mask: Tensor) -> DynamicCache:
    cache = DynamicCache(config=reasoner.backbone.config)
    reasoner.read(reasoner.embed(ids), position_ids(mask), cache, mask)
    return cache


@torch.no_grad()
def by_shared_prefix(reasoner, ids, mask, owner, blocks) -> Tensor:
    cache = SharedPrefixCache(
        read_prompt(reasoner, ids, mask), mask, RowLayout.of(owner, len(ids), ids.device)
    )
    positions, outputs = mask.sum(-1)[owner], []
    for block in blocks:
        steps = torch.arange(block.shape[1])
        outputs.append(reasoner.read(block, positions[:, None] + steps, cache))
        positions = positions + block.shape[1]
    return torch.cat(outputs, 1)


@torch.no_grad()
def by_repeating(reasoner, ids, mask, owner, blocks) -> Tensor:
    """The obvious way: one unpadded sequence per row, read at once without a cache."""
    rows = []
    for row, question in enumerate(owner.tolist()):
        prompt = reasoner.embed(ids[question][mask[question].bool()])[None]
        suffix = torch.cat([block[row : row + 1] for block in blocks], dim=1)
        hidden = reasoner.backbone.base_model(
            inputs_embeds=torch.cat([prompt, suffix], 1)
        ).last_hidden_state
        rows.append(hidden[:, prompt.shape[1] :])
    return torch.cat(rows)


@pytest.mark.slow
@pytest.mark.parametrize(
    "owner",
    [[0, 1], [0, 0, 0, 1, 1, 1], [1, 0, 0, 1, 1], [1, 1]],
    ids=["one each", "regular", "uneven and mixed", "a question without rows"],
)
def test_equals_full_attention(reasoner: LatentReasoner, owner: list[int]) -> None:
    """Left padding, grouped heads, single positions and a causal block; any rows in any order."""
    ids = torch.tensor([[20, 21, 22, 23, 24], [0, 0, 30, 31, 32]])
    mask = torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1]])
    generator = torch.Generator().manual_seed(0)
    blocks = [torch.randn(len(owner), length, 32, generator=generator) for length in (1, 3, 1)]
    expected = by_repeating(reasoner, ids, mask, torch.tensor(owner), blocks)
    actual = by_shared_prefix(reasoner, ids, mask, torch.tensor(owner), blocks)
    assert torch.allclose(actual, expected, atol=2e-5), (actual - expected).abs().max()


def test_float64_stays_float64(gpt2: LatentReasoner) -> None:
    """Softmax is in float32 at least, not at most."""
    ids, mask = torch.tensor([[20, 21, 22], [0, 31, 32]]), torch.tensor([[1, 1, 1], [0, 1, 1]])
    owner, blocks = torch.tensor([0, 1, 1]), [torch.randn(3, 2, 32, dtype=torch.float64)]
    reasoner = gpt2.to(torch.float64)
    expected = by_repeating(reasoner, ids, mask, owner, blocks)
    assert torch.allclose(
        by_shared_prefix(reasoner, ids, mask, owner, blocks), expected, rtol=0, atol=1e-12
    )


def test_take_forks_and_leaves_the_original_alone(reasoner: LatentReasoner) -> None:
    ids, mask = torch.tensor([[20, 21, 22], [30, 31, 32]]), torch.ones(2, 3, dtype=torch.long)
    with torch.no_grad():
        cache = SharedPrefixCache(
            read_prompt(reasoner, ids, mask), mask, RowLayout.of(torch.arange(2), 2, ids.device)
        )
        first, second = torch.randn(2, 1, 32), torch.randn(3, 1, 32)
        reasoner.read(first, torch.full((2, 1), 3), cache)
        fork = cache.take(torch.tensor([1, 0, 1]))
        forked = reasoner.read(second, torch.full((3, 1), 4), fork)
        assert (cache.suffix_length, fork.suffix_length) == (1, 2)
        owner = torch.tensor([1, 0, 1])
        expected = by_repeating(reasoner, ids, mask, owner, [first[owner], second])[:, 1:]
    assert torch.allclose(forked, expected, atol=2e-5)
    assert (
        fork.layers[0].prefix_keys.data_ptr() == cache.layers[0].prefix_keys.data_ptr()
    )  # shared, not copied


def test_gradients_reach_the_prompt(gpt2: LatentReasoner) -> None:
    ids, mask = torch.tensor([[0, 21, 22]]), torch.tensor([[0, 1, 1]])
    cache = SharedPrefixCache(
        read_prompt(gpt2, ids, mask), mask, RowLayout.of(torch.tensor([0, 0]), 1, ids.device)
    )
    gpt2.read(torch.randn(2, 2, 32), torch.tensor([[2, 3], [2, 3]]), cache).sum().backward()
    gradient = gpt2.backbone.get_input_embeddings().weight.grad
    assert gradient[21].abs().sum() > 0
    assert gradient.isfinite().all()


def attend(query: Tensor, keys: Tensor, values: Tensor, **options) -> Tensor:
    """Queries (R, 1, 1, d) of one question with a prefix (1, 1, P, d), and themselves as suffix."""
    layout = RowLayout.of(torch.zeros(len(query), dtype=torch.long), 1, query.device)
    layer = SharedPrefixLayer(keys, values, None, layout)
    key, value = layer.update(query, query)
    out, _ = shared_prefix_attention(torch.nn.Identity(), query, key, value, None, **options)
    return out[:, 0, 0]


def plain(query: Tensor, keys: Tensor, values: Tensor, scaling: float) -> Tensor:
    """The same in float64."""
    query, keys, values = query.double(), keys.double(), values.double()
    rows = []
    for row in query[:, 0]:
        weights = (scaling * row @ torch.cat([keys[0, 0], row]).mT).softmax(-1)
        rows.append(weights @ torch.cat([values[0, 0], row]))
    return torch.cat(rows)


def test_a_module_can_have_a_scaling_of_its_own() -> None:
    """As Granite and Gemma have, instead of one over the root of the width."""
    generator = torch.Generator().manual_seed(0)
    query, keys, values = (
        torch.randn(n, 1, m, 8, generator=generator) for n, m in ((3, 1), (1, 5), (1, 5))
    )
    for options, scaling in (({}, 8**-0.5), ({"scaling": 1.5}, 1.5)):
        expected = plain(query, keys, values, scaling)
        assert torch.allclose(attend(query, keys, values, **options).double(), expected, atol=1e-5)


def test_softmax_of_half_precision_is_in_single_precision() -> None:
    """Over 4,200 equal keys the log of the normaliser is 8.343, which bfloat16 rounds to 8.3125.

    All weights would be 3 % too large, and so would be the mean of the values.
    """
    query = torch.zeros(2, 1, 1, 8, dtype=torch.bfloat16)
    keys = torch.zeros(1, 1, 4200, 8, dtype=torch.bfloat16)
    values = torch.ones(1, 1, 4200, 8, dtype=torch.bfloat16)
    out = attend(query, keys, values, scaling=1.0)
    assert torch.allclose(out.float(), torch.full((2, 8), 4200 / 4201), atol=0.01)


@pytest.mark.parametrize(
    "precision", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str
)
def test_one_row_each_in_every_precision(precision: torch.dtype) -> None:
    """Of a prompt of padding alone nothing is read: what comes out is attention over the suffix."""
    drawing = torch.Generator().manual_seed(0)

    def parts() -> tuple[Tensor, Tensor]:
        prefix, suffix = (torch.randn(2, 2, n, 8, generator=drawing).to(precision) for n in (3, 2))
        return prefix, suffix

    padding = torch.tensor([-1e30, 0.0])[:, None, None, None].expand(2, 1, 1, 3)
    layout = RowLayout.of(torch.arange(2), 2, torch.device("cpu"))
    key, value = (SplitKV(*parts(), padding, layout, None) for _ in range(2))
    query = torch.randn(2, 2, 1, 8, generator=drawing).to(precision)
    out, _ = shared_prefix_attention(torch.nn.Identity(), query, key, value, None, scaling=1.0)
    weights = (query[0].double() @ key.suffix[0].double().mT).softmax(-1)
    expected = (weights @ value.suffix[0].double()).transpose(0, 1)
    assert out.dtype == precision
    assert torch.allclose(out[0].double(), expected, atol=4 * torch.finfo(precision).eps)


def test_a_kernel_may_lay_its_result_out_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU heads are next to each other in memory, within each position."""
    drawing = torch.Generator().manual_seed(0)
    prefix, suffix = (torch.randn(2, 2, n, 8, generator=drawing) for n in (3, 2))
    layout = RowLayout.of(torch.arange(2), 2, torch.device("cpu"))
    key = value = SplitKV(prefix, suffix, None, layout, None)
    query = torch.randn(2, 4, 3, 8, generator=drawing)  # two heads for each one of the keys

    def attend() -> Tensor:
        return shared_prefix_attention(torch.nn.Identity(), query, key, value, None)[0]

    expected, kernel = attend(), F.scaled_dot_product_attention

    def by_position(*args: Tensor, scale: float) -> Tensor:
        return kernel(*args, scale=scale).transpose(1, 2).contiguous().transpose(1, 2)

    monkeypatch.setattr(F, "scaled_dot_product_attention", by_position)
    assert torch.equal(attend(), expected)
