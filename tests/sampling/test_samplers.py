import pytest
import torch
from torch import Tensor

from lightning_ltts.errors import ConfigError
from lightning_ltts.models.latent_lm import LatentReasoner
from lightning_ltts.sampling import (
    Deterministic,
    GaussianNoise,
    LearnedSpread,
    MCDropout,
    Sampler,
    TokenSampling,
)
from lightning_ltts.sampling.keyed_random import fold


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


@pytest.mark.parametrize("sampler", [Deterministic(), GaussianNoise(0.5), MCDropout(0.5)], ids=repr)
def test_what_costs_next_to_nothing(sampler: Sampler, gpt2: LatentReasoner) -> None:
    assert [sampler.flops(gpt2, phase) for phase in ("prompt", "thought", "answer")] == [0, 0, 0]


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
    from tests.tiny import make_reasoner

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
        lambda: LearnedSpread(0.0),
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


def test_tokens_are_drawn_from_the_softmax() -> None:
    """By 20,000 keys; with top_p = 0.7, of .5 .25 .15 .1 the first two remain, as 2/3 and 1/3."""
    logits = torch.tensor([0.15, 0.5, 0.1, 0.25]).log().expand(20_000, 4)
    keys = fold(7, torch.arange(20_000))

    def shares(sampler: TokenSampling, position: int = 0) -> Tensor:
        tokens = sampler.choose(logits.clone(), keys=keys, position=position)
        return torch.bincount(tokens, minlength=4) / 20_000

    assert torch.allclose(shares(TokenSampling(1.0)), logits[0].exp(), atol=0.015)
    squared = logits[0].exp() ** 2
    assert torch.allclose(shares(TokenSampling(0.5)), squared / squared.sum(), atol=0.015)
    nucleus = torch.tensor([0, 2 / 3, 0, 1 / 3])
    assert torch.allclose(shares(TokenSampling(1.0, top_p=0.7)), nucleus, atol=0.015)
    assert shares(TokenSampling(1.0, top_p=0.01)).tolist() == [0, 1, 0, 0]
    # another position draws anew, and the same one the same for any batch
    sampler = TokenSampling(1.0)
    first, second = (sampler.choose(logits, keys=keys, position=i) for i in (0, 1))
    assert 0.3 < (first == second).float().mean() < 0.4  # .5^2 + .25^2 + .15^2 + .1^2 = .345
    assert torch.equal(sampler.choose(logits[:9], keys=keys[:9], position=0), first[:9])


@pytest.mark.parametrize("options", [{"temperature": 0.0}, {"temperature": float("nan")}])
def test_temperatures_that_cannot_be(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="TokenSampling needs a temperature above 0"):
        TokenSampling(**options)
    for share in (0.0, 1.5):
        with pytest.raises(ConfigError, match="0 < top_p <= 1"):
            TokenSampling(top_p=share)


@pytest.mark.parametrize("p", [0.02, 0.1, 0.6])
def test_dropout_drops_what_was_asked_for(gpt2: LatentReasoner, p: float) -> None:
    """Small shares too, in either lifetime, and what is kept is rescaled."""
    keys = torch.arange(600)
    clean = run(gpt2, MCDropout(p), keys, phase="prompt")
    for lifetime in ("per_forward", "per_trajectory"):
        dropped = run(gpt2, MCDropout(p, lifetime=lifetime), keys)
        zero = dropped == 0
        assert zero.float().mean() == pytest.approx(p, abs=0.015)
        assert torch.allclose(dropped[~zero], clean[~zero] / (1 - p))


def test_every_draw_of_dropout_is_another(gpt2: LatentReasoner) -> None:
    """At every layer, position, step and phase."""
    keys, masks = torch.arange(2), {}
    modules = gpt2.modules_at(["attention_output"]) + gpt2.modules_at(["mlp_output"])
    for phase, step in (("thought", 0), ("thought", 1), ("answer", 0), ("answer", 1)):
        with MCDropout(0.5, answer=True).active(gpt2, keys=keys, step=step, phase=phase):
            for place, module in enumerate(modules):
                dropped = module(torch.ones(2, 3, module.weight.shape[0])) == 0
                for row in range(2):
                    for position in range(3):
                        masks[phase, step, place, row, position] = dropped[row, position]
    distinct = {tuple(mask.tolist()) for mask in masks.values()}
    assert len(distinct) == len(masks) == 4 * len(modules) * 2 * 3


def test_learned_spread_is_scaled() -> None:
    thought, spread, keys = torch.zeros(500, 8), torch.full((500, 8), 2.0), torch.arange(500)
    one, half = (
        LearnedSpread(scale).perturb(thought, keys=keys, step=0, spread=spread)
        for scale in (1.0, 0.5)
    )
    assert float(one.std()) == pytest.approx(2.0, rel=0.05)
    assert torch.allclose(half, one / 2)
