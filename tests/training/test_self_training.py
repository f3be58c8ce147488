"""Self-training: which of its own trajectories a reasoner learns from."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from lightning_ltts.engine.grading import read_answers
from lightning_ltts.engine.rollout import RolloutEngine
from lightning_ltts.errors import ConfigError
from lightning_ltts.models.folders import save_folder
from lightning_ltts.models.latent_lm import left_pad
from lightning_ltts.models.latent_rm import LatentRM
from lightning_ltts.sampling import Deterministic, GaussianNoise
from lightning_ltts.sampling.keyed_random import fold
from lightning_ltts.training.coconut import CoconutModule
from lightning_ltts.training.curriculum import Curriculum
from lightning_ltts.training.self_training import SelfTrainingModule
from lightning_ltts.training.start import Start
from tests.tiny import make_reasoner
from tests.training.helpers import make_data, make_trainer, without_trainer

SAMPLES = 6


@pytest.fixture
def folders(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> tuple[str, str]:
    """A reasoner whose samples differ, and a LatentRM that compares with the greedy trajectory."""
    reasoner = make_reasoner("gpt2", tokenizer)
    torch.manual_seed(1)
    judge = LatentRM.from_reasoner(reasoner, reference=True, reads_answer=True).eval()
    save_folder(reasoner, tmp_path / "reasoner")
    save_folder(judge, tmp_path / "latent_rm")
    return str(tmp_path / "reasoner"), str(tmp_path / "latent_rm")


def make(folders: tuple[str, str], latent_rm: bool = True, **options) -> SelfTrainingModule:
    settings = {"sampler": GaussianNoise(0.8), **options}
    return SelfTrainingModule(
        Start(pretrained=folders[0]),
        latent_rm=folders[1] if latent_rm else None,
        num_samples=SAMPLES,
        curriculum=Curriculum(0, (1,), 3),
        max_answer_tokens=5,
        **settings,
    )


def in_training(module: SelfTrainingModule) -> SelfTrainingModule:
    """The module in its first step, with a seed of 0."""
    without_trainer(module).datamodule = SimpleNamespace(seed=0)
    return module.train()


def test_the_right_one_with_the_highest_score_is_learned_from(folders: tuple[str, str]) -> None:
    """Against samples that are made one by one, and scored one by one."""
    module = in_training(make(folders))
    problems = make_data(12).sources["train"].load()
    drawn = super(SelfTrainingModule, module).perturbation(problems)
    assert drawn is not None
    prompts = [module.encode(problem).prompt for problem in problems]
    engine, judge = RolloutEngine(module.reasoner, module.sampler), module._judges[0]
    expected, grades = [], []
    # truths: of every second problem what its third sample answers, so that some are right
    for number, (problem, key) in enumerate(zip(problems, drawn.keys, strict=True)):
        ids, mask = left_pad([prompts[number]], module.reasoner.pad_id)
        greedy = RolloutEngine(module.reasoner).rollout(ids, mask)
        names = [fold(key[None], torch.tensor([i])) for i in range(SAMPLES)]
        samples = [engine.sample(engine.start(ids, mask, n[None]), n[None]) for n in names]
        said = [read_answers(module.reasoner, one.answer_ids[0])[0] for one in samples]
        truth = said[2] if number % 2 and said[2] is not None else problem.value
        problems[number] = replace(problem, answer=str(truth))
        right = [answer == truth for answer in said]
        scores = [float(judge.judge(ids, mask, one, greedy).trajectory) for one in samples]
        among = [i for i in range(SAMPLES) if right[i]] or list(range(SAMPLES))
        expected.append(int(names[max(among, key=lambda i: scores[i])]))
        grades.append(right)
    assert any(any(right) and not all(right) for right in grades)
    assert any(not any(right) for right in grades)
    chosen = module.perturbation(problems)
    assert chosen is not None
    assert chosen.keys.tolist() == expected
    assert module.reasoner.training


def test_without_a_latent_rm_any_trajectory_is_learned_from(folders: tuple[str, str]) -> None:
    module = in_training(make(folders, latent_rm=False))
    problems = make_data(4).sources["train"].load()
    drawn, any_one = module.perturbation(problems), CoconutModule.perturbation(module, problems)
    assert drawn is not None
    assert any_one is not None
    assert torch.equal(drawn.keys, any_one.keys)


def test_a_training_moves_the_reasoner_and_keeps_the_latent_rm_apart(
    folders: tuple[str, str], tmp_path: Path
) -> None:
    module = make(folders)
    before = {name: p.clone() for name, p in module._judges[0].named_parameters()}
    weights = [p.clone() for p in module.reasoner.parameters()]
    trainer = make_trainer(tmp_path, epochs=1)
    trainer.fit(module, datamodule=make_data(16))
    assert any(
        not torch.equal(a, b) for a, b in zip(weights, module.reasoner.parameters(), strict=True)
    )
    assert all(torch.equal(p, before[name]) for name, p in module._judges[0].named_parameters())
    assert not any("judge" in name for name in module.state_dict())
    assert 0 <= float(trainer.callback_metrics["train/chosen_right"]) <= 1


def test_what_cannot_be(folders: tuple[str, str], tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(ConfigError, match="only choose among trajectories that differ"):
        make(folders, sampler=None)
    with pytest.raises(ConfigError, match="only choose among trajectories that differ"):
        make(folders, sampler=Deterministic())
    with pytest.raises(ConfigError, match="uniform_prob=0"):
        make(folders, uniform_prob=0.3)
    with pytest.raises(ConfigError, match="num_samples"):
        SelfTrainingModule(Start(pretrained=folders[0]), num_samples=0)
