"""Reasoners trained under their sampler: the thoughts are those that the engine would sample."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from lightning_ltts.data.word_problems import WordProblems
from lightning_ltts.engine.rollout import RolloutEngine
from lightning_ltts.errors import ConfigError
from lightning_ltts.models.latent_lm import LatentReasoner, left_pad
from lightning_ltts.sampling import (
    GaussianNoise,
    LearnedSpread,
    MCDropout,
    Sampler,
    SingularValueNoise,
)
from lightning_ltts.sampling.keyed_random import question_keys, sample_keys
from lightning_ltts.training.perturbation import Perturbation
from lightning_ltts.training.reasoner import ReasonerModule
from lightning_ltts.training.sequences import GivenThoughts, think
from tests.tiny import learned_noise
from tests.training.helpers import (
    make_coconut,
    make_codi,
    make_colar,
    make_data,
    make_trainer,
    without_trainer,
)
from tests.training.test_coconut import Weights

PROMPTS = [[7, 8, 9, 10], [11, 12, 13], [14, 15]]
TEXTS = [[20, 21, 1], [22, 1], [23, 24, 25, 1]]
SAMPLERS = [
    GaussianNoise(0.7),
    GaussianNoise(relative_std=0.5),
    learned_noise(),
    MCDropout(0.3),
    MCDropout(0.3, prompt=True),
    MCDropout(0.3, lifetime="per_trajectory"),
    SingularValueNoise(0.4),
    SingularValueNoise(0.4, "q", prompt=False),
]


@pytest.mark.slow
@pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
def test_thoughts_are_those_that_are_sampled(reasoner: LatentReasoner, sampler: Sampler) -> None:
    """One trajectory of each prompt, by the engine and by training, under the same names."""
    keys = sample_keys(question_keys(3, ["a", "b", "c"]), 1)
    ids, mask = left_pad(PROMPTS, reasoner.pad_id)
    engine = RolloutEngine(reasoner, sampler)
    sampled = engine.sample(engine.start(ids, mask, keys), keys, steps=2).thoughts[:, 0]
    after = think(reasoner, PROMPTS, TEXTS, 2, Perturbation(sampler, keys[:, 0]))
    assert torch.allclose(after.thoughts, sampled, atol=1e-4)
    plain = think(reasoner, PROMPTS, TEXTS, 2)
    assert not torch.allclose(after.thoughts, plain.thoughts, atol=1e-2)
    assert after.thoughts.requires_grad


def test_the_answer_is_read_under_the_sampler_where_it_says_so(reasoner: LatentReasoner) -> None:
    def hidden(sampler: Sampler, steps: int) -> Tensor:
        keys = question_keys(3, ["a", "b", "c"])
        after = think(reasoner, PROMPTS, TEXTS, steps, Perturbation(sampler, keys))
        with after.reading(reasoner):
            return reasoner.read(after.inputs, after.positions, after.cache, after.mask)

    there, elsewhere = MCDropout(0.3, answer=True), MCDropout(0.3)
    assert not torch.allclose(hidden(there, 2), hidden(elsewhere, 2), atol=1e-2)
    # explicit steps, without any thought, are left alone
    assert torch.allclose(hidden(there, 0), hidden(GaussianNoise(1.0), 0), atol=1e-5)


def test_given_thoughts_are_perturbed_and_their_targets_are_not(gpt2: LatentReasoner) -> None:
    thoughts, counts = torch.randn(3, 2, 32), torch.tensor([2, 2, 2])
    keys, sampler = question_keys(0, ["a", "b", "c"]), GaussianNoise(0.5)
    perturbation = Perturbation(sampler, keys)
    rows = GivenThoughts(gpt2, PROMPTS, thoughts, counts, TEXTS, perturbation)
    given = torch.stack(
        [sampler.perturb(thoughts[:, t], keys=keys, step=t) for t in range(2)], dim=1
    )
    plain = GivenThoughts(gpt2, PROMPTS, given, counts, TEXTS)
    assert torch.allclose(rows.read(), plain.read(), atol=1e-5)
    assert torch.equal(rows.next_thoughts[rows.before_thought], thoughts.flatten(0, 1))


MODULES = {"coconut": make_coconut, "codi": make_codi, "colar": make_colar}


@pytest.mark.parametrize("method", MODULES)
def test_names_follow_from_problem_and_epoch(method: str) -> None:
    """The same in any batch, other ones in the next epoch, and none outside of training."""
    module: ReasonerModule = MODULES[method](sampler=GaussianNoise(0.5))
    trainer = without_trainer(module)
    trainer.datamodule = SimpleNamespace(seed=1)
    problems = WordProblems("train", 4).load()
    first = module.perturbation(problems)
    assert first is not None
    assert first.sampler.settings() == GaussianNoise(0.5).settings()
    trainer.fit_loop.total_batch_idx = 7
    alone = module.perturbation(problems[2:3])
    assert alone is not None
    assert torch.equal(alone.keys, first.keys[2:3])
    trainer.current_epoch = 1
    later = module.perturbation(problems)
    assert later is not None
    assert not (later.keys == first.keys).any()
    assert module.eval().perturbation(problems) is None
    assert MODULES[method]().perturbation(problems) is None


@pytest.mark.parametrize(("share", "low", "high"), [(0.0, 0, 0), (0.3, 20, 40), (1.0, 100, 100)])
def test_share_of_the_batches(share: float, low: int, high: int) -> None:
    module = make_coconut(sampler=GaussianNoise(0.5), sampled_share=share)
    trainer, perturbed = without_trainer(module), 0
    trainer.datamodule = SimpleNamespace(seed=0)
    problems = WordProblems("train", 1).load()
    for trainer.fit_loop.total_batch_idx in range(100):
        perturbed += module.perturbation(problems) is not None
    assert low <= perturbed <= high


@pytest.mark.slow
@pytest.mark.parametrize("method", MODULES)
def test_the_loss_is_another_one(method: str) -> None:
    problems, losses = WordProblems("train", 4).load(), []
    for sampler in (None, GaussianNoise(5.0), GaussianNoise(5.0)):
        module = MODULES[method](sampler=sampler)
        trainer = without_trainer(module)
        trainer.datamodule = SimpleNamespace(seed=0)
        if method == "coconut":
            module.stage = module.curriculum.last
        losses.append(float(module.loss_of(problems)))
    assert losses[0] != pytest.approx(losses[1], rel=1e-5)
    assert losses[1] == losses[2]


@pytest.mark.slow
def test_resume_gives_the_same_weights(tmp_path: Path) -> None:
    options = {"sampler": GaussianNoise(0.5), "sampled_share": 0.7, "step_factor": 0.5}
    whole, first, second = Weights(), Weights(stop_after=1), Weights()
    make_trainer(tmp_path / "a", callbacks=[whole]).fit(make_coconut(**options), make_data())
    make_trainer(tmp_path / "b", callbacks=[first]).fit(make_coconut(**options), make_data())
    make_trainer(tmp_path / "b", callbacks=[second]).fit(
        make_coconut(**options),
        make_data(),
        ckpt_path=tmp_path / "b" / "last.ckpt",
        weights_only=True,
    )
    assert first.prints + second.prints == whole.prints
    entry = torch.load(tmp_path / "a" / "last.ckpt", weights_only=True)["lightning_ltts"]
    assert entry["trained_under"] == GaussianNoise(0.5).settings()


def test_options_that_make_no_sense() -> None:
    with pytest.raises(
        ConfigError, match=r"sampled_share=1.5 of CoconutModule must be a number from 0 to 1"
    ):
        make_coconut(sampled_share=1.5)
    with pytest.raises(ConfigError, match="LearnedSpread samples from by itself"):
        make_colar(sampler=LearnedSpread())
    for partial_one in (MCDropout(0.1), MCDropout(0.1, prompt=True), SingularValueNoise(0.3)):
        with pytest.raises(ConfigError, match="cannot perturb the thoughts alone"):
            make_colar(sampler=partial_one)
    make_colar(sampler=MCDropout(0.1, prompt=True, answer=True))
