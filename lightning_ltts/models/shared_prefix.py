"""Attention over a prefix that many rows share: one copy of the prompt's keys and values per question.

Samples of one question differ only in their suffix (thoughts and answer). Scores of prefix and suffix are computed apart,
and share one softmax, which equals attention over the concatenation. Works on unmodified Hugging Face GPT-2 and Llama type
models (grouped heads included): the cache hands the attention modules an opaque `SplitKV`, and the attention function
registered under `IMPLEMENTATION` understands it. Ordinary tensors go to PyTorch's own SDPA.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache
from transformers.cache_utils import Cache, DynamicLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

IMPLEMENTATION = "shared_prefix"


@dataclass(frozen=True)
class RowLayout:
    """Which question each live row belongs to, and where it sits in a dense (questions, width) grid.

    It is worked out on the CPU, so that forking and dropping rows does not wait for the device.
    """

    owner: Tensor  # (R,) int64 on the CPU, question of each row
    width: int  # the largest number of rows of one question
    slot: (
        Tensor | None
    )  # (R,) int64, index into the flattened grid; None where the grid is exactly the rows in order

    @classmethod
    def of(cls, owner: Tensor, num_questions: int, device: torch.device) -> "RowLayout":
        """The layout for rows with these owners (on the CPU), in any order and number, for caches on `device`."""
        counts = torch.bincount(owner, minlength=num_questions)
        width = max(int(counts.max()), 1)
        regular = torch.arange(num_questions).repeat_interleave(width)
        if len(owner) == len(regular) and torch.equal(owner, regular):
            return cls(owner, width, None)
        order = owner.argsort(stable=True)
        rank = torch.empty_like(owner)
        rank[order] = torch.arange(len(owner)) - (counts.cumsum(0) - counts)[owner[order]]
        return cls(owner, width, (owner * width + rank).to(device, non_blocking=True))

    def to_grid(self, x: Tensor, num_questions: int) -> Tensor:
        """(R, ...) -> (questions, width, ...), zeros where the grid has no row."""
        if self.slot is not None:
            x = x.new_zeros(num_questions * self.width, *x.shape[1:]).index_copy(0, self.slot, x)
        return x.view(num_questions, self.width, *x.shape[1:])

    def from_grid(self, x: Tensor) -> Tensor:
        """(questions, width, ...) -> (R, ...)."""
        x = x.flatten(0, 1)
        return x if self.slot is None else x[self.slot]


@dataclass(frozen=True)
class SplitKV:
    """Keys or values in two parts; attention modules pass it on without looking inside."""

    prefix: Tensor  # (B, heads, P, d_head)
    suffix: Tensor  # (R, heads, S, d_head)
    prefix_bias: Tensor | None  # (B, 1, 1, P), added to scores; very negative on padding
    layout: RowLayout
    suffix_start: Tensor | None  # (R,), where each row's suffix begins; None where all begin at 0


class SharedPrefixLayer(DynamicLayer):
    """One layer of `SharedPrefixCache`; the inherited keys and values are the suffix."""

    keys: Tensor
    values: Tensor

    def __init__(
        self,
        keys: Tensor,
        values: Tensor,
        bias: Tensor | None,
        layout: RowLayout,
        suffix_start: Tensor | None = None,
    ):
        super().__init__()  # type: ignore[no-untyped-call]
        self.prefix_keys, self.prefix_values, self.prefix_bias, self.layout = (
            keys,
            values,
            bias,
            layout,
        )
        self.suffix_start = suffix_start
        self.lazy_initialization(keys, values)

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Appends to the suffix; both return values are `SplitKV`."""
        keys, values = super().update(key_states, value_states)
        return (
            SplitKV(self.prefix_keys, keys, self.prefix_bias, self.layout, self.suffix_start),
            SplitKV(self.prefix_values, values, self.prefix_bias, self.layout, self.suffix_start),
        )

    @property
    def suffix_length(self) -> int:
        """Positions read since the prefix."""
        return super().get_seq_length()

    @property
    def suffix(self) -> tuple[Tensor, Tensor]:
        """Keys and values (R, heads, S, d_head) of the suffix, which nothing may have been read of."""
        if self.suffix_length:
            return self.keys, self.values
        rows = len(self.layout.owner)
        keys, values = (
            x.new_empty(rows, x.shape[1], 0, x.shape[3])
            for x in (self.prefix_keys, self.prefix_values)
        )
        return keys, values

    def get_seq_length(self) -> int:
        """Length as the model sees it: prefix and suffix."""
        return self.prefix_keys.shape[-2] + self.suffix_length

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """The mask covers the suffix only; the prefix has its own bias."""
        return self.suffix_length + query_length, self.prefix_keys.shape[-2]

    def take(
        self, rows: Tensor, layout: RowLayout, questions: Tensor | None = None
    ) -> "SharedPrefixLayer":
        """A layer with these rows of the suffix; the prefix is shared, not copied.

        Where `questions` are given, it is that of these questions alone.
        """
        start = None if self.suffix_start is None else self.suffix_start[rows]
        keys, values, bias = self.prefix_keys, self.prefix_values, self.prefix_bias
        if questions is not None:
            keys, values = keys[questions], values[questions]
            bias = None if bias is None else bias[questions]
        layer = SharedPrefixLayer(keys, values, bias, layout, start)
        if self.suffix_length:
            layer.keys, layer.values = self.keys[rows], self.values[rows]
        return layer

    @classmethod
    def join(
        cls, layers: "list[SharedPrefixLayer]", layout: RowLayout, suffix_start: Tensor
    ) -> "SharedPrefixLayer":
        """A layer with the rows of all, over the same prefix; shorter suffixes are padded on the left."""
        first, length = layers[0], max(layer.suffix_length for layer in layers)
        joined = cls(
            first.prefix_keys, first.prefix_values, first.prefix_bias, layout, suffix_start
        )
        padded = [
            (F.pad(x, (0, 0, length - x.shape[2], 0)) for x in layer.suffix) for layer in layers
        ]
        joined.keys, joined.values = (torch.cat(parts) for parts in zip(*padded, strict=True))
        return joined


