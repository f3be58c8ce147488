"""Reinforcement of reasoners with a fixed number of thoughts, checked by hand."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lightning_ltts.data.problems import Problem
from lightning_ltts.data.word_problems import WordProblems
from lightning_ltts.engine.rollout import RolloutEngine
from lightning_ltts.errors import ConfigError
from lightning_ltts.models.checkpoints import load_reasoner
from lightning_ltts.sampling import (
    Deterministic,
    GaussianNoise,
    MCDropout,
    Sampler,
    SingularValueNoise,
    TokenSampling,
)
from lightning_ltts.training import reinforcement
from lightning_ltts.training.grpo import Groups, GrpoModule, divergence
from lightning_ltts.training.reinforcement import (
    ReinforcementModule,
    clipped_gain,
    mixed_groups,
)
from lightning_ltts.training.start import Lora, Start
from tests.tiny import learned_noise
from tests.training.helpers import (
    half_right,
    make_coconut,
    make_codi,
    make_colar,
    make_data,
    make_trainer,
    without_trainer,
)
from tests.training.test_coconut import Weights

SAMPLERS = [
    Deterministic(),
    TokenSampling(),  # as none: this module draws the answers
    GaussianNoise(0.7),
    GaussianNoise(relative_std=0.5),
    learned_noise(),
    MCDropout(0.3),
    MCDropout(0.3, prompt=True),
    MCDropout(0.3, lifetime="per_trajectory"),
    SingularValueNoise(0.6),
    SingularValueNoise(0.6, prompt=False),
]


@pytest.fixture(scope="module")
def starts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A reasoner of each method after little training."""
    made = {"coconut": make_coconut, "codi": make_codi, "llama": lambda: make_coconut("llama")}
    folder = tmp_path_factory.mktemp("starts")
    for name, make in made.items():
        make_trainer(folder / name).fit(make(), datamodule=make_data())
    return {name: folder / name / "last.ckpt" for name in made}


def make(start: Path, **options: object) -> GrpoModule:
    options = {"group_size": 4, "oversampling": 1, "groups_at_once": 2, "lr": 1e-3, **options}
    return GrpoModule(Start(str(start)), **options)  # type: ignore[arg-type]


def explored(
    module: GrpoModule, monkeypatch: pytest.MonkeyPatch, problems: int = 3
) -> tuple[Groups, Tensor]:
    """Groups of which every second trajectory is right, and what the engine says of them."""
    without_trainer(module)
    module.reasoner.eval()
    module.reasoner.suppressed_ids = [module.reasoner.pad_id]  # as the policy never draws it
    said: list[Tensor] = []
    rollout = RolloutEngine.rollout

    def listened(self: RolloutEngine, *args, **options):
        made = rollout(self, *args, **options)
        said.append(made.log_probs)
        return made

    monkeypatch.setattr(RolloutEngine, "rollout", listened)
    every_second(monkeypatch, [problem.value for problem in WordProblems("train", problems).load()])
    return module.explore(WordProblems("train", problems).load()), said[0].flatten()


