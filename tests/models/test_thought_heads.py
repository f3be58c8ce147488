import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from lightning_ltts import RolloutEngine, load_reasoner
from lightning_ltts.errors import CheckpointError, ConfigError
from lightning_ltts.models import thought_heads
from lightning_ltts.models.folders import save_folder
from lightning_ltts.models.latent_lm import fingerprint, left_pad, new_reasoner
from lightning_ltts.models.thought_heads import (
    THOUGHT_HEADS,
    CodiHead,
    ColarHead,
    ThoughtHead,
    thought_head_of,
)
from lightning_ltts.sampling import LearnedSpread
from tests.helpers import save_reasoner
from tests.models.test_published import make_base
from tests.tiny import BACKBONES


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


# -- a new method is one class


@pytest.fixture
def mixed(monkeypatch: pytest.MonkeyPatch) -> type[ThoughtHead]:
    """A head that is defined here and nowhere else, gone after the test."""
    monkeypatch.setattr(thought_heads, "THOUGHT_HEADS", dict(THOUGHT_HEADS))

    class MixedHead(ThoughtHead):
        """The hidden state, and a share of a linear layer of it."""

        method = "mixed"
        prefix = "mixer"

        def __init__(self, width: int, share: float, bias: bool = True):
            super().__init__()
            self.share = share
            self.linear = nn.Linear(width, width, bias)

        def forward(self, hidden: Tensor) -> Tensor:
            return hidden + self.share * self.linear(hidden)

        def spread(self, hidden: Tensor) -> Tensor:
            return torch.ones_like(hidden)

        def config_entries(self) -> dict[str, Any]:
            return {"mixer_share": self.share}

        @classmethod
        def published_options(cls, state: Mapping[str, Tensor], config: Any) -> dict[str, Any]:
            return {"bias": "linear.bias" in state}

    return MixedHead


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("bias", [True, False])
def test_a_new_head_is_one_class(
    mixed: type[ThoughtHead], bias: bool, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    """Made, sampled from, saved as a checkpoint, exported under its own name, and loaded."""
    torch.manual_seed(0)
    options = {"share": 0.5, "bias": bias}
    reasoner = new_reasoner("mixed", BACKBONES["gpt2"], tokenizer, 2, thought_head=options)
    assert isinstance(reasoner.thought_head, mixed)
    folder = save_folder(reasoner, tmp_path / "folder")
    for source in (folder, save_reasoner(reasoner, tmp_path / "reasoner.ckpt")):
        loaded = load_reasoner(source)
        assert loaded.spec == reasoner.spec
        assert fingerprint(loaded) == fingerprint(reasoner)
    assert "mixer.linear.weight" in load_file(folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    assert config["mixer_share"] == 0.5
    assert "mixer_share" not in loaded.spec.backbone
    prompts = left_pad([[7, 8, 9], [10, 11]], reasoner.pad_id)
    first, second = (
        RolloutEngine(loaded, LearnedSpread()).rollout(*prompts, num_samples=2, seed=seed).thoughts
        for seed in (0, 1)
    )
    assert (first - second).std() > 0.5  # drawn with its spread


def test_options_of_a_new_head_are_read_or_asked_for(
    mixed: type[ThoughtHead], tmp_path: Path
) -> None:
    """A plain language model goes on with a new head; what nothing says is asked for."""
    make_base(tmp_path / "base", "gpt2")
    with pytest.raises(
        CheckpointError, match=r"the share of its thought head .* set thought_head\.share"
    ):
        load_reasoner(tmp_path / "base", method="mixed")
    reasoner = load_reasoner(tmp_path / "base", method="mixed", thought_head={"share": 0.5})
    assert reasoner.spec.thought_head == {"bias": False, "share": 0.5}
    assert reasoner.thought_head.linear.weight.isfinite().all()


def test_heads_without_a_learned_spread_have_none() -> None:
    hidden = torch.randn(3, 8)
    assert THOUGHT_HEADS["coconut"](8).spread(hidden) is None
    assert CodiHead(8).spread(hidden) is None


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"one of coconut, codi, colar; a method of your own is known"
    ):
        thought_head_of("nope")