class SharedPrefixCache(Cache):
    """A Hugging Face cache whose rows share their question's prefix.

    Args:
        prompt: keys and values of the prompts, one row per question.
        attention_mask: (B, P), 1 on real tokens; left padding.
        layout: which question each row belongs to.
    """

    layers: list[SharedPrefixLayer]  # type: ignore[assignment]  # narrower than the base class's

    def __init__(self, prompt: DynamicCache, attention_mask: Tensor, layout: RowLayout):
        self.num_questions = len(attention_mask)
        bias = None
        if not bool(attention_mask.all()):
            # finite, so that a prompt of padding alone gives weight 0 rather than NaN
            bias = torch.zeros_like(attention_mask, dtype=torch.float32)
            bias = bias.masked_fill(attention_mask == 0, -1e30)[:, None, None]
        read: list[Any] = prompt.layers
        super().__init__(layers=[SharedPrefixLayer(x.keys, x.values, bias, layout) for x in read])

    @property
    def layout(self) -> RowLayout:
        """Which question each row belongs to."""
        return self.layers[0].layout

    @property
    def suffix_length(self) -> int:
        """Positions read since the prefix, the same for all rows."""
        return self.layers[0].suffix_length

    def take(self, rows: Tensor, questions: Tensor | None = None) -> "SharedPrefixCache":
        """A new cache with these rows, repeated or dropped at will; this one stays as it is.

        Args:
            rows: (R,) which rows, in any order.
            questions: the prompts to keep, ascending, on the CPU; the rows are of these. By default
                all stay, so that the result can be joined with others over the same prompts.
        """
        device = self.layers[0].prefix_keys.device
        owner, num_questions = self.layout.owner[rows.cpu()], self.num_questions
        if questions is not None:
            owner, num_questions = torch.searchsorted(questions, owner), len(questions)
            questions = questions.to(device, non_blocking=True)
        layout = RowLayout.of(owner, num_questions, device)
        rows = rows.to(device, non_blocking=True)
        cache = object.__new__(SharedPrefixCache)
        Cache.__init__(cache, layers=[layer.take(rows, layout, questions) for layer in self.layers])
        cache.num_questions = num_questions
        return cache

    @classmethod
    def join(cls, caches: "list[SharedPrefixCache]") -> "SharedPrefixCache":
        """The rows of several caches over the same prompts, one after the other; their suffixes may differ in length."""
        length = max(cache.suffix_length for cache in caches)
        device = caches[0].layers[0].prefix_keys.device
        starts = []
        for cache in caches:
            start = cache.layers[0].suffix_start
            start = (
                torch.zeros(len(cache.layout.owner), dtype=torch.int64, device=device)
                if start is None
                else start
            )
            starts.append(start + length - cache.suffix_length)
        num_questions = caches[0].num_questions
        layout = RowLayout.of(
            torch.cat([cache.layout.owner for cache in caches]), num_questions, device
        )
        joined = object.__new__(cls)
        per_layer = zip(*(cache.layers for cache in caches), strict=True)
        Cache.__init__(
            joined,
            layers=[SharedPrefixLayer.join(list(x), layout, torch.cat(starts)) for x in per_layer],
        )
        joined.num_questions = num_questions
        return joined


