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
    agreement: float = 0.0  # how much the vote counts in best-of-N with agreement, fitted on validation
    thought_head: dict[str, Any] | None = None  # options of a CODI head before the score (the published CODI variant)
    reference: bool = False  # whether it reads the reasoner's deterministic trajectory before those it is to score
    reads_answer: bool = False  # whether a score is read after the decoded answer, too
    noise_free: bool = False  # whether it also reads every thought as it was before the sampler added noise
    end_id: int = 0  # the token between thoughts and answer, where answers are read
    pad_id: int = 0  # fills up answers


@dataclass(frozen=True)
class Reference:
    """The deterministic trajectory of each question: what a sampled one is compared with."""

    thoughts: Tensor  # (Q, T, d)
    counts: Tensor  # (Q,), thoughts it has
    answer_ids: Tensor  # (Q, A), padded


@dataclass(frozen=True)
class Scores:
    """Scores of sampled trajectories, raw logits."""

    steps: Tensor  # (Q, N, T): r_t of every thought
    answer: Tensor | None = None  # (Q, N): read after the answer, by a LatentRM that does

    @property
    def trajectory(self) -> Tensor:
        """(Q, N): the sum over steps (section 4 of the paper), and the answer's score where there is one."""
        return self.steps.sum(-1) if self.answer is None else self.steps.sum(-1) + self.answer


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

    A thought's score never depends on what follows. Beyond the paper, it can read the reasoner's deterministic trajectory
    right after the prompt, once per question (`reference`), and give a score of the decoded answer (`reads_answer`).

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
        # from what the sampler added; 0 at first, as if the thought were all there is
        self.noise_projection = nn.Linear(spec.thought_size, width, bias=False) if spec.noise_free else None
        if self.noise_projection is not None:
            nn.init.zeros_(self.noise_projection.weight)
        self.thought_head = nn.Identity() if spec.thought_head is None else CodiHead(width, **spec.thought_head)
        self.score_head = nn.Linear(width, 1)
        self.answer_head = nn.Linear(width, 1) if spec.reads_answer else None
        # what tells the reference from the trajectory that is scored; both have the same positions
        self.reference_mark = nn.Parameter(torch.zeros(width)) if spec.reference else None
        for head in (self.score_head, self.answer_head):
            if head is not None:
                nn.init.normal_(head.weight, std=0.02)
                nn.init.zeros_(head.bias)

    @classmethod
    def from_reasoner(
        cls,
        reasoner: LatentReasoner,
        extra_layers: int = 0,
        backbone: dict[str, Any] | None = None,
        reference: bool = False,
        reads_answer: bool = False,
        noise_free: bool = False,
    ) -> "LatentRM":
        """A LatentRM for a reasoner's thoughts whose backbone starts from the reasoner's weights.

        The body can be deeper than the reasoner's: to judge a thought it has to make it anew and then compare. The extra
        layers start as the identity (their output projections are 0), so that training starts from what the reasoner knows.

        Args:
            reasoner: whose thoughts it is to score.
            extra_layers: on top of the reasoner's.
            backbone: instead, a Hugging Face configuration of any supported family and size; the body starts from random
                weights, over the reasoner's vocabulary, and thoughts of another size are projected.
            reference: whether it reads the reasoner's deterministic trajectory, too.
            reads_answer: whether it also scores the decoded answer.
            noise_free: whether it also reads thoughts as they were before noise.

        Raises:
            ConfigError: a negative number of extra layers, or extra layers on a backbone of its own.
        """
        if extra_layers < 0:
            raise ConfigError(f"extra_layers={extra_layers} must not be negative")
        options: dict[str, Any] = {"reasoner": fingerprint(reasoner), "reference": reference, "reads_answer": reads_answer}
        options["noise_free"] = noise_free
        options |= {"end_id": reasoner.end_id, "pad_id": reasoner.pad_id}
        if backbone is not None:
            if extra_layers:
                raise ConfigError("extra_layers are for the reasoner's own backbone; set the number of layers in backbone")
            own = {**backbone, "vocab_size": reasoner.backbone.config.vocab_size}
            return cls(LatentRMSpec(own, reasoner.hidden_size, **options))
        body = reasoner.backbone.base_model
        config = copy.deepcopy(reasoner.backbone.config)
        layers = config.num_hidden_layers
        config.num_hidden_layers = layers + extra_layers
        if getattr(config, "layer_types", None) is not None:
            config.layer_types = ["full_attention"] * config.num_hidden_layers
        model = cls(LatentRMSpec(config.to_dict(), reasoner.hidden_size, **options))
        model.backbone.to(dtype=body.dtype)  # type: ignore[call-arg]  # hidden by a decorator
        unmatched = model.backbone.load_state_dict(body.state_dict(), strict=False)
        blocks = reasoner.family.blocks
        added = tuple(f"{blocks}.{layer}." for layer in range(layers, layers + extra_layers))
        assert not unmatched.unexpected_keys
        assert all(key.startswith(added) for key in unmatched.missing_keys)
        for block in list(model.backbone.get_submodule(blocks).children())[layers:]:
            for site in ("attention_output", "mlp_output"):
                for parameter in block.get_submodule(reasoner.family.sites[site]).parameters():
                    nn.init.zeros_(parameter)
        return model

    def start(self, input_ids: Tensor, attention_mask: Tensor, reference: Reference | None = None) -> RMState:
        """Reads prompts (Q, L), padded on any side, and their reference where it is of use; one row per question.

        Raises:
            ConfigError: this LatentRM compares with a reference, and none is given.
        """
        input_ids, attention_mask = align_left(input_ids, attention_mask)
        mask, inputs = attention_mask, self.backbone.get_input_embeddings()(input_ids)
        if self.reference_mark is not None:
            if reference is None:
                raise ConfigError(
                    "this LatentRM compares trajectories with the deterministic one; give reference=deterministic(rollouts) of "
                    "a RolloutEngine without sampler"
                )
            steps = reference.thoughts.shape[1]
            after, index = self._answer_inputs(reference.answer_ids, reference.counts, steps)
            before = self._thought_inputs(reference.thoughts, reference.thoughts)
            read = _lay_out(before, after, index) + self.reference_mark
            inputs = torch.cat([inputs, read.to(inputs.dtype)], dim=1)
            has = (
                torch.arange(read.shape[1], device=mask.device) < self._lengths(reference.answer_ids, reference.counts)[:, None]
            )
            mask = torch.cat([mask, has.to(mask.dtype)], dim=1)
        cache = DynamicCache(config=self.backbone.config)
        self.backbone(
            inputs_embeds=inputs,
            attention_mask=mask,
            position_ids=position_ids(mask),
            past_key_values=cache,
            use_cache=True,
        )
        layout = RowLayout.of(torch.arange(len(input_ids)), len(input_ids), input_ids.device)
        return RMState(SharedPrefixCache(cache, mask, layout), attention_mask.sum(-1))

    def extend(self, state: RMState, thoughts: Tensor, clean: Tensor | None = None) -> tuple[Tensor, RMState]:
        """Reads the next thoughts (R, L, d) of every row: their scores (R, L), raw logits, and the new state.

        `clean` (R, L, d) are the thoughts before noise, for a LatentRM that reads them. The given state must not be used
        again, except through a `take` made before.
        """
        hidden, state = self._read(state, self._thought_inputs(thoughts, clean))
        return self._value(self.score_head, hidden), state

    def score_answers(self, state: RMState, answer_ids: Tensor) -> Tensor:
        """Reads the answers (R, A), padded, of rows that have all their thoughts: scores (R,), raw logits."""
        assert self.answer_head is not None, "only a LatentRM that reads answers"
        counts = torch.zeros(len(answer_ids), dtype=torch.int64, device=answer_ids.device)
        inputs, _ = self._answer_inputs(answer_ids, counts, 0)
        hidden, _ = self._read(state, inputs)
        return self._value(self.answer_head, _at(hidden, self._lengths(answer_ids, counts) - 1))

    def judge(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        thoughts: Tensor,
        thought_counts: Tensor | None = None,
        answer_ids: Tensor | None = None,
        reference: Reference | None = None,
        read: RMState | None = None,
        clean: Tensor | None = None,
    ) -> Scores:
        """Scores of whole trajectories: prompts (Q, L), thoughts (Q, N, T, d), and answers (Q, N, A) where it reads them.

        Where `thought_counts` (Q, N) says that a trajectory has fewer than T thoughts, the scores beyond are 0. `read` is what
        `start` made of these prompts (and their reference), where they are read
        already; `clean` (Q, N, T, d) are the thoughts before noise.

        Raises:
            ConfigError: this LatentRM needs a reference, answers or noise-free thoughts, and none are given.
        """
        if self.answer_head is not None and answer_ids is None:
            raise ConfigError("this LatentRM reads answers; give answer_ids=rollouts.answer_ids")
        return self._judge(input_ids, attention_mask, thoughts, thought_counts, answer_ids, reference, read, clean)

    def score(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        thoughts: Tensor,
        thought_counts: Tensor | None = None,
        reference: Reference | None = None,
        clean: Tensor | None = None,
    ) -> Tensor:
        """The step scores (Q, N, T) of `judge`, raw logits r_t, for which no answer is needed."""
        return self._judge(input_ids, attention_mask, thoughts, thought_counts, None, reference, None, clean).steps

    def _judge(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        thoughts: Tensor,
        thought_counts: Tensor | None,
        answer_ids: Tensor | None,
        reference: Reference | None,
        read: RMState | None,
        clean: Tensor | None,
    ) -> Scores:
        questions, samples, steps = thoughts.shape[:3]
        counts = torch.full((questions, samples), steps, device=thoughts.device) if thought_counts is None else thought_counts
        longest, rows = int(counts.max()), torch.arange(questions).repeat_interleave(samples)
        answers = None if self.answer_head is None or answer_ids is None else answer_ids.flatten(0, 1)
        if longest == 0 and answers is None:
            none = thoughts.new_zeros(questions, samples, steps, dtype=torch.float32)
            return Scores(none + 0 * self.score_head.weight.sum())  # so that training can go through a batch without thoughts
        state = (self.start(input_ids, attention_mask, reference) if read is None else read).take(rows)
        before = None if clean is None else clean[:, :, :longest].flatten(0, 1)
        inputs = self._thought_inputs(thoughts[:, :, :longest].flatten(0, 1), before)
        if answers is not None:
            after, index = self._answer_inputs(answers, counts.flatten(), longest)
            inputs = _lay_out(inputs, after.to(inputs.dtype), index)
        hidden, _ = self._read(state, inputs)
        scores = self._value(self.score_head, hidden[:, :longest])
        scores = F.pad(scores.unflatten(0, (questions, samples)), (0, steps - longest))
        if thought_counts is not None:
            scores = scores * thought_mask(counts, steps)
        if self.answer_head is None or answers is None:
            return Scores(scores)
        last = self._lengths(answers, counts.flatten()) - 1
        return Scores(scores, self._value(self.answer_head, _at(hidden, last)).view(questions, samples))

    def _thought_inputs(self, thoughts: Tensor, clean: Tensor | None) -> Tensor:
        """Thoughts (R, L, d), and the same before noise -> inputs (R, L, width)."""
        inputs: Tensor = self.input_projection(thoughts.to(self.backbone.dtype))
        if self.noise_projection is None:
            return inputs
        if clean is None or clean.shape != thoughts.shape:
            raise ConfigError(
                "this LatentRM also reads thoughts as they were before noise; give clean=rollouts.clean, and for training mine "
                "with data.init_args.keep_clean=true"
            )
        return inputs + self.noise_projection((thoughts - clean).to(self.backbone.dtype))

    def _read(self, state: RMState, inputs: Tensor) -> tuple[Tensor, RMState]:
        """One pass over inputs (R, L, width) at the rows' positions: hidden states (R, L, width), float32."""
        positions = state.positions[:, None] + torch.arange(inputs.shape[1], device=inputs.device)
        hidden = self.backbone(
            inputs_embeds=inputs, position_ids=positions, past_key_values=state.cache, use_cache=True
        ).last_hidden_state
        return hidden, RMState(state.cache, state.positions + inputs.shape[1])

    def _value(self, head: nn.Linear, hidden: Tensor) -> Tensor:
        """Hidden states (..., width) -> scores (...)."""
        with torch.autocast(hidden.device.type, enabled=False):  # scores are summed and compared: not in half precision
            hidden = self.thought_head(hidden).float()
            return F.linear(hidden, head.weight.float(), head.bias.float()).squeeze(-1)

    def _lengths(self, answer_ids: Tensor, counts: Tensor) -> Tensor:
        """Positions (R,) of a trajectory: its thoughts, the end token, and its answer (R, A) without padding."""
        return counts.to(answer_ids.device) + 1 + (answer_ids != self.spec.pad_id).sum(-1)

    def _answer_inputs(self, answer_ids: Tensor, counts: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """Embedded end token and answers (R, 1 + A, width), and where each row's inputs come from, see `_lay_out`."""
        longest = int((answer_ids != self.spec.pad_id).sum(-1).max()) if answer_ids.numel() else 0
        end = answer_ids.new_full((len(answer_ids), 1), self.spec.end_id)
        tokens = torch.cat([end, answer_ids[:, :longest]], dim=1).long()
        position, own = torch.arange(steps + tokens.shape[1], device=tokens.device), counts.to(tokens.device)[:, None]
        index = torch.where(position < own, position, (position - own + steps).clamp(max=len(position) - 1))
        return self.backbone.get_input_embeddings()(tokens), index


def _lay_out(thoughts: Tensor, after: Tensor, index: Tensor) -> Tensor:
    """Thoughts (R, T, width) and what follows (R, A, width), without gaps: row r holds at j what stands at index[r, j]."""
    return torch.cat([thoughts, after], dim=1).gather(1, index[..., None].expand(-1, -1, thoughts.shape[-1]))


def _at(hidden: Tensor, positions: Tensor) -> Tensor:
    """Hidden states (R, L, width) at one position of each row (R,) -> (R, width)."""
    return hidden.gather(1, positions[:, None, None].expand(-1, 1, hidden.shape[-1]))[:, 0]


def thought_mask(counts: Tensor, steps: int) -> Tensor:
    """Counts (...) -> (..., T) float, 1 on thoughts that a trajectory has."""
    return (torch.arange(steps, device=counts.device) < counts[..., None]).float()
