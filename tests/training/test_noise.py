"""Training a learned sampler on a frozen reasoner."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lightning_ltts.data.word_problems import WordProblems
from lightning_ltts.engine.rollout import RolloutEngine
from lightning_ltts.errors import ConfigError
from lightning_ltts.models.checkpoints import load_reasoner
from lightning_ltts.models.latent_lm import left_pad
from lightning_ltts.sampling import LearnedNoise
from lightning_ltts.training.noise import FILE, NoiseModule
from lightning_ltts.training.start import Start
from tests.training.helpers import make_coconut, make_data, make_trainer, without_trainer
from tests.training.test_coconut import Weights


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reasoner after little training."""
    folder = tmp_path_factory.mktemp("start")
    make_trainer(folder, default_root_dir=folder).fit(make_coconut(), datamodule=make_data())
    return folder / "last.ckpt"


def make(start: Path, **options: object) -> NoiseModule:
    torch.manual_seed(0)  # the head starts at random
    options = {"group_size": 4, "hidden": 8, **options}
    return NoiseModule(Start(str(start)), **options)  # type: ignore[arg-type]


@pytest.mark.slow
@torch.no_grad()
def test_density_by_hand(start: Path) -> None:
    """log N(h; clean + mean, spread^2), a mean over the elements, with clean thoughts read anew."""
    module = make(start, std=0.4)
    without_trainer(module)
    module.head.mean.weight.normal_()
    module.head.log_std.weight.normal_(std=0.2)
    problems = WordProblems("train", 3).load()
    rollouts, _ = module.sample_groups(problems, module.policy)
    found = module.log_probs(rollouts.flatten())
    reasoner, row = module.reasoner, 5  # the second sample of the second question
    prompt, thoughts = module.encode(problems[1]).prompt, rollouts.thoughts[1, 1]
    for step in range(module.num_thoughts):
        inputs = torch.cat([reasoner.embed(torch.tensor(prompt)), thoughts[:step]])[None]
        state = reasoner.backbone.base_model(inputs_embeds=inputs).last_hidden_state[0, -1]
        clean = reasoner.thought_head(state)
        mean, std = module.head(clean)
        expected = -0.5 * ((thoughts[step] - clean - mean) / std) ** 2 - std.log()
        expected = (expected - 0.5 * math.log(2 * math.pi)).mean()
        assert float(found[row, step]) == pytest.approx(float(expected), abs=1e-4)


@pytest.mark.slow
def test_what_is_rewarded_becomes_likelier(
    start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a reward for first thoughts whose first element is above the group's mean."""
    module = make(start, group_size=8, lr=1e-2)
    means: list[float] = []
    sample = NoiseModule.sample_groups

    def rewarded(self: NoiseModule, *args):
        rollouts, _ = sample(self, *args)
        first = rollouts.thoughts[:, :, 0, 0]
        means.append(float((first - rollouts.clean_thoughts[:, :, 0, 0]).mean()))
        return rollouts, (first > first.mean(1, keepdim=True)).float()

    monkeypatch.setattr(NoiseModule, "sample_groups", rewarded)
    trainer = make_trainer(tmp_path, epochs=6, default_root_dir=tmp_path)
    trainer.fit(module, datamodule=make_data())
    assert sum(means[-4:]) / 4 > sum(means[:4]) / 4 + 0.1
    before, after = load_reasoner(start).state_dict(), load_reasoner(tmp_path / "last.ckpt")
    for name, weights in after.state_dict().items():
        assert torch.equal(weights, before[name]), name  # the reasoner stays as it is
    written = LearnedNoise(str(tmp_path / FILE))
    for name, weights in module.head.state_dict().items():
        assert torch.equal(written.head.state_dict()[name], weights)


@pytest.mark.slow
def test_a_resumed_run_ends_with_the_same_weights(start: Path, tmp_path: Path) -> None:
    whole, first, second = Weights(), Weights(stop_after=1), Weights()
    for folder, callback in (("a", whole), ("b", first)):
        trainer = make_trainer(
            tmp_path / folder, callbacks=[callback], default_root_dir=tmp_path / folder
        )
        trainer.fit(make(start, lr=1e-2), make_data())
    trainer = make_trainer(tmp_path / "b", callbacks=[second], default_root_dir=tmp_path / "b")
    last = tmp_path / "b" / "last.ckpt"
    trainer.fit(make(start, lr=1e-2), make_data(), ckpt_path=last, weights_only=True)
    assert first.prints + second.prints == whole.prints
    heads = [(tmp_path / folder / FILE).read_bytes() for folder in ("a", "b")]
    assert heads[0] == heads[1]


@pytest.mark.slow
def test_validation_counts_samples(start: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two problems with 8 samples each, 2 and none right: 1/8 of the samples, half covered."""
    module = make(start)
    without_trainer(module)
    problems = WordProblems("valid", 2).load()
    answers = [problems[0].value, problems[0].value, *[None] * 14]
    monkeypatch.setattr("lightning_ltts.training.reinforcement.read_answers", lambda *args: answers)
    module.validation_step(problems, 0)
    module.validation_step([], 1)
    assert float(module.accuracy.compute()) == pytest.approx(1 / 8)
    assert float(module.coverage.compute()) == pytest.approx(1 / 2)


@pytest.mark.slow
def test_untrained_it_samples_as_the_engine_does(start: Path) -> None:
    module = make(start, std=0.4)
    without_trainer(module)
    problems = WordProblems("train", 2).load()
    rollouts, _ = module.sample_groups(problems, module.policy)
    noise: Tensor = rollouts.thoughts - rollouts.clean_thoughts
    assert float(noise.std()) == pytest.approx(0.4, rel=0.05)
    prompts = [module.encode(problem).prompt for problem in problems]
    greedy = RolloutEngine(module.reasoner).rollout(*left_pad(prompts, module.reasoner.pad_id))
    assert torch.allclose(rollouts.clean_thoughts[:, :, 0], greedy.thoughts[:, :, 0], atol=1e-4)


def test_what_is_refused(start: Path) -> None:
    with pytest.raises(ConfigError, match="passes=0 of NoiseModule"):
        make(start, passes=0)
    with pytest.raises(ConfigError, match="hidden=0 of NoiseHead"):
        make(start, hidden=0)
    with pytest.raises(ConfigError, match=r"give its checkpoint as start\.pretrained"):
        NoiseModule(Start())
