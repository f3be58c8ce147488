"""LatentRM: a scalar score for every thought of a trajectory (arXiv 2510.07745, section 4)."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, DynamicCache, PreTrainedModel

from lightning_ltts.errors import ConfigError
from lightning_ltts.models.latent_lm import BLOCKS, SITES, LatentReasoner, fingerprint, position_ids
from lightning_ltts.models.shared_prefix import IMPLEMENTATION, RowLayout, SharedPrefixCache


@dataclass(frozen=True)
class LatentRMSpec:
    """All that fixes a LatentRM except its weights; plain values, stored in every checkpoint."""

    backbone: dict[str, Any]  # Hugging Face configuration, with its model_type
    thought_size: int  # d of the reasoner whose thoughts it reads
    reasoner: str | None = None  # fingerprint of that reasoner
    temperature: float = 1.0  # of the weighted vote, fitted on validation


@dataclass(frozen=True)
class RMState:
    """What the LatentRM has read so far: rows of thoughts over shared prompts. `take` copies, forks and drops rows."""

    cache: SharedPrefixCache
    positions: Tensor  # (R,), position id of the next thought

    def take(self, rows: Tensor) -> "RMState":
        """The state of these rows, in this order; a row can be repeated."""
        return RMState(self.cache.take(rows), self.positions[rows])


class LatentRM(nn.Module):
    """r_t = g(x, h_1..h_t): a causal backbone that reads prompt and thoughts, and a scalar head on each thought.

    The answer is not read, so a score never depends on what follows.

    Args:
        spec: what the model is.
        backbone: body without vocabulary head; by default one with random weights.
    """

    def __init__(self, spec: LatentRMSpec, backbone: PreTrainedModel | None = None):
        super().__init__()
        self.spec = spec
        self.backbone = backbone if backbone is not None else _new_body(spec.backbone)
        self.backbone.set_attn_implementation(IMPLEMENTATION)
        width = self.backbone.config.hidden_size
        same = width == spec.thought_size
        self.input_projection = nn.Identity() if same else nn.Linear(spec.thought_size, width)
        self.score_head = nn.Linear(width, 1)
        nn.init.normal_(self.score_head.weight, std=0.02)
        nn.init.zeros_(self.score_head.bias)

    @classmethod
    def from_reasoner(cls, reasoner: LatentReasoner, extra_layers: int = 0) -> "LatentRM":
        """A LatentRM whose backbone starts from the reasoner's weights.

        The body can be deeper than the reasoner's: to judge a thought it has to make it anew and then compare. The extra
        layers start as the identity (their output projections are 0), so that training starts from what the reasoner knows.

        Raises:
            ConfigError: a negative number of extra layers.
        """
        if extra_layers < 0:
            raise ConfigError(f"extra_layers={extra_layers} must not be negative")
        body = reasoner.backbone.base_model
        config = copy.deepcopy(reasoner.backbone.config)
        layers = config.num_hidden_layers
        config.num_hidden_layers = layers + extra_layers
        model = cls(LatentRMSpec(config.to_dict(), reasoner.hidden_size, fingerprint(reasoner)))
        unmatched = model.backbone.load_state_dict(body.state_dict(), strict=False)
        blocks = BLOCKS[reasoner.family]
        added = tuple(f"{blocks}.{layer}." for layer in range(layers, layers + extra_layers))
        assert not unmatched.unexpected_keys
        assert all(key.startswith(added) for key in unmatched.missing_keys)
        for block in list(model.backbone.get_submodule(blocks).children())[layers:]:
            for site in ("attention_output", "mlp_output"):
                for parameter in block.get_submodule(SITES[reasoner.family][site]).parameters():
                    nn.init.zeros_(parameter)
        return model

    def start(self, input_ids: Tensor, attention_mask: Tensor) -> RMState:
        """Reads prompts (Q, L), left padded; the state has one row per question."""
        cache = DynamicCache(config=self.backbone.config)
        self.backbone(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids(attention_mask),
            past_key_values=cache,
            use_cache=True,
        )
        questions = torch.arange(len(input_ids), device=input_ids.device)
        layout = RowLayout.of(questions, len(input_ids))
        return RMState(SharedPrefixCache(cache, attention_mask, layout), attention_mask.sum(-1))

    def extend(self, state: RMState, thoughts: Tensor) -> tuple[Tensor, RMState]:
        """Reads the next thoughts (R, L, d) of every row: their scores (R, L), raw logits, and the new state.

        The given state must not be used again, except through a `take` made before.
        """
        length = thoughts.shape[1]
        positions = state.positions[:, None] + torch.arange(length, device=thoughts.device)
        hidden = self.backbone(
            inputs_embeds=self.input_projection(thoughts),
            position_ids=positions,
            past_key_values=state.cache,
            use_cache=True,
        ).last_hidden_state
        with torch.autocast(hidden.device.type, enabled=False):  # scores are summed and compared: not in half precision
            scores = F.linear(hidden.float(), self.score_head.weight.float(), self.score_head.bias.float())
        return scores.squeeze(-1), RMState(state.cache, state.positions + length)

    def score(self, input_ids: Tensor, attention_mask: Tensor, thoughts: Tensor) -> Tensor:
        """Scores of whole trajectories: prompts (Q, L), thoughts (Q, N, T, d) -> (Q, N, T) raw logits r_t.

        A trajectory's score is the sum over T (section 4 of the paper).
        """
        questions, samples = thoughts.shape[:2]
        rows = torch.arange(questions, device=thoughts.device).repeat_interleave(samples)
        scores, _ = self.extend(self.start(input_ids, attention_mask).take(rows), thoughts.flatten(0, 1))
        return scores.unflatten(0, (questions, samples))


def _new_body(config: dict[str, Any]) -> PreTrainedModel:
    options = dict(config)
    return AutoModel.from_config(AutoConfig.for_model(options.pop("model_type"), **options))
