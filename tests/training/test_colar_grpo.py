import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lightning_ltts.data.word_problems import WordProblems
from lightning_ltts.engine.rollout import RolloutEngine
from lightning_ltts.errors import ConfigError
from lightning_ltts.models.checkpoints import load_reasoner
from lightning_ltts.training import reinforcement
from lightning_ltts.training.colar_grpo import (
    ColarGrpoModule,
    Experience,
    advantages,
    clipped_surrogate,
)
from lightning_ltts.training.start import Start
from tests.training.helpers import make_colar as make_module
from tests.training.helpers import make_data, make_trainer, without_trainer


@pytest.fixture(scope="module")
def supervised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CoLaR reasoner after little training."""
    folder = tmp_path_factory.mktemp("colar")
    trainer = make_trainer(folder, epochs=2)
    trainer.fit(make_module(lr=5e-3, num_thoughts=12), datamodule=make_data())
    return folder / "last.ckpt"


def test_advantages() -> None:
    """(1, 0, 0, 0): mean 1/4, standard deviation 1/2; a group of equal rewards teaches nothing."""
    made = advantages(torch.tensor([[1.0, 0, 0, 0], [1, 1, 1, 1]]))
    assert made.tolist() == [pytest.approx([1.5, -0.5, -0.5, -0.5], abs=1e-4), [0, 0, 0, 0]]


def test_clipped_surrogate() -> None:
    """Ratios 2 and 1/2 at advantages 1 and -1, clip 0.2: gains 1.2 and -0.8; a position without an action does not count."""
    new = torch.tensor([[2.0, 9.0], [0.5, 9.0]]).log()
    acts = torch.tensor([[True, False], [True, False]])
    loss = clipped_surrogate(new, torch.zeros(2, 2), acts, torch.tensor([1.0, -1.0]), 0.2)
    assert float(loss) == pytest.approx(-(1.2 - 0.8) / 2)


@pytest.mark.slow
def test_log_probs_are_those_of_the_sampled_actions(supervised: Path) -> None:
    """One unpadded trajectory at a time gives the same, and its tokens are the likeliest, as they were decoded."""
    module = ColarGrpoModule(Start(str(supervised)), group_size=3)
    without_trainer(module)
    module.reasoner.eval()
    experience = module.explore(WordProblems("train", 4).load())
    together, acts = module.log_probs(experience)
    assert int(acts.sum()) > 0
    for row in range(len(experience.prompts)):
        alone, at = module.log_probs(experience.part(slice(row, row + 1)))
        assert torch.allclose(alone[at], together[row][acts[row]], atol=1e-4)
    moved = replace(experience.trajectories, thoughts=experience.trajectories.thoughts + 3)
    few = replace(experience, trajectories=moved)
    less, _ = module.log_probs(few)
    thinks = experience.counts > 0
    assert (less.sum(1)[thinks] < together.sum(1)[thinks]).all()


@pytest.mark.slow
def test_rewards_rise(supervised: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a reward that a model can learn in a few steps, the first thought's first element, more of it is got."""
    module = ColarGrpoModule(Start(str(supervised)), group_size=8, update_size=64, lr=2e-3)
    seen: list[float] = []
    explore = ColarGrpoModule.explore

    def rewarded(self: ColarGrpoModule, problems: list) -> Experience:
        made = explore(self, problems)
        favoured = made.thoughts[:, 0, 0].view(len(problems), -1)
        seen.append(float(favoured.mean()))
        return replace(made, advantages=advantages(favoured).flatten())

    monkeypatch.setattr(ColarGrpoModule, "explore", rewarded)
    trainer = make_trainer(tmp_path, epochs=4)
    trainer.gradient_clip_val = None
    trainer.fit(module, datamodule=make_data())
    assert seen[-1] > seen[0]
    assert load_reasoner(tmp_path / "last.ckpt").spec.open_ended


@pytest.mark.slow
def test_what_is_refused(supervised: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match="group_size=1 of ColarGrpoModule must be a whole number from 2"
    ):
        ColarGrpoModule(Start(str(supervised)), group_size=1)
    with pytest.raises(ConfigError, match="give its checkpoint"):
        ColarGrpoModule(Start())


