"""LatentRM: a scalar score for every thought of a trajectory (arXiv 2510.07745, section 4)."""

import copy
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModel, DynamicCache, PreTrainedModel

from lightning_ltts.errors import ConfigError
from lightning_ltts.models.latent_lm import (
    BLOCKS,
    SITES,
    LatentReasoner,
    align_left,
    canonical,
    fingerprint,
    make_config,
    position_ids,
)
from lightning_ltts.models.shared_prefix import IMPLEMENTATION, RowLayout, SharedPrefixCache
from lightning_ltts.models.thought_heads import CodiHead


@dataclass(frozen=True)
class LatentRMSpec:
    """All that fixes a LatentRM except its weights; plain values, stored in every checkpoint."""

    backbone: dict[str, Any]  # Hugging Face configuration, with its model_type
    thought_size: int  # d of the reasoner whose thoughts it reads
    reasoner: str | None = None  # fingerprint of that reasoner
    temperature: float = 1.0  # of the weighted vote, fitted on validation
    thought_head: dict[str, Any] | None = None  # options of a CODI head before the score (the published CODI variant)


@dataclass(frozen=True)
class RMState:
    """What the LatentRM has read so far: rows of thoughts over shared prompts. `take` copies, forks and drops rows."""

    cache: SharedPrefixCache
    positions: Tensor  # (R,), position id of the next thought

    def take(self, rows: Tensor) -> "RMState":
        """The state of these rows, in this order; a row can be repeated."""
        return RMState(self.cache.take(rows), self.positions[rows.to(self.positions.device)])


class LatentRM(nn.Module):
    """r_t = g(x, h_1..h_t): a causal backbone that reads prompt and thoughts, and a scalar head on each thought.

    The answer is not read, so a score never depends on what follows.

    Args:
        spec: what the model is.
        backbone: body without vocabulary head; by default one with random weights.
    """

    def __init__(self, spec: LatentRMSpec, backbone: PreTrainedModel | None = None):
        super().__init__()
        self.backbone = backbone if backbone is not None else AutoModel.from_config(make_config(spec.backbone))
        self.backbone.set_attn_implementation(IMPLEMENTATION)
        self.spec = replace(spec, backbone=canonical(self.backbone.config))
        width = self.backbone.config.hidden_size
        same = width == spec.thought_size
        self.input_projection = nn.Identity() if same else nn.Linear(spec.thought_size, width)
        self.thought_head = nn.Identity() if spec.thought_head is None else CodiHead(width, **spec.thought_head)
        self.score_head = nn.Linear(width, 1)
        nn.init.normal_(self.score_head.weight, std=0.02)
        nn.init.zeros_(self.score_head.bias)

    @classmethod
    def from_reasoner(
        cls, reasoner: LatentReasoner, extra_layers: int = 0, backbone: dict[str, Any] | None = None
    ) -> "LatentRM":
        """A LatentRM for a reasoner's thoughts whose backbone starts from the reasoner's weights.

        The body can be deeper than the reasoner's: to judge a thought it has to make it anew and then compare. The extra
        layers start as the identity (their output projections are 0), so that training starts from what the reasoner knows.

        Args:
            reasoner: whose thoughts it is to score.
            extra_layers: on top of the reasoner's.
            backbone: instead, a Hugging Face configuration of any supported family and size; the body starts from random
                weights, over the reasoner's vocabulary, and thoughts of another size are projected.

        Raises:
            ConfigError: a negative number of extra layers, or extra layers on a backbone of its own.
        """
        if extra_layers < 0:
            raise ConfigError(f"extra_layers={extra_layers} must not be negative")
        if backbone is not None:
            if extra_layers:
                raise ConfigError("extra_layers are for the reasoner's own backbone; set the number of layers in backbone")
            own = {**backbone, "vocab_size": reasoner.backbone.config.vocab_size}
            return cls(LatentRMSpec(own, reasoner.hidden_size, fingerprint(reasoner)))
        body = reasoner.backbone.base_model
        config = copy.deepcopy(reasoner.backbone.config)
        layers = config.num_hidden_layers
        config.num_hidden_layers = layers + extra_layers
        if getattr(config, "layer_types", None) is not None:
            config.layer_types = ["full_attention"] * config.num_hidden_layers
        model = cls(LatentRMSpec(config.to_dict(), reasoner.hidden_size, fingerprint(reasoner)))
        model.backbone.to(dtype=body.dtype)  # type: ignore[call-arg]  # hidden by a decorator
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
        """Reads prompts (Q, L), padded on any side; the state has one row per question."""
        input_ids, attention_mask = align_left(input_ids, attention_mask)
        cache = DynamicCache(config=self.backbone.config)
        self.backbone(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids(attention_mask),
            past_key_values=cache,
            use_cache=True,
        )
        layout = RowLayout.of(torch.arange(len(input_ids)), len(input_ids), input_ids.device)
        return RMState(SharedPrefixCache(cache, attention_mask, layout), attention_mask.sum(-1))

    def extend(self, state: RMState, thoughts: Tensor) -> tuple[Tensor, RMState]:
        """Reads the next thoughts (R, L, d) of every row: their scores (R, L), raw logits, and the new state.

        The given state must not be used again, except through a `take` made before.
        """
        length = thoughts.shape[1]
        positions = state.positions[:, None] + torch.arange(length, device=thoughts.device)
        hidden = self.backbone(
            inputs_embeds=self.input_projection(thoughts.to(self.backbone.dtype)),
            position_ids=positions,
            past_key_values=state.cache,
            use_cache=True,
        ).last_hidden_state
        with torch.autocast(hidden.device.type, enabled=False):  # scores are summed and compared: not in half precision
            hidden = self.thought_head(hidden).float()
            scores = F.linear(hidden, self.score_head.weight.float(), self.score_head.bias.float())
        return scores.squeeze(-1), RMState(state.cache, state.positions + length)

    def score(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        thoughts: Tensor,
        thought_counts: Tensor | None = None,
        read: RMState | None = None,
    ) -> Tensor:
        """Scores of whole trajectories: prompts (Q, L), thoughts (Q, N, T, d) -> (Q, N, T) raw logits r_t.

        A trajectory's score is the sum over T (section 4 of the paper). Where `thought_counts` (Q, N) says that a trajectory
        has fewer than T thoughts, the scores beyond are 0. `read` is what `start` made of these prompts, where they are read
        already.
        """
        questions, samples, steps = thoughts.shape[:3]
        longest = steps if thought_counts is None else int(thought_counts.max())
        rows = torch.arange(questions).repeat_interleave(samples)
        if longest == 0:
            none = thoughts.new_zeros(questions, samples, steps, dtype=torch.float32)
            return none + 0 * self.score_head.weight.sum()  # so that training can go through a batch without thoughts
        state = (self.start(input_ids, attention_mask) if read is None else read).take(rows)
        scores, _ = self.extend(state, thoughts[:, :, :longest].flatten(0, 1))
        scores = F.pad(scores.unflatten(0, (questions, samples)), (0, steps - longest))
        return scores if thought_counts is None else scores * thought_mask(thought_counts, steps)


def thought_mask(counts: Tensor, steps: int) -> Tensor:
    """Counts (...) -> (..., T) float, 1 on thoughts that a trajectory has."""
    return (torch.arange(steps, device=counts.device) < counts[..., None]).float()
