"""What is read in one padded batch equals each row read alone."""

import torch
from torch import Tensor

from lightning_ltts.data.word_problems import WordProblems
from lightning_ltts.models.latent_lm import LatentReasoner
from lightning_ltts.training.sequences import IGNORED, Encoded, GivenThoughts, think

PROMPTS = [[7, 8, 9, 10], [11, 12], [13]]
TEXTS = [[20, 21, 1], [22, 1], [23, 24, 25, 1]]


def plain(reasoner: LatentReasoner, inputs: Tensor) -> Tensor:
    """Hidden states (L, d) of one sequence (L, d), read without cache and padding."""
    return reasoner.backbone.base_model(inputs_embeds=inputs[None]).last_hidden_state[0]


def embedded(reasoner: LatentReasoner, ids: list[int]) -> Tensor:
    return reasoner.embed(torch.tensor(ids))


@torch.no_grad()
def test_text_of_a_problem(gpt2: LatentReasoner) -> None:
    (problem,) = WordProblems("train", 1).load()
    encoded = Encoded(problem, gpt2)
    first, *others = encoded.steps
    assert encoded.text() == [
        *first,
        *(token for step in others for token in step),
        *encoded.answer,
    ]
    assert encoded.text(len(encoded.steps)) == encoded.answer
    assert encoded.text(last=-1)[-len(encoded.answer) :] == encoded.answer
    assert len(encoded.text(last=-1)) == len(encoded.text()) - len(encoded.steps[-1])


@torch.no_grad()
def test_thinking_and_writing(reasoner: LatentReasoner) -> None:
    for steps in (0, 2):
        after = think(reasoner, PROMPTS, TEXTS, steps)
        pending = 1 if steps else 4  # the last thought, or else the whole padded prompt
        assert after.inputs.shape == (3, pending + 4, 32)
        assert after.positions[:, -1].tolist() == [len(prompt) + steps + 3 for prompt in PROMPTS]
        assert after.mask.sum(1).tolist() == [len(prompt) + steps + 4 for prompt in PROMPTS]
        assert after.labels.tolist()[1] == [22, 1, IGNORED, IGNORED]
        hidden = reasoner.read(after.inputs, after.positions, after.cache, after.mask)
        losses = []
        for row, (prompt, text) in enumerate(zip(PROMPTS, TEXTS, strict=True)):
            sequence = embedded(reasoner, prompt)
            for _ in range(steps):
                sequence = torch.cat([sequence, plain(reasoner, sequence)[-1:]])
            tail = embedded(reasoner, [reasoner.end_id, *text[:-1]])
            expected = plain(reasoner, torch.cat([sequence, tail]))[-len(text) :]
            found = hidden[row, -4:][: len(text)]
            assert torch.allclose(found, expected, atol=1e-4)
            chances = reasoner.logits(expected).log_softmax(-1)
            losses += (-chances[torch.arange(len(text)), text]).tolist()
        mean = torch.tensor(losses).mean()
        assert torch.allclose(after.loss(reasoner, hidden), mean, rtol=1e-4)


@torch.no_grad()
def test_thoughts_that_are_given(reasoner: LatentReasoner) -> None:
    torch.manual_seed(0)
    counts, thoughts = torch.tensor([2, 3, 0]), torch.randn(3, 3, 32)
    rows = GivenThoughts(reasoner, PROMPTS, thoughts, counts, TEXTS)
    hidden = rows.read()
    assert rows.before_thought.sum(1).tolist() == counts.tolist()
    for row, (prompt, text) in enumerate(zip(PROMPTS, TEXTS, strict=True)):
        own = thoughts[row, : counts[row]]
        parts = [embedded(reasoner, prompt), own, embedded(reasoner, text)]
        sequence = torch.cat(parts)
        assert torch.allclose(hidden[row, -len(sequence) :], plain(reasoner, sequence), atol=1e-4)
        assert torch.equal(rows.next_thoughts[row][rows.before_thought[row]], own)
        if len(own):
            first = int(rows.before_thought[row].nonzero()[0])
            assert first == hidden.shape[1] - len(sequence) + len(prompt) - 1
