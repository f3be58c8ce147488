"""LatentRM: a scalar score for every thought of a trajectory (arXiv 2510.07745, section 4)."""

from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModel, DynamicCache, PreTrainedModel

from lightning_ltts.data.ranges import require_whole
from lightning_ltts.errors import ConfigError
from lightning_ltts.models.backbone_checks import MAX_LAYERS
from lightning_ltts.models.cost import Cost, CostMeter, flops_per_position
from lightning_ltts.models.hub import HubModel
from lightning_ltts.models.latent_lm import (
    LatentReasoner,
    align_left,
    canonical,
    deeper_config,
    fingerprint,
    make_config,
    position_ids,
    random_weights,
)
from lightning_ltts.models.latent_rm_spec import LatentRMSpec
from lightning_ltts.models.positions import at, lay_out
from lightning_ltts.models.rm_state import RMState
from lightning_ltts.models.scores import Scores
from lightning_ltts.models.shared_prefix import IMPLEMENTATION, RowLayout, SharedPrefixCache
from lightning_ltts.models.thought_heads import CodiHead
from lightning_ltts.models.trajectories import Trajectories


class LatentRM(HubModel):
    """r_t = g(x, h_1..h_t): a causal backbone over prompt and thoughts, and a scalar head on each.

    A thought's score never depends on what follows. Beyond the paper, it can read the reasoner's
    greedy trajectory right after the prompt, once per question (`reference`), and give a score of
    the decoded answer (`reads_answer`).

    Args:
        spec: what the model is.
        backbone: body without vocabulary head; by default one with random weights.
    """

    kind = "latent_rm"

    def __init__(self, spec: LatentRMSpec, backbone: PreTrainedModel | None = None):
        super().__init__()
        if backbone is None:
            backbone = random_weights(AutoModel, make_config(spec.backbone))
        self.backbone = backbone
        self.backbone.set_attn_implementation(IMPLEMENTATION)
        self.spec = replace(spec, backbone=canonical(self.backbone.config))
        width = self.backbone.config.hidden_size
        same = width == spec.thought_size
        self.input_projection = nn.Identity() if same else nn.Linear(spec.thought_size, width)
        self.noise_projection = None
        if spec.noise_free:  # of what the sampler added; 0 at first, as if the thought were all
            self.noise_projection = nn.Linear(spec.thought_size, width, bias=False)
            nn.init.zeros_(self.noise_projection.weight)
        options = spec.thought_head
        self.thought_head = nn.Identity() if options is None else CodiHead(width, **options)
        self.score_head = nn.Linear(width, 1)
        self.answer_head = nn.Linear(width, 1) if spec.reads_answer else None
        # what tells the reference from the trajectory that is scored; both have the same positions
        self.reference_mark = nn.Parameter(torch.zeros(width)) if spec.reference else None
        for head in (self.score_head, self.answer_head):
            if head is not None:
                nn.init.normal_(head.weight, std=0.02)
                nn.init.zeros_(head.bias)
        self._meter = CostMeter()

    def counting(self) -> AbstractContextManager[Cost]:
        """Counts what is read in a `with` block. Blocks can be nested; each counts all in it."""
        return self._meter.counting()

    @classmethod
    def from_reasoner(
        cls,
        reasoner: LatentReasoner,
        extra_layers: int = 0,
        backbone: dict[str, Any] | None = None,
        reference: bool = False,
        reads_answer: bool = False,
        noise_free: bool = False,
        answer_likelihood: bool = False,
    ) -> "LatentRM":
        """A LatentRM for a reasoner's thoughts whose backbone starts from the reasoner's weights.

        The body can be deeper than the reasoner's: to judge a thought it has to make it anew and
        then compare. The extra layers start as the identity (their output projections are 0), so
        that training starts from what the reasoner knows.

        Args:
            reasoner: the one whose thoughts are to be scored.
            extra_layers: layers on top of the reasoner's.
            backbone: instead, a Hugging Face configuration of any supported family and size; the
                body starts from random weights, over the reasoner's vocabulary, and thoughts of
                another size are projected.
            reference: whether it reads the reasoner's greedy trajectory, too.
            reads_answer: whether it also scores the decoded answer.
            noise_free: whether it also reads thoughts as they were before noise.
            answer_likelihood: whether an answer's score includes its log-probability, for a
                LatentRM that learns to predict right answers.

        Raises:
            ConfigError: `extra_layers` is out of range, or given together with `backbone`.
        """
        require_whole("the LatentRM", "extra_layers", extra_layers, 0, MAX_LAYERS)
        options: dict[str, Any] = {
            "reasoner": fingerprint(reasoner),
            "reference": reference,
            "reads_answer": reads_answer,
            "noise_free": noise_free,
            "answer_likelihood": answer_likelihood,
            "end_id": reasoner.end_id,
            "pad_id": reasoner.pad_id,
        }
        if backbone is not None:
            if extra_layers:
                raise ConfigError(
                    "extra_layers are for the reasoner's own backbone; set the number of layers in backbone"
                )
            own = {**backbone, "vocab_size": reasoner.backbone.config.vocab_size}
            return cls(LatentRMSpec(own, reasoner.hidden_size, **options))
        config = deeper_config(reasoner.backbone.config, extra_layers)
        model = cls(LatentRMSpec(config.to_dict(), reasoner.hidden_size, **options))
        model._start_from(reasoner, extra_layers)
        return model

    def _start_from(self, reasoner: LatentReasoner, extra_layers: int) -> None:
        """Takes the reasoner's weights; layers beyond its own change nothing at first."""
        body, layers = reasoner.backbone.base_model, reasoner.backbone.config.num_hidden_layers
        self.backbone.to(dtype=body.dtype)  # type: ignore[call-arg]  # hidden by a decorator
        unmatched = self.backbone.load_state_dict(body.state_dict(), strict=False)
        blocks = reasoner.family.blocks
        added = tuple(f"{blocks}.{layer}." for layer in range(layers, layers + extra_layers))
        assert not unmatched.unexpected_keys
        assert all(key.startswith(added) for key in unmatched.missing_keys)
        for block in list(self.backbone.get_submodule(blocks).children())[layers:]:
            for site in ("attention_output", "mlp_output"):
                for parameter in block.get_submodule(reasoner.family.sites[site]).parameters():
                    nn.init.zeros_(parameter)

    def start(
        self, input_ids: Tensor, attention_mask: Tensor, reference: Trajectories | None = None
    ) -> RMState:
        """Reads prompts (Q, L), padded on any side, and their reference where it is of use.

        Args:
            input_ids: (Q, L) prompts.
            attention_mask: (Q, L).
            reference: the greedy trajectories (N = 1) of the questions.

        Returns one row per question.

        Raises:
            ConfigError: this LatentRM compares with a reference, and none or several are given.
        """
        input_ids, attention_mask = align_left(input_ids, attention_mask)
        mask, inputs = attention_mask, self.backbone.get_input_embeddings()(input_ids)
        if self.reference_mark is not None:
            reference_inputs, has_input = self._reference_inputs(reference)
            inputs = torch.cat([inputs, reference_inputs.to(inputs.dtype)], dim=1)
            mask = torch.cat([mask, has_input.to(mask.dtype)], dim=1)
        self._count(mask.numel(), mask.sum())
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

    def extend(
        self, state: RMState, thoughts: Tensor, clean_thoughts: Tensor | None = None
    ) -> tuple[Tensor, RMState]:
        """Reads the next thoughts (R, L, d) of every row: their scores (R, L), and the new state.

        Scores are raw logits. `clean_thoughts` (R, L, d) are the thoughts before noise, for a
        LatentRM that reads them. The given state must not be used again, except through a `take`
        made before.
        """
        hidden, state = self._read(state, self._thought_inputs(thoughts, clean_thoughts))
        self._count(hidden.shape[:2].numel(), hidden.shape[:2].numel())
        return self._value(self.score_head, hidden), state

    def score_answers(self, state: RMState, answer_ids: Tensor) -> Tensor:
        """Reads the padded answers (R, A) of rows that have all their thoughts.

        Returns scores (R,), raw logits.
        """
        assert self.answer_head is not None, "only a LatentRM that reads answers"
        counts = torch.zeros(len(answer_ids), dtype=torch.int64, device=answer_ids.device)
        inputs, _ = self._answer_inputs(answer_ids, counts, 0)
        hidden, _ = self._read(state, inputs)
        last = self._lengths(answer_ids, counts) - 1
        self._count(hidden.shape[:2].numel(), (last + 1).sum())
        scores = self._value(self.answer_head, at(hidden, last))
        likelihood = self._likelihood(hidden[:, :-1], answer_ids[:, : hidden.shape[1] - 1])
        return scores if likelihood is None else scores + likelihood

    def judge(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        trajectories: Trajectories,
        reference: Trajectories | None = None,
        prompt_state: RMState | None = None,
    ) -> Scores:
        """Scores of whole trajectories: of every thought, and of the answer where that is read.

        Args:
            input_ids: (Q, L) prompts, padded on any side.
            attention_mask: (Q, L).
            trajectories: (Q, N, ...); beyond a trajectory's own thoughts, step scores are 0.
            reference: the greedy trajectories (N = 1), for a LatentRM that compares with them.
            prompt_state: what `start` has made of these prompts and their reference, where they
                have been read already; it can be used again.

        Raises:
            ConfigError: this LatentRM needs a reference, answers or thoughts before noise, and
                they are not given.
        """
        if self.answer_head is not None and not trajectories.answer_ids.shape[-1]:
            raise ConfigError(
                "this LatentRM reads answers; give trajectories with their answer_ids, for "
                "instance all of rollouts instead of rollouts.thoughts"
            )
        return self._judge(input_ids, attention_mask, trajectories, reference, prompt_state)

    def score(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        thoughts: Tensor | Trajectories,
        reference: Trajectories | None = None,
        prompt_state: RMState | None = None,
    ) -> Tensor:
        """The step scores (Q, N, T) of `judge`, raw logits r_t, for which no answer is needed.

        `thoughts` are those of all trajectories, (Q, N, T, d), or the trajectories themselves,
        which also say how many thoughts each has and, for a LatentRM that reads it, what they were
        before noise. The other arguments are those of `judge`.
        """
        given = thoughts if isinstance(thoughts, Trajectories) else Trajectories.of(thoughts)
        unanswered = replace(given, answer_ids=given.answer_ids[..., :0])
        return self._judge(input_ids, attention_mask, unanswered, reference, prompt_state).steps

    def _judge(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        trajectories: Trajectories,
        reference: Trajectories | None,
        prompt_state: RMState | None,
    ) -> Scores:
        """`judge`, without scores of answers where the trajectories have none."""
        thoughts, counts = trajectories.thoughts, trajectories.thought_counts
        questions, samples, steps = shape = thoughts.shape[:3]
        answers, longest = trajectories.answer_ids.flatten(0, 1), int(counts.max())
        reads_answers = self.answer_head is not None and answers.shape[1] > 0
        if longest == 0 and not reads_answers:
            # with a gradient, so that training can go through a batch without thoughts
            none = thoughts.new_zeros(shape, dtype=torch.float32)
            return Scores(none + 0 * self.score_head.weight.sum())
        if prompt_state is None:
            prompt_state = self.start(input_ids, attention_mask, reference)
        state = prompt_state.take(torch.arange(questions).repeat_interleave(samples))
        rows = trajectories.map(lambda x: x.flatten(0, 1))
        clean = None if rows.clean_thoughts is None else rows.clean_thoughts[:, :longest]
        inputs = self._thought_inputs(rows.thoughts[:, :longest], clean)
        if reads_answers:
            after, index = self._answer_inputs(answers, rows.thought_counts, longest)
            inputs = lay_out(inputs, after.to(inputs.dtype), index)
        hidden, _ = self._read(state, inputs)
        scores = F.pad(self._value(self.score_head, hidden[:, :longest]), (0, steps - longest))
        scores = scores.view(shape) * trajectories.thought_mask
        if self.answer_head is None or not reads_answers:
            self._count(hidden.shape[:2].numel(), counts.sum())
            return Scores(scores)
        last = self._lengths(answers, rows.thought_counts) - 1
        self._count(hidden.shape[:2].numel(), (last + 1).sum())
        answer_scores = self._value(self.answer_head, at(hidden, last))
        ahead = torch.arange(answers.shape[1], device=last.device)
        before = rows.thought_counts.to(last.device)[:, None] + ahead
        # beyond the longest answer there is nothing to read, and nothing that anyone asks for
        states = at(hidden, before.clamp(max=hidden.shape[1] - 1))
        likelihood = self._likelihood(states, answers)
        return Scores(
            scores,
            answer_scores.view(shape[:2]),
            states.view(*shape[:2], *states.shape[1:]),
            None if likelihood is None else likelihood.view(shape[:2]),
        )

    @torch.no_grad()
    def _likelihood(self, states: Tensor, answer_ids: Tensor) -> Tensor | None:
        """Log-probability (R,) of answers (R, A), from the states (R, A, width) before each token.

        None for a LatentRM whose scores do not include it. It teaches nothing: what predicts answers
        is trained on the right ones.
        """
        if not self.spec.answer_likelihood:
            return None
        embedding = self.backbone.get_input_embeddings().get_parameter("weight")
        if self._meter.is_counting:
            self._meter.add(0, 0, 2 * states.shape[:2].numel() * embedding.numel())
        chances = self.token_logits(states).float().log_softmax(-1)
        log_probs = chances.gather(-1, answer_ids[..., None].long()).squeeze(-1)
        return (log_probs * (answer_ids != self.spec.pad_id)).sum(-1)

    def token_logits(self, states: Tensor) -> Tensor:
        """Hidden states (..., width) -> logits (..., V) of the token that follows.

        They are read by the embedding, as in a model that ties it to its vocabulary head.
        """
        embedding = self.backbone.get_input_embeddings().get_parameter("weight")
        return F.linear(states, embedding.to(states.dtype))

    def _reference_inputs(self, reference: Trajectories | None) -> tuple[Tensor, Tensor]:
        """Greedy trajectories -> inputs (Q, P, width), and which of these positions there are."""
        if reference is None or reference.thoughts.shape[1] != 1:
            raise ConfigError(
                "this LatentRM compares trajectories with the greedy one; give "
                "reference=RolloutEngine(reasoner).rollout(input_ids, attention_mask), one "
                "trajectory of each question"
            )
        assert self.reference_mark is not None, "only a LatentRM that compares"
        greedy = reference.map(lambda x: x[:, 0])
        steps = greedy.thoughts.shape[1]
        after, index = self._answer_inputs(greedy.answer_ids, greedy.thought_counts, steps)
        before = self._thought_inputs(greedy.thoughts, greedy.thoughts)
        inputs = lay_out(before, after, index) + self.reference_mark
        lengths = self._lengths(greedy.answer_ids, greedy.thought_counts)
        positions = torch.arange(inputs.shape[1], device=lengths.device)
        return inputs, positions < lengths[:, None]

    def _thought_inputs(self, thoughts: Tensor, clean_thoughts: Tensor | None) -> Tensor:
        """Thoughts (R, L, d), and the same before noise -> inputs (R, L, width)."""
        inputs: Tensor = self.input_projection(thoughts.to(self.backbone.dtype))
        if self.noise_projection is None:
            return inputs
        if clean_thoughts is None or clean_thoughts.shape != thoughts.shape:
            raise ConfigError(
                "this LatentRM also reads thoughts as they were before noise; give trajectories "
                "with clean_thoughts, as a rollout has them, and for training mine with "
                "data.init_args.keep_clean=true"
            )
        result: Tensor = inputs + self.noise_projection(
            (thoughts - clean_thoughts).to(self.backbone.dtype)
        )
        return result

    def _read(self, state: RMState, inputs: Tensor) -> tuple[Tensor, RMState]:
        """One pass over inputs (R, L, width) at the rows' positions: hidden states, float32."""
        positions = state.positions[:, None] + torch.arange(inputs.shape[1], device=inputs.device)
        hidden = self.backbone(
            inputs_embeds=inputs,
            position_ids=positions,
            past_key_values=state.cache,
            use_cache=True,
        ).last_hidden_state
        return hidden, RMState(state.cache, state.positions + inputs.shape[1])

    def _count(self, token_forwards: int, tree_nodes: int | Tensor) -> None:
        """Counts a pass, where anyone asks: a number on the device has to be waited for."""
        if self._meter.is_counting:
            flops = token_forwards * flops_per_position(self.backbone)
            self._meter.add(token_forwards, int(tree_nodes), flops)

    def _value(self, head: nn.Linear, hidden: Tensor) -> Tensor:
        """Hidden states (..., width) -> scores (...)."""
        # scores are summed and compared: not in half precision
        with torch.autocast(hidden.device.type, enabled=False):
            hidden = self.thought_head(hidden).float()
            return F.linear(hidden, head.weight.float(), head.bias.float()).squeeze(-1)

    def _lengths(self, answer_ids: Tensor, counts: Tensor) -> Tensor:
        """Positions (R,) of trajectories: thoughts, end token and answer (R, A) without padding."""
        return counts.to(answer_ids.device) + 1 + (answer_ids != self.spec.pad_id).sum(-1)

    def _answer_inputs(
        self, answer_ids: Tensor, counts: Tensor, steps: int
    ) -> tuple[Tensor, Tensor]:
        """Embedded end token and answers (R, 1 + A, width), and the index for `_lay_out`."""
        longest = int((answer_ids != self.spec.pad_id).sum(-1).max()) if answer_ids.numel() else 0
        end = answer_ids.new_full((len(answer_ids), 1), self.spec.end_id)
        tokens = torch.cat([end, answer_ids[:, :longest]], dim=1).long()
        position = torch.arange(steps + tokens.shape[1], device=tokens.device)
        own = counts.to(tokens.device)[:, None]
        beyond = (position - own + steps).clamp(max=len(position) - 1)
        index = torch.where(position < own, position, beyond)
        return self.backbone.get_input_embeddings()(tokens), index
