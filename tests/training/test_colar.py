from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from lightning_ltts import RolloutEngine, load_reasoner
from lightning_ltts.data.word_problems import WordProblems
from lightning_ltts.errors import ConfigError, DataError
from lightning_ltts.models.latent_lm import left_pad
from tests.training.helpers import make_colar as make_module
from tests.training.helpers import make_data, make_trainer, without_trainer


@pytest.mark.slow
@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("compression", [1, 2, 5])
def test_losses_equal_one_unpadded_sequence_each(family: str, compression: int) -> None:
    """Thoughts are sums of embeddings over the root of their number; each position predicts what comes next."""
    module = make_module(family, spread=False).eval()
    reasoner, problems = module.reasoner, WordProblems("train", 5).load()
    drawing = torch.Generator().manual_seed(1)
    tokens, distances = [], []
    for problem in problems:
        steps = [token for step in module.encode(problem).steps for token in step]
        groups = [steps[i : i + compression] for i in range(0, len(steps), compression)]
        drawn = [group[int(torch.randint(len(group), (), generator=drawing))] for group in groups]
        told = reasoner.tokenizer.encode(f"{problem.question} {compression}\n")
        prompt = [*told, reasoner.start_id]
        thoughts = torch.stack(
            [reasoner.embed(torch.tensor(group)).sum(0) / len(group) ** 0.5 for group in groups]
        )
        answer = module.encode(problem).answer
        tail = reasoner.embed(torch.tensor([reasoner.end_id, *answer[:-1]]))
        sequence = torch.cat([reasoner.embed(torch.tensor(prompt)), thoughts, tail])[None]
        hidden = reasoner.backbone.base_model(inputs_embeds=sequence).last_hidden_state[
            0, len(prompt) - 1 :
        ]
        labels = torch.tensor([*drawn, reasoner.end_id, *answer])
        tokens += F.cross_entropy(reasoner.logits(hidden), labels, reduction="none").tolist()
        predicted = reasoner.thought_head(hidden[: len(groups)])
        distances += (((predicted - thoughts) / 0.1) ** 2).mean(-1).tolist()
    token, latent = module.losses(problems, compression, torch.Generator().manual_seed(1))
    assert float(token) == pytest.approx(sum(tokens) / len(tokens), rel=1e-4)
    assert float(latent) == pytest.approx(sum(distances) / len(distances), rel=1e-4)


@pytest.mark.slow
def test_trains_and_decides_by_itself_when_to_stop(tmp_path: Path) -> None:
    """After a few epochs the losses are lower, and the checkpoint loads as an open-ended reasoner."""
    module = make_module(lr=5e-3)
    problems = WordProblems("train", 64).load()
    before = [float(x) for x in module.losses(problems, 2, torch.Generator().manual_seed(0))]
    trainer = make_trainer(tmp_path, epochs=6)
    trainer.fit(module, datamodule=make_data(128))
    token, _ = (float(x) for x in module.losses(problems, 2, torch.Generator().manual_seed(0)))
    assert token < 0.8 * before[0]
    reasoner = load_reasoner(tmp_path / "last.ckpt")
    assert reasoner.spec.open_ended
    assert reasoner.spec.prompt_template == "{question} 2\n"
    assert torch.equal(
        reasoner.thought_head.log_std.weight, module.reasoner.thought_head.log_std.weight.detach()
    )
    rollouts = RolloutEngine(reasoner).rollout(
        *left_pad([reasoner.encode_prompt(problems[0].question)], reasoner.pad_id)
    )
    assert 0 <= int(rollouts.thought_counts) <= 12


@pytest.mark.slow
def test_batches_are_the_same_after_a_resume(tmp_path: Path) -> None:
    """Compression factors and drawn tokens follow from the step, so that a resumed run ends with the same weights."""
    whole, begun, resumed = make_module(lr=1e-3), make_module(lr=1e-3), make_module(lr=1e-3)
    for module, folder, stop, path in (
        (whole, "whole", None, None), (begun, "part", 1, None), (resumed, "rest", None, tmp_path / "part" / "last.ckpt"),
    ):  # fmt: skip
        trainer = make_trainer(tmp_path / folder, epochs=2)
        if stop:
            trainer.fit_loop.epoch_loop.max_steps = 4  # of four batches an epoch
        trainer.fit(module, datamodule=make_data(), ckpt_path=path)
    assert all(
        torch.allclose(a, b, atol=1e-6)
        for a, b in zip(whole.parameters(), resumed.parameters(), strict=True)
    )
    assert not all(
        torch.equal(a, b) for a, b in zip(whole.parameters(), begun.parameters(), strict=True)
    )


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="compression=6"):
        make_module(compression=6)
    with pytest.raises(
        DataError, match=r"thoughts at compression 2, but it must be 1 to num_thoughts=2"
    ):
        make_trainer(tmp_path).fit(make_module(num_thoughts=2), datamodule=make_data())


def test_thoughts_to_come_are_targets_without_gradient() -> None:
    """The distance to them moves what predicts, not the embeddings that the targets are made of."""
    module = make_module("gpt2", spread=False)
    problems = WordProblems("train", 2).load()
    targets: list[torch.Tensor] = []
    distance = module._distance

    def seen(
        hidden: torch.Tensor, thoughts: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor:
        targets.append(thoughts)
        return distance(hidden, thoughts, generator)

    module._distance = seen  # type: ignore[method-assign]
    module.losses(problems, 2, torch.Generator().manual_seed(0))
    assert not targets[0].requires_grad


def test_every_compression_is_drawn() -> None:
    """From 1 to the largest, by the step alone."""
    module, seen = make_module("gpt2", max_compression=3), set()
    trainer = without_trainer(module)
    nothing = torch.zeros(())
    module.losses = lambda problems, compression, _: (seen.add(compression), (nothing, nothing))[1]  # type: ignore[method-assign]
    for trainer.fit_loop.total_batch_idx in range(60):
        module.loss_of(WordProblems("train", 1).load())
    assert seen == {1, 2, 3}
