import pytest
import torch

from lightning_ltts.errors import ConfigError
from lightning_ltts.models.latent_lm import LatentReasoner
from lightning_ltts.sampling import (
    Deterministic,
    GaussianNoise,
    LearnedSpread,
    MCDropout,
    Sampler,
)


def test_noise_has_the_asked_size() -> None:
    thought, keys = torch.full((2000, 64), 3.0), torch.arange(2000)
    assert (
        GaussianNoise(0.6).perturb(thought, keys=keys, step=0) - thought
    ).std() == pytest.approx(0.6, rel=0.02)
    assert (
        GaussianNoise(relative_std=0.5).perturb(thought, keys=keys, step=0) - thought
    ).std() == pytest.approx(1.5, rel=0.02)


def test_noise_differs_by_step_and_key() -> None:
    thought, keys = torch.zeros(3, 8), torch.arange(3)
    first, second = (GaussianNoise(1.0).perturb(thought, keys=keys, step=step) for step in (0, 1))
    assert not torch.equal(first, second)
    assert len({tuple(row) for row in first.tolist()}) == 3


def test_deterministic_changes_nothing() -> None:
    thought = torch.randn(3, 8)
    assert torch.equal(Deterministic().perturb(thought, keys=torch.arange(3), step=0), thought)


def run(
    model: LatentReasoner, sampler: MCDropout, keys: torch.Tensor, phase: str = "thought"
) -> torch.Tensor:
    """Output of the first block's MLP projection under the sampler."""
    module = model.modules_at(["mlp_output"])[0]
    with sampler.active(model, keys=keys, step=0, phase=phase):
        return module(torch.ones(len(keys), 1, module.weight.shape[not model.family.transposed]))


def test_dropout_zeroes_and_rescales(reasoner: LatentReasoner) -> None:
    """Works in evaluation mode, and for a family without dropout modules."""
    keys = torch.arange(400)
    clean = run(reasoner, MCDropout(0.25), keys, phase="prompt")
    dropped = run(reasoner, MCDropout(0.25), keys)
    zero = dropped == 0
    assert zero.float().mean() == pytest.approx(0.25, abs=0.02)
    assert torch.allclose(dropped[~zero], clean[~zero] / 0.75)


def test_dropout_leaves_nothing_behind(gpt2: LatentReasoner) -> None:
    """The published code leaves dropout on after a run, so that a later greedy run is random."""
    keys = torch.arange(4)
    before = run(gpt2, MCDropout(0.5), keys, phase="prompt")
    with (
        pytest.raises(RuntimeError),
        MCDropout(0.5).active(gpt2, keys=keys, step=0, phase="thought"),
    ):
        raise RuntimeError
    assert torch.equal(run(gpt2, MCDropout(0.5), keys, phase="prompt"), before)
    assert not gpt2.training


def test_a_site_whose_output_has_another_shape(gpt2: LatentReasoner) -> None:
    """As OPT has after its second matrix: (rows x positions, d)."""
    module, sampler = gpt2.modules_at(["mlp_output"])[0], MCDropout(0.5)
    flat = torch.ones(3, module.weight.shape[0])
    with (
        pytest.raises(ConfigError, match=r"site 'mlp_output' of the gpt2 family is \(3, 32\)"),
        sampler.active(gpt2, keys=torch.arange(3), step=0, phase="thought"),
    ):
        module(flat)


def test_options_that_are_not_kept() -> None:
    """They tell results apart, so that a sampler without them is refused."""

    class Wide(Sampler):
        def __init__(self, width: object):
            self.kept = width

    class Plain(Sampler):
        def __init__(self, width: object):
            self.width = width

    with pytest.raises(ConfigError, match=r"Wide has no attribute 'width'.*keep it as self.width"):
        Wide(0.5).settings()
    with pytest.raises(ConfigError, match="an option of Plain is no plain value"):
        Plain(object()).settings()
    assert Plain(0.5).settings() == {"class": "Plain", "width": 0.5}


def test_phases_and_sites(gpt2: LatentReasoner) -> None:
    keys = torch.arange(4)
    clean = run(gpt2, MCDropout(0.5), keys, phase="prompt")
    assert torch.equal(run(gpt2, MCDropout(0.5), keys, phase="answer"), clean)
    assert not torch.equal(run(gpt2, MCDropout(0.5, answer=True), keys, phase="answer"), clean)
    assert not torch.equal(run(gpt2, MCDropout(0.5, prompt=True), keys, phase="prompt"), clean)
    assert torch.equal(run(gpt2, MCDropout(0.5, sites=["embedding"]), keys), clean)
    assert not torch.equal(run(gpt2, MCDropout(0.5, sites=["mlp_output"]), keys), clean)


def test_masks_that_are_held(gpt2: LatentReasoner) -> None:
    """One mask per trajectory and site: the same at every step and position, another for every trajectory."""
    module, keys = gpt2.modules_at(["mlp_output"])[0], torch.arange(4)
    dropped = {}
    for lifetime in ("per_forward", "per_trajectory"):
        for step in (0, 1):
            with MCDropout(0.5, lifetime=lifetime).active(
                gpt2, keys=keys, step=step, phase="thought"
            ):
                dropped[lifetime, step] = module(torch.ones(4, 3, module.weight.shape[0])) == 0
    held = dropped["per_trajectory", 0]
    assert torch.equal(held, dropped["per_trajectory", 1])
    assert torch.equal(held, held[:, :1].expand_as(held))
    assert len({tuple(row) for row in held[:, 0].tolist()}) == 4
    assert not torch.equal(dropped["per_forward", 0], dropped["per_forward", 1])


def test_unknown_site_of_a_family(tokenizer) -> None:
    from tests.conftest import make_reasoner

    with pytest.raises(ConfigError, match="llama family has no site 'embedding'"):
        run(make_reasoner("llama", tokenizer), MCDropout(0.5, sites=["embedding"]), torch.arange(2))


@pytest.mark.parametrize(
    "make",
    [
        lambda: MCDropout(0.0),
        lambda: MCDropout(1.0),
        lambda: GaussianNoise(),
        lambda: GaussianNoise(0.1, 0.1),
        lambda: GaussianNoise(0.0),
        lambda: GaussianNoise(relative_std=-1.0),
    ],
)
def test_settings_that_make_no_sense(make) -> None:
    with pytest.raises(ConfigError):
        make()


def test_scaled() -> None:
    """Only what says how much trajectories differ is multiplied."""
    assert GaussianNoise(0.6).scaled(0.5).settings() == GaussianNoise(0.3).settings()
    assert GaussianNoise(relative_std=0.2).scaled(2).relative_std == 0.4
    dropout = MCDropout(0.2, prompt=True, lifetime="per_trajectory")
    assert dropout.scaled(2).settings() == dropout.settings() | {"p": 0.4}
    assert dropout.scaled(100).p < 1
    assert LearnedSpread(2.0).scaled(0.5).scale == 1.0
    assert Deterministic().scaled(3).deterministic
