"""The sampler that a head steers: its draws, its file and what it is told apart by."""

from pathlib import Path

import pytest
import torch

from lightning_ltts.engine.rollout import RolloutEngine
from lightning_ltts.errors import ConfigError
from lightning_ltts.models.latent_lm import LatentReasoner, left_pad
from lightning_ltts.prediction.tuned import Tuned
from lightning_ltts.sampling import GaussianNoise, LearnedNoise
from lightning_ltts.sampling.learned_noise import NoiseHead

WIDTH = 32


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A head whose mean and spread differ between thoughts."""
    torch.manual_seed(0)
    head = NoiseHead(WIDTH, hidden=8, std=0.5)
    with torch.no_grad():
        head.mean.weight.normal_()
        head.log_std.weight.normal_(std=0.3)
    head.save(tmp_path / "new" / "head.safetensors")
    return tmp_path / "new" / "head.safetensors"


def test_untrained_it_is_gaussian_noise() -> None:
    """Under the same names it draws what `GaussianNoise` does."""
    mean, std = NoiseHead(WIDTH, std=0.5)(torch.randn(3, WIDTH))
    assert torch.equal(mean, torch.zeros(3, WIDTH))
    assert torch.allclose(std, torch.full((3, WIDTH), 0.5))


def test_draws_by_hand(path: Path) -> None:
    """Thought + mean + scale x spread x the noise of `GaussianNoise` with the same name."""
    thoughts, keys = torch.randn(3, WIDTH), torch.arange(3)
    mean, std = NoiseHead.load(path)(thoughts)
    noise = GaussianNoise(1.0).perturb(torch.zeros(3, WIDTH), keys=keys, step=1)
    made = LearnedNoise(str(path), scale=0.7).perturb(thoughts, keys=keys, step=1)
    assert torch.allclose(made, thoughts + mean + 0.7 * std * noise, atol=1e-6)
    assert not torch.allclose(std[0], std[1], atol=1e-3)
    half = LearnedNoise(str(path)).perturb(thoughts.bfloat16(), keys=keys, step=1)
    assert half.dtype == torch.bfloat16


def test_a_sampler_is_its_weights_and_not_its_place(path: Path, tmp_path: Path) -> None:
    here = LearnedNoise(str(path))
    moved = tmp_path / "moved.safetensors"
    moved.write_bytes(path.read_bytes())
    assert LearnedNoise(str(moved)).settings() == here.settings()
    assert LearnedNoise(str(path), scale=2.0).settings() != here.settings()
    other = NoiseHead.load(path)
    with torch.no_grad():
        other.mean.bias[0] += 1e-3
    other.save(moved)
    assert LearnedNoise(str(moved)).settings() != here.settings()
    assert "head.safetensors" not in str(here.settings())


def test_strength_and_tuning(path: Path, tmp_path: Path) -> None:
    """The file of `ltts tune` names the head's file, which no settings do."""
    Tuned(LearnedNoise(str(path)).scaled(0.5), {}).save(tmp_path / "tuned.yaml")
    again = Tuned.load(tmp_path / "tuned.yaml").majority_sampler
    assert isinstance(again, LearnedNoise)
    assert (again.scale, again.path) == (0.5, str(path))


def test_in_the_engine(gpt2: LatentReasoner, path: Path) -> None:
    ids, mask = left_pad([[7, 8, 9], [10, 11]], gpt2.pad_id)
    engine = RolloutEngine(gpt2, LearnedNoise(str(path)))
    together, alone = engine.rollout(ids, mask, 4), engine.rollout(ids[:1], mask[:1], 4)
    assert torch.allclose(together.thoughts[:1], alone.thoughts, atol=1e-5)
    assert together.thoughts[0, 0].ne(together.thoughts[0, 1]).any()


def test_what_is_refused(path: Path, tmp_path: Path, gpt2: LatentReasoner) -> None:
    with pytest.raises(ConfigError, match="does not exist; train one with"):
        LearnedNoise(str(tmp_path / "none.safetensors"))
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(path.read_bytes()[:50])
    with pytest.raises(ConfigError, match="not a file that its training wrote"):
        LearnedNoise(str(broken))
    with pytest.raises(
        ConfigError, match=r"scale=-1 of LearnedNoise must be a number between 0 and"
    ):
        LearnedNoise(str(path), scale=-1)
    NoiseHead(16).save(path)
    with pytest.raises(ConfigError, match="thoughts of 16 elements, and this reasoner's have 32"):
        RolloutEngine(gpt2, LearnedNoise(str(path))).rollout(
            *left_pad([[7, 8, 9]], gpt2.pad_id), num_samples=2
        )
