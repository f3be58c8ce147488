"""Reading thoughts out as text with the decoder that step supervision trained."""

from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from lightning_ltts.data.word_problems import WordProblems
from lightning_ltts.errors import CheckpointError
from lightning_ltts.models.checkpoints import ENTRY, describe
from lightning_ltts.models.latent_lm import LatentReasoner
from lightning_ltts.models.step_decoder import PREFIX, StepDecoder, load_step_decoder
from lightning_ltts.training.sequences import Encoded
from lightning_ltts.training.step_supervision import step_loss
from tests.tiny import make_reasoner


def save(decoder: StepDecoder, reasoner: LatentReasoner, path: Path) -> Path:
    weights = {f"{PREFIX}{key}": tensor for key, tensor in decoder.state_dict().items()}
    entry = describe("reasoner", reasoner) | {"step_decoder": decoder.settings()}
    torch.save({"state_dict": weights, ENTRY: entry}, path)
    return path


@pytest.mark.slow
def test_it_reads_the_steps_that_it_has_learned(gpt2: LatentReasoner, tmp_path: Path) -> None:
    """Thoughts of two problems, c = 2, until the decoder knows them by heart; the others are not read."""
    torch.manual_seed(0)
    problems = WordProblems("train", 2).load()
    encoded = [Encoded(problem, gpt2) for problem in problems]
    decoder, thoughts = StepDecoder(gpt2, 2, end_steps=True).train(), torch.randn(2, 5, 32)
    optimizer = torch.optim.AdamW(decoder.parameters(), 3e-3)
    for _ in range(150):
        optimizer.zero_grad()
        loss = step_loss(decoder, encoded, thoughts)
        loss.backward()
        optimizer.step()
        if loss < 0.02:
            break
    decoder = load_step_decoder(save(decoder, gpt2, tmp_path / "last.ckpt"), gpt2)
    assert not decoder.training
    for problem, some in zip(problems, thoughts, strict=True):
        read = decoder.read(some, gpt2)
        steps = [gpt2.decode(step).strip() for step in Encoded(problem, gpt2).steps]
        assert len(read) == 2  # of five thoughts, the last stands for no whole step
        assert read[: len(steps)] == steps[:2]
        assert not any("\n" in text for text in read)
    assert decoder.read(thoughts[0, :1], gpt2) == []


def test_an_untrained_decoder_comes_to_an_end(gpt2: LatentReasoner) -> None:
    texts = StepDecoder(gpt2).eval().read(torch.randn(3, 32), gpt2)
    assert len(texts) == 3


def test_what_is_no_step_decoder(
    gpt2: LatentReasoner, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    torch.save({"state_dict": {}, ENTRY: describe("reasoner", gpt2)}, tmp_path / "without.ckpt")
    with pytest.raises(CheckpointError, match="step_factor above 0"):
        load_step_decoder(tmp_path / "without.ckpt", gpt2)
    llama = make_reasoner("llama", tokenizer)
    path = save(StepDecoder(llama, 1, True), llama, tmp_path / "llama.ckpt")
    with pytest.raises(CheckpointError, match="does not fit the reasoner"):
        load_step_decoder(path, gpt2)
    path = save(StepDecoder(gpt2), gpt2, tmp_path / "endless.ckpt")
    with pytest.raises(CheckpointError, match=r"train with model\.init_args\.end_steps=true"):
        load_step_decoder(path, gpt2)
