from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lightning_ltts.data.word_problems import WordProblems
from lightning_ltts.errors import ConfigError
from lightning_ltts.models.checkpoints import load_reasoner
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


def test_what_is_refused(supervised: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match="group_size=1 of ColarGrpoModule must be a whole number from 2"
    ):
        ColarGrpoModule(Start(str(supervised)), group_size=1)
    with pytest.raises(ConfigError, match="give its checkpoint"):
        ColarGrpoModule(Start())
