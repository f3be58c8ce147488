import gc
from collections.abc import Iterator
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from lightning_ltts.data.word_problems import WordProblems
from lightning_ltts.errors import ConfigError
from lightning_ltts.sampling import GaussianNoise, MCDropout
from lightning_ltts.training.gradient_checkpointing import GradientCheckpointing
from lightning_ltts.training.reasoner import ReasonerModule
from tests.tiny import BACKBONES
from tests.training.helpers import (
    CURRICULUM,
    make_coconut,
    make_codi,
    make_colar,
    make_data,
    make_trainer,
    without_trainer,
)


@pytest.fixture(scope="module", autouse=True)
def unfrozen() -> Iterator[None]:
    """Afterwards the garbage collector looks after everything again."""
    yield
    gc.unfreeze()


def make_module(method: str, family: str) -> ReasonerModule:
    if method == "coconut":
        module = make_coconut(family)
        module.stage = CURRICULUM.stage_at(2)
        return module
    return {"codi": make_codi, "colar": make_colar}[method](family)


def loss_and_bytes(module: ReasonerModule) -> tuple[torch.Tensor, int]:
    """The loss of a batch, and how much memory is held, by the graph and by what is to run again."""
    held: dict[int, int] = {}

    def hold(tensor: torch.Tensor) -> torch.Tensor:
        held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    without_trainer(module)
    weights = {p.untyped_storage().data_ptr() for p in module.parameters()}
    gc.collect()
    gc.freeze()  # what is there already does not count, and need not be looked through
    with saved_tensors_hooks(hold, lambda x: x):
        loss = module.loss_of(WordProblems("train", 8).load())
    gc.collect()
    for thing in gc.get_objects():
        if type(thing) is torch.Tensor:
            hold(thing)
    return loss, sum(size for at, size in held.items() if at not in weights)


@pytest.mark.slow
@pytest.mark.parametrize("family", list(BACKBONES))
@pytest.mark.parametrize("method", ["coconut", "codi", "colar"])
def test_same_loss_and_gradients_in_less_memory(method: str, family: str) -> None:
    module = make_module(method, family).eval()
    loss, size = loss_and_bytes(module)
    loss.backward()
    plain = [None if p.grad is None else p.grad.clone() for p in module.parameters()]
    module.zero_grad()
    callback = GradientCheckpointing()
    callback.on_fit_start(None, module)  # type: ignore[arg-type]
    again, less = loss_and_bytes(module)
    again.backward()
    assert float(again) == pytest.approx(float(loss), abs=1e-6)
    for before, parameter in zip(plain, module.parameters(), strict=True):
        assert (before is None) == (parameter.grad is None)
        assert before is None or torch.allclose(before, parameter.grad, atol=1e-6)
    assert less < 0.8 * size
    callback.on_fit_end(None, module)  # type: ignore[arg-type]
    assert not any("forward" in vars(block) for block in module.reasoner.blocks)


@pytest.mark.slow
def test_dropout_is_drawn_once(tmp_path: Path) -> None:
    """Training with it ends in the weights that it ends in without, dropout and validation included."""
    ends = []
    for callbacks in ([], [GradientCheckpointing()]):
        module = make_coconut()
        for part in module.modules():
            if isinstance(part, torch.nn.Dropout):
                part.p = 0.2
        trainer = make_trainer(tmp_path / str(len(callbacks)), epochs=3, callbacks=callbacks)
        torch.manual_seed(1)
        trainer.fit(module, datamodule=make_data(32))
        ends.append(torch.cat([p.detach().flatten() for p in module.parameters()]))
    assert torch.allclose(*ends, atol=1e-5)


def test_only_for_reasoners() -> None:
    with pytest.raises(ConfigError, match="not LightningModule; leave the callback out"):
        GradientCheckpointing().on_fit_start(None, pl.LightningModule())  # type: ignore[arg-type]


def test_not_under_a_sampler_that_perturbs_passes() -> None:
    """Noise on thoughts is fine: it is drawn outside of the blocks."""
    callback = GradientCheckpointing()
    with pytest.raises(ConfigError, match=r"does not go with MCDropout\(.*leave the callback out"):
        callback.on_fit_start(None, make_coconut(sampler=MCDropout(0.1)))  # type: ignore[arg-type]
    callback.on_fit_start(None, make_coconut(sampler=GaussianNoise(0.1)))  # type: ignore[arg-type]
