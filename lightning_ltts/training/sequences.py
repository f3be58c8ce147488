"""The sequences that COCONUT, CODI and CoLaR train on.

COCONUT and CODI make one thought after the other, each from the last hidden state, and then read the
text that follows in one pass (`think`). CoLaR is given its thoughts as vectors and reads prompt,
thoughts and text in one pass (`GivenThoughts`).
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache

from lightning_ltts.data.problems import Problem
from lightning_ltts.data.tokenization import encode_template, encode_text
from lightning_ltts.models.latent_lm import LatentReasoner, left_pad, position_ids
from lightning_ltts.training.perturbation import Perturbation, unperturbed

IGNORED = -100  # the label of a position that `cross_entropy` leaves out


class Encoded:
    """Token ids of a problem's parts.

    Attributes:
        prompt: the question in its template, start token included.
        steps: the steps of the explicit solution, each with its line break.
        marker: the mark that the answer follows.
        answer: marker, answer and end of sequence.
    """

    def __init__(self, problem: Problem, reasoner: LatentReasoner):
        def encode(text: str) -> list[int]:
            return encode_text(reasoner.tokenizer, text, problem.source)

        self.prompt = reasoner.encode_prompt(problem.question, problem.source)
        self.steps = [encode(f"{step}\n") for step in problem.steps]
        self.marker = encode_template(reasoner.tokenizer, reasoner.spec.answer_marker)
        self.answer = [*self.marker, *encode(f" {problem.answer}"), reasoner.eos_id]

    def text(self, first: int = 0, last: int | None = None) -> list[int]:
        """The steps from number `first` to before `last` (by default all to the end), and the answer."""
        steps = self.steps[first:last]
        return [*(token for step in steps for token in step), *self.answer]


@dataclass(frozen=True)
class AfterThoughts:
    """A batch of B rows that have thought, with the text that is read next.

    Attributes:
        inputs: (B, L, d) what is not read yet: the last thought (the whole prompt, where there are
            no thoughts), the end token, and the text without its last token.
        positions: (B, L) position ids of the inputs.
        mask: (B, M) 1 on real positions, over what is in the cache and the inputs.
        cache: keys and values of what is read.
        labels: (B, W) the text's tokens, `IGNORED` beyond a row's own. The last W positions of the
            inputs predict them.
        thoughts: (B, T, d) the thoughts, as they were read on from.
        perturbation: what passes and thoughts are perturbed by.
    """

    inputs: Tensor
    positions: Tensor
    mask: Tensor
    cache: DynamicCache
    labels: Tensor
    thoughts: Tensor
    perturbation: Perturbation

    def reading(self, reasoner: LatentReasoner) -> AbstractContextManager[None]:
        """Surrounds the pass over the inputs: an answer's, where there are thoughts before it."""
        if not self.thoughts.shape[1]:
            return nullcontext()
        return self.perturbation.reading(reasoner, 0, "answer")

    def loss(self, reasoner: LatentReasoner, hidden: Tensor) -> Tensor:
        """Mean cross-entropy of the text, given the hidden states (B, L, d) of the inputs."""
        logits = reasoner.logits(hidden[:, -self.labels.shape[1] :])
        return F.cross_entropy(logits.flatten(0, 1).float(), self.labels.flatten())


def think(
    reasoner: LatentReasoner,
    prompts: Sequence[Sequence[int]],
    texts: Sequence[Sequence[int]],
    num_thoughts: int,
    perturbation: Perturbation | None = None,
    copies: int = 1,
) -> AfterThoughts:
    """Reads prompts and thinks, with gradients through all thoughts.

    Prompts are padded on the left, so that the thoughts of a batch are aligned; texts on the right.

    Args:
        reasoner: the model in training.
        prompts: token ids of the prompts.
        texts: token ids of what each of B rows writes after its thoughts, end of sequence included.
        num_thoughts: T, thoughts of every row.
        perturbation: what passes and thoughts are perturbed by; nothing by default.
        copies: rows of each prompt, one after the other. They share the reading of it, unless it is
            perturbed.
    """
    device = reasoner.device
    sampled = perturbation or unperturbed(torch.arange(len(texts), device=device))
    shared = copies > 1 and not sampled.sampler.perturbs_prompt
    if not shared:
        prompts = [prompt for prompt in prompts for _ in range(copies)]
    ids, mask = (x.to(device) for x in left_pad(prompts, reasoner.pad_id))
    inputs, cache = reasoner.embed(ids), DynamicCache(config=reasoner.backbone.config)
    positions, made = position_ids(mask), list[Tensor]()
    apart = shared or (num_thoughts and sampled.sampler.perturbs_forward)
    if apart and inputs.shape[1] > 1:
        # the prompt's last token is read with the first thought, as when passes are perturbed
        with sampled.reading(reasoner, -1, "prompt"):
            reasoner.read(inputs[:, :-1], positions[:, :-1], cache, mask[:, :-1])
        inputs, positions = inputs[:, -1:], positions[:, -1:]
    if shared:
        cache.batch_repeat_interleave(copies)
        rows = (inputs, positions, mask)
        inputs, positions, mask = (x.repeat_interleave(copies, 0) for x in rows)
    for step in range(num_thoughts):
        with sampled.reading(reasoner, step, "thought"):
            hidden = reasoner.read(inputs, positions, cache, mask)
        inputs = sampled.thought(reasoner, hidden[:, -1], step)
        made.append(inputs)
        positions = positions[:, -1:] + 1
        mask = F.pad(mask, (0, 1), value=1)
    labels = _right_pad(texts, IGNORED).to(device)
    shifted = [[reasoner.end_id, *text[:-1]] for text in texts]
    written = reasoner.embed(_right_pad(shifted, reasoner.pad_id).to(device))
    width = labels.shape[1]
    following = positions[:, -1:] + torch.arange(1, width + 1, device=device)
    return AfterThoughts(
        torch.cat([inputs, written.to(inputs.dtype)], dim=1),
        torch.cat([positions, following], dim=1),
        F.pad(mask, (0, width), value=1),
        cache,
        labels,
        torch.cat(made, dim=1) if made else inputs[:, :0],
        sampled,
    )