def shared_prefix_attention(
    module: nn.Module,
    query: Tensor,
    key: Any,
    value: Any,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention of queries (R, H, Q, d_head); (R, Q, H, d_head) comes back. The suffix is causal, the prefix open."""
    if not isinstance(key, SplitKV):
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    rows, heads, length, width = query.shape
    questions, kv_heads = key.prefix.shape[:2]
    layout, groups = key.layout, heads // kv_heads
    query = query * (width**-0.5 if scaling is None else scaling)
    query = query.reshape(rows, kv_heads, groups * length, width)
    if layout.width == 1 and layout.slot is None:  # one row of each question: nothing is shared
        out = _unshared_attention(query, key, value, length)
        return out.reshape(rows, heads, length, width).transpose(1, 2).contiguous(), None

    def to_grid(x: Tensor) -> Tensor:  # (R, K, G*Q, ...) -> (B, K, N*G*Q, ...)
        return layout.to_grid(x, questions).transpose(1, 2).flatten(2, 3)

    def from_grid(x: Tensor) -> Tensor:
        return layout.from_grid(x.unflatten(2, (layout.width, groups * length)).transpose(1, 2))

    # prefix: all queries of a question against one copy of its keys, one matrix product
    prefix_scores = to_grid(query) @ key.prefix.mT
    if key.prefix_bias is not None:
        prefix_scores = prefix_scores + key.prefix_bias

    # suffix: each row against its own keys
    suffix_scores = query @ key.suffix.mT  # (R, K, G*Q, S)
    hidden = _hidden_suffix(key, length, groups)
    if hidden is not None:
        suffix_scores = suffix_scores.masked_fill(hidden, float("-inf"))

    # one softmax over both, which sums in single precision whatever it is given
    scores = torch.cat((prefix_scores, to_grid(suffix_scores)), dim=-1)
    weights = scores.softmax(-1).to(value.prefix.dtype)
    of_prefix, of_suffix = weights.split((key.prefix.shape[2], key.suffix.shape[2]), dim=-1)
    out = from_grid(of_prefix @ value.prefix) + from_grid(of_suffix) @ value.suffix
    return out.reshape(rows, heads, length, width).transpose(1, 2).contiguous(), None


def _hidden_suffix(key: SplitKV, length: int, groups: int) -> Tensor | None:
    """What of the suffix `length` queries do not see: a mask for (R, K, G*Q, S), or None for nothing."""
    hidden, size, device = None, key.suffix.shape[2], key.suffix.device
    if length > 1:
        causal = torch.ones(length, size, dtype=torch.bool, device=device).tril(size - length)
        hidden = ~causal.repeat(groups, 1)
    if key.suffix_start is not None:
        before = torch.arange(size, device=device) < key.suffix_start[:, None]  # (R, S)
        hidden = before[:, None, None] if hidden is None else hidden | before[:, None, None]
    return hidden


def _unshared_attention(query: Tensor, key: SplitKV, value: SplitKV, length: int) -> Tensor:
    """The same for one row of each question, in one softmax: (R, K, G*Q, d), of scaled queries."""
    keys, values = (torch.cat((x.prefix, x.suffix), dim=2) for x in (key, value))
    hidden = _hidden_suffix(key, length, query.shape[2] // length)
    if hidden is None and key.prefix_bias is None:
        return F.scaled_dot_product_attention(query, keys, values, scale=1.0)
    rows, _, queries, _ = query.shape
    mask = query.new_zeros(rows, 1, queries, keys.shape[2])
    if key.prefix_bias is not None:
        mask[..., : key.prefix.shape[2]] = key.prefix_bias
    if hidden is not None:
        mask[..., key.prefix.shape[2] :].masked_fill_(hidden, float("-inf"))
    return F.scaled_dot_product_attention(query, keys, values, mask, scale=1.0)


AttentionInterface.register(IMPLEMENTATION, shared_prefix_attention)
AttentionMaskInterface.register(IMPLEMENTATION, sdpa_mask)
