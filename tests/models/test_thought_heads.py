import pytest
import torch
from torch.nn import functional as F

from lightning_ltts.errors import ConfigError
from lightning_ltts.models.latent_lm import new_reasoner
from lightning_ltts.models.thought_heads import THOUGHT_HEADS, CodiHead, ColarHead
from tests.conftest import BACKBONES


def test_coconut_feeds_the_hidden_state_back() -> None:
    hidden = torch.randn(3, 8)
    assert THOUGHT_HEADS["coconut"](8)(hidden) is hidden


def test_codi_by_hand() -> None:
    """Linear, exact GELU, linear, layer norm."""
    head, hidden = CodiHead(8, hidden_size=5).eval(), torch.randn(3, 8)
    inner = F.linear(hidden, head[1].weight, head[1].bias)
    inner = inner * 0.5 * (1 + torch.erf(inner / 2**0.5))
    assert torch.allclose(
        head(hidden), F.layer_norm(F.linear(inner, head[3].weight, head[3].bias), (8,)), atol=1e-6
    )


def test_colar_by_hand() -> None:
    """Mean and spread in units of the embeddings' standard deviation."""
    head, hidden = (
        ColarHead(8, embedding_std=0.02, intermediate_size=5, spread=True),
        torch.randn(3, 8),
    )
    inner = head.fc(hidden)
    assert torch.allclose(head(hidden), 0.02 * head.mean(inner))
    assert torch.allclose(head.spread(hidden), 0.02 * torch.exp(head.log_std(inner)))
    assert ColarHead(8, embedding_std=0.02).spread(hidden) is None


def test_options_that_do_not_fit(tokenizer) -> None:
    with pytest.raises(ConfigError, match="does not fit the method 'coconut'"):
        new_reasoner("coconut", BACKBONES["gpt2"], tokenizer, 3, thought_head={"hidden_size": 4})
    with pytest.raises(ConfigError, match="embedding_std"):
        new_reasoner("colar", BACKBONES["gpt2"], tokenizer, 3)