class GivenThoughts:
    """Rows of prompt, thoughts and text whose thoughts are given, for one pass over all of it.

    Rows are padded on the left to a common length L. `thoughts` are the targets; what is read in
    their place is perturbed where a perturbation is given.

    Args:
        reasoner: the model in training.
        prompts: token ids of B prompts.
        thoughts: (B, T, d) the thoughts, on the reasoner's device.
        counts: (B,) how many of them each row has.
        texts: token ids of what each row reads after its thoughts, from the end token on.
        perturbation: what passes and the thoughts that are read are perturbed by.
    """

    def __init__(
        self,
        reasoner: LatentReasoner,
        prompts: Sequence[Sequence[int]],
        thoughts: Tensor,
        counts: Tensor,
        texts: Sequence[Sequence[int]],
        perturbation: Perturbation | None = None,
    ):
        self.reasoner, self.thoughts, self.perturbation = reasoner, thoughts, perturbation
        # thoughts are written as padding here, and put in when the rows are read
        rows = [
            [*prompt, *[reasoner.pad_id] * count, *text]
            for prompt, count, text in zip(prompts, counts.tolist(), texts, strict=True)
        ]
        self.ids, self.mask = (x.to(thoughts.device) for x in left_pad(rows, reasoner.pad_id))
        length = self.ids.shape[1]
        first = [length - len(row) + len(prompt) for row, prompt in zip(rows, prompts, strict=True)]
        place = torch.arange(length, device=thoughts.device)
        # (B, L): number of the thought that a position holds; below 0 or above the count for none
        self.number = place - torch.tensor(first, device=thoughts.device)[:, None]
        self.counts = counts[:, None]

    @property
    def before_thought(self) -> Tensor:
        """(B, L) bool: positions after which a thought comes."""
        return (self.number >= -1) & (self.number < self.counts - 1)

    @property
    def next_thoughts(self) -> Tensor:
        """(B, L, d): the thought after each position, where there is one."""
        return self._thoughts_at(self.thoughts, self.number + 1)

    def read(self) -> Tensor:
        """Hidden states (B, L, d) of all positions after the final norm."""
        embedded = self.reasoner.embed(self.ids)
        is_thought = (self.number >= 0) & (self.number < self.counts)
        sampled = self.perturbation or unperturbed(self.counts[:, 0])
        thoughts = self._thoughts_at(sampled.given(self.thoughts), self.number)
        with sampled.reading(self.reasoner, 0, "thought"):
            result: Tensor = self.reasoner.backbone.base_model(
                inputs_embeds=torch.where(
                    is_thought[..., None], thoughts.to(embedded.dtype), embedded
                ),
                position_ids=position_ids(self.mask),
                attention_mask=self.mask,
                use_cache=False,
            ).last_hidden_state
        return result

    def _thoughts_at(self, thoughts: Tensor, number: Tensor) -> Tensor:
        """Of thoughts (B, T, d) those numbered (B, L) -> (B, L, d); any where there is none."""
        index = number.clamp(0, thoughts.shape[1] - 1)[..., None]
        return thoughts.gather(1, index.expand(-1, -1, thoughts.shape[-1]))


def written_answers(answer_ids: Tensor, pad_id: int) -> list[list[int]]:
    """Answers (R, A) as they are decoded -> the token ids of each, without padding."""
    return [ids[ids != pad_id].tolist() for ids in answer_ids]


def _right_pad(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    """Lists of numbers -> (B, L), padded on the right."""
    return pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=value)