def policy_of(
    module: ColarGrpoModule, experience: Experience, step: int
) -> tuple[torch.Tensor, ...]:
    """Mean and learned spread (R, d) of a thought, by a plain pass over each prompt and the thoughts before."""
    reasoner, means, spreads = module.reasoner, [], []
    for prompt, thoughts in zip(experience.prompts, experience.thoughts, strict=True):
        inputs = torch.cat([reasoner.embed(torch.tensor(prompt)), thoughts[:step]])[None]
        state = reasoner.backbone.base_model(inputs_embeds=inputs).last_hidden_state[:, -1]
        means.append(reasoner.thought_head(state))
        spreads.append(reasoner.thought_head.spread(state))
    return torch.cat(means), torch.cat(spreads)


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_density_of_thoughts_by_hand(supervised: Path, scale: float) -> None:
    """log N(h; mean, (scale x spread)^2), a mean over the elements, of the thoughts that were drawn."""
    module = ColarGrpoModule(Start(str(supervised)), group_size=3, scale=scale)
    without_trainer(module)
    module.reasoner.eval()
    experience = module.explore(WordProblems("train", 4).load())
    found, acts = module.log_probs(experience)
    for step in (0, 1):
        means, spreads = policy_of(module, experience, step)
        drawn, deviation = experience.thoughts[:, step], scale * spreads
        expected = -0.5 * ((drawn - means) / deviation) ** 2 - deviation.log()
        expected = (expected - 0.5 * math.log(2 * math.pi)).mean(-1)
        has = [row for row, count in enumerate(experience.counts) if count > step]
        assert has, "the test should see trajectories with so many thoughts"
        for row in has:
            assert found[row][acts[row]][step] == pytest.approx(float(expected[row]), abs=2e-3)


@pytest.mark.slow
def test_samples_differ_by_epoch_and_length_is_punished(supervised: Path) -> None:
    module = ColarGrpoModule(Start(str(supervised)), group_size=4)
    trainer = without_trainer(module)
    module.reasoner.eval()
    problems = WordProblems("train", 3).load()
    first, again = module.explore(problems), module.explore(problems)
    assert torch.equal(first.thoughts, again.thoughts)
    trainer.current_epoch = 1
    assert not torch.equal(module.explore(problems).thoughts[:, 0], first.thoughts[:, 0])


@pytest.mark.slow
def test_a_shorter_right_trajectory_is_worth_more(
    supervised: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All answers are right: without the punishment nothing is learned, with it fewer thoughts are better."""
    problems, rollout = WordProblems("train", 6).load(), RolloutEngine.rollout
    truths = [problem.value for problem in problems for _ in range(4)]
    counts = torch.tensor([[2, 4, 6, 8]] * 6)

    def of_these_lengths(*args, **options):
        return replace(rollout(*args, **options), thought_counts=counts)

    monkeypatch.setattr(RolloutEngine, "rollout", of_these_lengths)
    monkeypatch.setattr(reinforcement, "read_answers", lambda *args: truths)
    worth = {}
    for punished in (False, True):
        module = ColarGrpoModule(Start(str(supervised)), group_size=4, punish_length=punished)
        without_trainer(module)
        worth[punished] = module.explore(problems).advantages.view(6, 4)
    assert not worth[False].any()
    # rewards 1/2, 1/4, 1/6, 1/8 with the mean 0.26
    assert (worth[True][:, 0] > 0).all()
    assert (worth[True].diff(dim=1) < 0).all()


def test_the_surrogate_compares_with_the_policy_that_sampled(supervised: Path) -> None:
    """At that policy the ratio is 1 everywhere, so that the loss is minus the mean advantage; not so elsewhere."""
    module = ColarGrpoModule(Start(str(supervised)), group_size=4)
    without_trainer(module)
    module.reasoner.eval()
    made = module.explore(WordProblems("train", 3).load())
    made = replace(made, advantages=torch.arange(12.0) - 4)
    with torch.no_grad():
        old = module.log_probs(made)[0]
        assert float(module.surrogate(made, old)) == pytest.approx(-1.5, abs=1e-5)
        assert float(module.surrogate(made, old - 0.1)) != pytest.approx(-1.5, abs=0.05)
