"""Tiny random models on the CPU, shared by all tests."""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from hydra._internal.hydra import Hydra
from transformers import PreTrainedTokenizerFast

from lightning_ltts.data.graph_problems import GraphProblems
from lightning_ltts.data.problems import Problem
from lightning_ltts.data.tokenization import WordTokenizer
from lightning_ltts.data.word_problems import WordProblems
from lightning_ltts.models.latent_lm import LatentReasoner, left_pad, new_reasoner
from lightning_ltts.models.latent_rm import LatentRM
from lightning_ltts.sampling import LearnedNoise
from lightning_ltts.sampling.learned_noise import NoiseHead
from tests.helpers import save_latent_rm, save_reasoner

torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"  # for the processes that tests start

_LLAMA = {
    "num_hidden_layers": 2,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
BACKBONES = {
    "gpt2": {"model_type": "gpt2", "n_layer": 2, "n_embd": 32, "n_head": 4, "n_positions": 64},
    "llama": {"model_type": "llama", **_LLAMA},
    "qwen2": {"model_type": "qwen2", **_LLAMA},
    "qwen3": {"model_type": "qwen3", **_LLAMA, "head_dim": 8},
}


@pytest.fixture(scope="session", autouse=True)
def composed_once() -> Iterator[None]:
    """Commands in this process compose their configuration once, which is a fifth of their time.

    Hydra does so twice: the first time it only asks for `hydra.mode`, and goes by `-m` where that is
    not set. None of our files sets it. Commands that tests start as processes ask as ever.
    """
    ask = Hydra.get_mode

    def mode(self: Hydra, config_name: str | None, overrides: list[str]) -> object:
        asked = any("hydra.mode" in override for override in overrides)
        return ask(self, config_name, overrides) if asked else None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Hydra, "get_mode", mode)
        yield


@pytest.fixture(scope="session", autouse=True)
def drawn_once() -> Iterator[None]:
    """Built-in problems are drawn once in a process; many commands here have the same defaults."""
    kept: dict[str, list[Problem]] = {}

    def keeping(load: Callable[[Any], list[Problem]]) -> Callable[[Any], list[Problem]]:
        def kept_or_drawn(source: Any) -> list[Problem]:
            key = f"{type(source).__qualname__} {sorted(vars(source).items())}"
            if key not in kept:
                kept[key] = load(source)
            return [*kept[key]]

        return kept_or_drawn

    with pytest.MonkeyPatch.context() as patch:
        for source in (WordProblems, GraphProblems):
            patch.setattr(source, "load", keeping(source.load))
        yield


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return WordTokenizer(20).build()


def make_reasoner(
    family: str,
    tokenizer: PreTrainedTokenizerFast,
    num_thoughts: int = 3,
    method: str = "coconut",
) -> LatentReasoner:
    """A random reasoner whose weights are large enough that its answers vary and end at different lengths."""
    torch.manual_seed(0)
    reasoner = new_reasoner(method, BACKBONES[family], tokenizer, num_thoughts, max_answer_tokens=5)
    with torch.no_grad():
        for parameter in reasoner.parameters():
            if parameter.ndim > 1:
                parameter.mul_(6)
        reasoner.backbone.get_output_embeddings().weight[reasoner.pad_id] = (
            0  # so that no answer holds it
        )
        reasoner.backbone.get_output_embeddings().weight[reasoner.eos_id] *= {"gpt2": 1.4}.get(
            family, 2.5
        )
    # random text has no "###", so that every number counts as an answer here
    reasoner.spec = replace(reasoner.spec, answer_marker="")
    return reasoner.eval()


@pytest.fixture(params=list(BACKBONES))
def reasoner(request: pytest.FixtureRequest, tokenizer: PreTrainedTokenizerFast) -> LatentReasoner:
    """A reasoner of each family."""
    return make_reasoner(request.param, tokenizer)


@pytest.fixture
def gpt2(tokenizer: PreTrainedTokenizerFast) -> LatentReasoner:
    return make_reasoner("gpt2", tokenizer)


@pytest.fixture
def latent_rm(gpt2: LatentReasoner) -> LatentRM:
    return make_latent_rm(gpt2)


def learned_noise(scale: float = 1.0) -> LearnedNoise:
    """A learned sampler whose mean and spread differ between thoughts, without a file to be kept."""
    with torch.random.fork_rng(devices=[]), TemporaryDirectory() as folder:
        torch.manual_seed(2)
        head, path = NoiseHead(32, hidden=8, std=0.5), Path(folder) / "head.safetensors"
        with torch.no_grad():
            head.mean.weight.normal_(std=0.1)
            head.log_std.weight.normal_(std=0.3)
        head.save(path)
        sampler = LearnedNoise(str(path), scale)
    sampler.path = "head.safetensors"  # the names of tests hold it, and must be the same each time
    return sampler


def make_latent_rm(reasoner: LatentReasoner) -> LatentRM:
    torch.manual_seed(1)
    return LatentRM.from_reasoner(reasoner).eval()


@pytest.fixture(scope="session")
def reasoner_file(
    tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A checkpoint of `gpt2`, to be read only."""
    return save_reasoner(
        make_reasoner("gpt2", tokenizer), tmp_path_factory.mktemp("tiny") / "reasoner.ckpt"
    )


@pytest.fixture(scope="session")
def latent_rm_file(
    tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A checkpoint of `latent_rm`, to be read only."""
    latent_rm = make_latent_rm(make_reasoner("gpt2", tokenizer))
    return save_latent_rm(latent_rm, tmp_path_factory.mktemp("tiny") / "latent_rm.ckpt")


@pytest.fixture(scope="session")
def problems() -> list:
    return WordProblems("test", size=12, seed=5).load()


@pytest.fixture
def prompts(gpt2: LatentReasoner, problems: list) -> tuple[torch.Tensor, torch.Tensor]:
    """(ids, mask) of prompts with different lengths, left padded."""
    rows = [gpt2.encode_prompt(problem.question) for problem in problems[:6]]
    return left_pad([row[i % 3 :] for i, row in enumerate(rows)], gpt2.pad_id)