def every_second(monkeypatch: pytest.MonkeyPatch, truths: list) -> None:
    """Grades the samples 0, 2, ... of a group right, in whatever order groups come."""

    def read(reasoner: object, ids: Tensor) -> list:
        size = len(ids) // len(truths)
        return [truths[i // size] if i % size % 2 == 0 else None for i in range(len(ids))]

    monkeypatch.setattr(reinforcement, "read_answers", read)


# -- arithmetic


def test_clipped_gain() -> None:
    """Ratios 2, 2, 1/2, 1/2 at advantages 1, -1, 1, -1, clip 0.2: 1.2, -2, 0.5, -0.8."""
    ratios = torch.tensor([[2.0], [2.0], [0.5], [0.5]])
    gain = clipped_gain(ratios.log(), torch.zeros(4, 1), torch.tensor([1.0, -1, 1, -1]), 0.2)
    assert gain.flatten().tolist() == pytest.approx([1.2, -2.0, 0.5, -0.8])


def test_divergence() -> None:
    """r = 1/2 and 2 and 1: 1/2 + log 2 - 1, 2 - log 2 - 1, 0; its gradient is 0 where both agree."""
    new = torch.tensor([math.log(0.5), math.log(0.25), math.log(0.3)], requires_grad=True)
    made = divergence(new, torch.tensor([0.25, 0.5, 0.3]).log())
    assert made.tolist() == pytest.approx([0.5 + math.log(2) - 1, 1 - math.log(2), 0.0], abs=1e-6)
    made.sum().backward()
    assert new.grad is not None
    assert new.grad.tolist() == pytest.approx([1 - 0.5, 1 - 2.0, 0.0], abs=1e-6)


def test_mixed_groups() -> None:
    assert mixed_groups(torch.tensor([[1.0, 0], [1, 1], [0, 0]])).tolist() == [True, False, False]


@pytest.mark.slow
def test_surrogate_by_hand(starts: dict[str, Path]) -> None:
    """Two tokens of ratio 2 at advantage 1/2, one of them padding: -1.2 / 2 + 0.1 x k3(1/2)."""
    module = make(starts["coconut"], kl_factor=0.1)
    new, acts = torch.zeros(1, 2), torch.tensor([[True, False]])
    old, reference = torch.full((1, 2), math.log(0.5)), torch.full((1, 2), math.log(0.5))
    loss = module.surrogate(new, old, reference, acts, torch.tensor([0.5]))
    assert float(loss) == pytest.approx(-0.6 + 0.1 * (0.5 + math.log(2) - 1))


# -- the replay


@pytest.mark.slow
@pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
@pytest.mark.parametrize("start", ["coconut", "codi", "llama"])
def test_answers_are_as_likely_as_when_they_were_drawn(
    starts: dict[str, Path], start: str, sampler: Sampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the ratio before the first update is 1, the engine's probability is found again."""
    module = make(starts[start], sampler=sampler)
    groups, said = explored(module, monkeypatch)
    with torch.no_grad():
        found, acts = module.log_probs(groups)
    assert torch.allclose(found.sum(1), said, atol=2e-4)
    assert acts.sum(1).tolist() == [len(answer) for answer in groups.answers]
    assert len(set(map(tuple, groups.answers))) > 3, "the samples should differ"


@pytest.mark.slow
@pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
def test_a_ratio_is_exactly_one_until_weights_change(
    starts: dict[str, Path], sampler: Sampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the first pass over all parts, and in a second one where the step between was left out."""
    module = make(starts["coconut"], sampler=sampler, passes=2, kl_factor=0.1)
    without_trainer(module)
    problems = WordProblems("train", 3).load()
    every_second(monkeypatch, [problem.value for problem in problems])
    steps, given, surrogate = [], [], module.surrogate

    def kept(new: Tensor, old: Tensor, reference: Tensor | None, *rest: Tensor) -> Tensor:
        given.append((new, old, reference))
        return surrogate(new, old, reference, *rest)

    monkeypatch.setattr(module, "surrogate", kept)
    monkeypatch.setattr(module, "manual_backward", lambda loss: None)
    monkeypatch.setattr(module, "take_step", lambda: steps.append(len(given)))
    module.training_step(problems, 0)
    assert steps == [2, 4]  # passes over two parts: two groups, then one
    for new, old, reference in given:
        assert new.requires_grad
        assert new.any()
        assert torch.equal(new, old)
        assert torch.equal(new, reference)  # the start, too


@pytest.mark.slow
def test_a_temperature_divides_the_logits(
    starts: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    cold, hot = (make(starts["coconut"], temperature=t) for t in (1.0, 3.0))
    groups, said = explored(cold, monkeypatch)
    without_trainer(hot)
    hot.reasoner.eval()
    with torch.no_grad():
        assert not torch.allclose(hot.log_probs(groups)[0].sum(1), said, atol=1e-2)


@pytest.mark.slow
def test_gradients_reach_the_thoughts(
    starts: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer's tokens are made likelier through the passes that made the thoughts, too."""
    module = make(starts["coconut"], sampler=GaussianNoise(0.5), trained=["q"])
    groups, _ = explored(module, monkeypatch)
    made: list[Tensor] = []
    head = module.reasoner.thought_head.forward

    def kept(hidden: Tensor) -> Tensor:
        thought = head(hidden)
        thought.retain_grad()
        made.append(thought)
        return thought

    monkeypatch.setattr(module.reasoner.thought_head, "forward", kept)
    module.log_probs(groups)[0].sum().backward()
    assert len(made) == module.num_thoughts
    assert all(float(thought.grad.abs().max()) > 0 for thought in made)  # type: ignore[union-attr]


def test_prompts_that_are_read_once_give_the_same(
    starts: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = make(starts["coconut"], sampler=GaussianNoise(0.5))
    groups, _ = explored(module, monkeypatch)
    shared, _ = module.log_probs(groups)
    module.policy.thoughts.perturbs_prompt = True  # so that it reads each row's own
    assert torch.allclose(module.log_probs(groups)[0], shared, atol=1e-5)


# -- which groups teach


def test_advantages_and_groups(starts: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    module = make(starts["coconut"], oversampling=2)
    problems = WordProblems("train", 6).load()
    without_trainer(module)
    rewards = torch.zeros(6, 4)
    rewards[1], rewards[2, :3], rewards[4, 0], rewards[5, 0], rewards[3, :2] = 1, 1, 1, 1, 1
    sample = GrpoModule.sample_groups

    def rewarded(self: GrpoModule, *args):
        return sample(self, *args)[0], rewards

    monkeypatch.setattr(GrpoModule, "sample_groups", rewarded)
    groups = module.explore(problems)
    kept = [2, 3, 4]  # the first half with both outcomes; 5 is one too many
    assert groups.prompts == [module.encode(problems[i]).prompt for i in kept]
    expected = [1 / 4] * 3 + [-3 / 4] + [1 / 2] * 2 + [-1 / 2] * 2 + [3 / 4] + [-1 / 4] * 3
    assert groups.advantages.tolist() == pytest.approx(expected)
    assert [len(part.prompts) for part in groups.parts(2)] == [2, 1]
    assert torch.equal(torch.cat([part.keys for part in groups.parts(2)]), groups.keys)
    rewards[:] = 1
    assert not module.explore(problems).prompts


def test_relative_advantages_by_hand(starts: dict[str, Path]) -> None:
    """Rewards 1, 0, 0, 0: (1 - 1/4) / (1/4) = 3 and (0 - 1/4) / (1/4) = -1; 1, 1, 1, 0: 1/3 and -1."""
    rewards = torch.tensor([[1.0, 0, 0, 0], [1, 1, 1, 0], [0, 0, 0, 0]])
    relative = make(starts["coconut"], relative=True).advantages(rewards)
    expected = torch.tensor([[3.0, -1, -1, -1], [1 / 3, 1 / 3, 1 / 3, -1], [0, 0, 0, 0]])
    assert torch.allclose(relative, expected)
    plain = make(starts["coconut"]).advantages(rewards)
    assert plain[0].tolist() == [0.75, -0.25, -0.25, -0.25]


def test_devices_keep_as_many_groups_each(starts: dict[str, Path]) -> None:
    """Where another device has two groups that can teach and this one has one, it adds another."""
    module = make(starts["coconut"])
    trainer = without_trainer(module)
    trainer.world_size = 2
    module.all_gather = lambda count: torch.stack((count, torch.tensor(2)))  # type: ignore[method-assign,assignment]
    rewards = torch.tensor([[1.0, 1], [0, 0], [1, 0]])
    assert module._kept(rewards).tolist() == [0, 2]


# -- training


@pytest.mark.slow
def test_parts_and_order_of_a_batch_change_no_step(
    starts: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its gradients are the same, of questions of several lengths in any order and in any parts."""
    problems = WordProblems("train", 5).load()

    def gradients(problems: list[Problem], groups_at_once: int) -> dict[str, Tensor]:
        module = half_right(
            make(starts["coconut"], sampler=MCDropout(0.3), passes=1, groups_at_once=groups_at_once)
        )
        without_trainer(module)
        monkeypatch.setattr(module, "manual_backward", lambda loss: loss.backward())
        monkeypatch.setattr(module, "take_step", lambda: None)
        module.training_step(problems, 0)
        return {name: p.grad for name, p in module.named_parameters() if p.grad is not None}

    whole = gradients(problems, 5)
    assert max(float(gradient.abs().max()) for gradient in whole.values()) > 1e-3
    for others in (
        gradients(problems, 1),
        gradients(problems, 2),
        gradients([*reversed(problems)], 2),
    ):
        assert others.keys() == whole.keys()
        assert all(torch.allclose(others[name], whole[name], atol=1e-5) for name in whole)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["coconut", "codi"])
def test_what_is_rewarded_becomes_likelier(
    method: str, starts: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a reward for answers that begin with the token of the digit 7."""
    module = make(
        starts[method],
        sampler=GaussianNoise(0.5),
        group_size=8,
        groups_at_once=16,
        lr=3e-3,
        kl_factor=0.0,
    )
    favoured = module.reasoner.tokenizer.encode("7", add_special_tokens=False)[0]
    seen: list[float] = []
    sample = GrpoModule.sample_groups

    def rewarded(self: GrpoModule, *args):
        rollouts, _ = sample(self, *args)
        reward = (rollouts.answer_ids == favoured).any(-1).float()
        seen.append(float(reward.mean()))
        return rollouts, reward

    monkeypatch.setattr(GrpoModule, "sample_groups", rewarded)
    make_trainer(tmp_path, epochs=6).fit(module, datamodule=make_data())
    assert sum(seen[-4:]) > 2 * sum(seen[:4]) + 0.4
    assert load_reasoner(tmp_path / "last.ckpt").spec.method == method


@pytest.mark.slow
def test_a_resumed_run_ends_with_the_same_weights(starts: dict[str, Path], tmp_path: Path) -> None:
    """The frozen start is the first one then, not what is resumed; the rate falls on, batch by batch."""

    def module() -> ReinforcementModule:
        options = {"kl_factor": 0.5, "passes": 2, "warmup": 0.2, "schedule": "cosine"}
        options["groups_at_once"] = 16
        return half_right(make(starts["coconut"], sampler=MCDropout(0.2), **options))

    whole, first, second = Weights(), Weights(stop_after=1), Weights()
    trainer = make_trainer(tmp_path / "a", callbacks=[whole])
    trainer.fit(module(), make_data(32))
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0)
    make_trainer(tmp_path / "b", callbacks=[first]).fit(module(), make_data(32))
    last = tmp_path / "b" / "last.ckpt"
    make_trainer(tmp_path / "b", callbacks=[second]).fit(
        module(), make_data(32), ckpt_path=last, weights_only=True
    )
    assert first.prints + second.prints == whole.prints
    assert len(set(whole.prints)) > 1, "it should learn"
    state = torch.load(last, weights_only=True)
    assert not any("frozen" in name for name in state["state_dict"])
    assert state["lightning_ltts"]["trained_under"] == MCDropout(0.2).settings()


def changed(before: Path, after: Path) -> dict[str, Tensor]:
    """Weights that training has changed, by how much."""
    old, new = (load_reasoner(path).state_dict() for path in (before, after))
    moved = {name: (new[name] - old[name]).abs() for name in old}
    return {name: change for name, change in moved.items() if change.max() > 0}


@pytest.mark.slow
def test_adapters_are_trained_alone_and_merged(starts: dict[str, Path], tmp_path: Path) -> None:
    """What is loaded says what was trained; beside the matrices with adapters nothing has moved."""
    start = Start(str(starts["coconut"]), lora=Lora(rank=2, dropout=0.5, targets=("c_proj",)))
    options = {"sampler": SingularValueNoise(0.5, "o"), "group_size": 4, "oversampling": 1}
    module = half_right(GrpoModule(start, kl_factor=0.1, lr=1e-2, **options))  # type: ignore[arg-type]
    make_trainer(tmp_path, epochs=1).fit(module, make_data(16))
    moved = changed(starts["coconut"], tmp_path / "last.ckpt")
    assert len(moved) == 4  # of attention and MLP, in two blocks
    assert all(key.endswith("c_proj.weight") for key in moved)
    loaded, trained = load_reasoner(tmp_path / "last.ckpt").eval(), module.reasoner.eval()
    ids = torch.arange(3, 20)[None]
    assert torch.allclose(
        loaded.backbone(input_ids=ids).logits, trained.backbone(input_ids=ids).logits, atol=1e-5
    )


@pytest.mark.slow
def test_only_some_matrices_are_trained(
    starts: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values alone: a third of the columns in GPT-2, a matrix of its own in Llama."""
    truths = [problem.value for problem in WordProblems("train", 16).load()]
    every_second(monkeypatch, truths)
    for name in ("coconut", "llama"):
        module = make(starts[name], trained=["v"])
        make_trainer(tmp_path / name, epochs=1).fit(module, make_data(16))
        moved = changed(starts[name], tmp_path / name / "last.ckpt")
        if name == "llama":
            assert moved
            assert all(key.endswith("self_attn.v_proj.weight") for key in moved)
        else:
            assert all(key.endswith("attn.c_attn.weight") for key in moved)
            query, key, value = next(iter(moved.values())).chunk(3, dim=1)
            assert float(query.max()) == float(key.max()) == 0
            assert float(value.max()) > 0


@pytest.mark.slow
def test_what_is_refused(starts: dict[str, Path], tmp_path: Path) -> None:
    start = starts["coconut"]
    with pytest.raises(ConfigError, match=r"give its checkpoint as start\.pretrained"):
        GrpoModule(Start())
    with pytest.raises(ConfigError, match="set answer=false"):
        make(start, sampler=MCDropout(0.1, answer=True))
    with pytest.raises(ConfigError, match="passes=0 of GrpoModule must be a whole number"):
        make(start, passes=0)
    with pytest.raises(ConfigError, match="temperature above 0"):
        make(start, temperature=0.0)
    with pytest.raises(ConfigError, match=r"either trained or start\.lora"):
        GrpoModule(Start(str(start), lora=Lora(4)), trained=["v"])
    with pytest.raises(ConfigError, match="weight_decay of GrpoModule must be 0"):
        make(start, trained=["v"], weight_decay=0.1)
    make_trainer(tmp_path, epochs=1).fit(make_colar(), datamodule=make_data(16))
    with pytest.raises(ConfigError, match=r"use ColarGrpoModule \(model=colar_grpo\)"):
        make(tmp_path / "last.ckpt")
