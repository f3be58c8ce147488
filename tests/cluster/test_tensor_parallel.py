"""Heads divided over devices: the same trajectories and predictions, and what is refused."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from safetensors.torch import load_file
from transformers import PreTrainedTokenizerFast

from lightning_ltts.cluster.sharded import refuse_sharded
from lightning_ltts.data.word_problems import WordProblems
from lightning_ltts.errors import ConfigError
from lightning_ltts.mining.data import MiningData
from lightning_ltts.models.divided_heads import divide_heads
from lightning_ltts.sampling import GaussianNoise, SingularValueNoise
from lightning_ltts.trainer import Trainer
from lightning_ltts.training.coconut import CoconutModule
from lightning_ltts.training.start import Start
from tests.cluster.commands import LTTS, MINE, PREDICT, RUN, finish, start
from tests.cluster.helpers import close, rows
from tests.helpers import save_latent_rm, save_reasoner
from tests.tiny import make_latent_rm, make_reasoner

DIVIDED = "trainer=tensor_parallel"
SPREAD = [f"trainer.strategy.init_args.{part}_parallel_size=2" for part in ("data", "tensor")]


@pytest.fixture(scope="module")
def models(
    tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory
) -> list[str]:
    """A reasoner of a family that can be divided, and its LatentRM."""
    folder = tmp_path_factory.mktemp("divided")
    reasoner = make_reasoner("llama", tokenizer)
    reasoner_file = save_reasoner(reasoner, folder / "reasoner.ckpt")
    latent_rm_file = save_latent_rm(make_latent_rm(reasoner), folder / "latent_rm.ckpt")
    return [f"reasoner={reasoner_file}", f"latent_rm={latent_rm_file}"]


@pytest.fixture
def dividing() -> Trainer:
    strategy = ModelParallelStrategy(data_parallel_size=1, tensor_parallel_size=2)
    return Trainer(accelerator="cpu", devices=2, strategy=strategy, logger=False)


def expect_the_same(one: Path, two: Path) -> None:
    """Stores with the same trajectories, but for the rounding of sums over devices."""
    files = sorted(one.glob("*/*.safetensors"))
    assert files
    assert [x.name for x in files] == [x.name for x in sorted(two.glob("*/*.safetensors"))]
    for path in files:
        found = load_file(two / path.relative_to(one))
        for name, expected in load_file(path).items():
            exact = not expected.is_floating_point()
            torch.testing.assert_close(
                found[name], expected, atol=0 if exact else 1e-3, rtol=0 if exact else 1e-3
            )


@pytest.mark.processes
@pytest.mark.parametrize(
    "options",
    [
        [DIVIDED],
        [DIVIDED, "trainer.devices=4", *SPREAD],
        [DIVIDED, "data.init_args.informative=4", "data.init_args.keep_uninformative=false"],
        [DIVIDED, "sampler=mc_dropout", "sampler.init_args.prompt=true"],
    ],
    ids=["two", "two-times-two", "until-enough", "dropout"],
)
def test_mining(models: list[str], options: list[str], tmp_path: Path) -> None:
    """Also by two groups of two devices, which have shares of the questions."""
    alone = [x for x in options if not x.startswith("trainer")]
    commands = {"one": alone, "divided": options}
    for name, own in commands.items():
        finish(start(tmp_path / name, [*LTTS, *MINE, models[0], *own]))
    expect_the_same(*(tmp_path / name / RUN / "trajectories" for name in commands))


@pytest.mark.processes
def test_prediction(models: list[str], tmp_path: Path) -> None:
    """Beams, too, with a LatentRM that is divided likewise."""
    for name, own in (("one", []), ("divided", [DIVIDED])):
        said = finish(start(tmp_path / name, [*LTTS, *PREDICT, *models, *own]))
        assert "beam@4" in said
    one, divided = (rows(tmp_path / name / RUN) for name in ("one", "divided"))
    assert len(one) == 9
    assert close(one, divided)


@pytest.mark.parametrize(
    ("family", "devices", "said"),
    [
        ("gpt2", 2, "the gpt2 family cannot be divided by heads"),
        ("llama", 3, "4 heads cannot be divided over 3 devices"),
        ("llama", 4, "2 key and value heads cannot be divided over 4 devices"),
    ],
)
def test_what_cannot_be_divided(
    family: str, devices: int, said: str, tokenizer: PreTrainedTokenizerFast
) -> None:
    mesh: Any = SimpleNamespace(size=lambda: devices)
    with pytest.raises(ConfigError, match=said):
        divide_heads(make_reasoner(family, tokenizer).backbone, mesh)


def test_a_sampler_that_perturbs_matrices(
    dividing: Trainer, reasoner_file: Path, tmp_path: Path
) -> None:
    problems = (WordProblems("train", 4), WordProblems("valid", 4))
    data = MiningData(str(reasoner_file), SingularValueNoise(), *problems, store=str(tmp_path))
    data.trainer = dividing
    with pytest.raises(ConfigError, match="perturbs whole matrices"):
        data.setup("mine")


def test_one_device_shards_nothing() -> None:
    strategy = ModelParallelStrategy(data_parallel_size=1, tensor_parallel_size=1)
    refuse_sharded(Trainer(accelerator="cpu", devices=1, strategy=strategy, logger=False), "mining")


def test_training_is_refused(dividing: Trainer, reasoner_file: Path, tmp_path: Path) -> None:
    """Of a LatentRM before anything is mined for it, and of a reasoner."""
    problems = (WordProblems("train", 4), WordProblems("valid", 4))
    data = MiningData(str(reasoner_file), GaussianNoise(0.5), *problems, store=str(tmp_path))
    data.trainer = dividing
    with pytest.raises(ConfigError, match=r"^a LatentRM is not trained with its heads divided"):
        data.setup("fit")
    assert not any(tmp_path.iterdir())
    module = CoconutModule(Start(pretrained=str(reasoner_file)))
    module.trainer, module._device_mesh = dividing, SimpleNamespace()
    with pytest.raises(ConfigError, match=r"^a reasoner is not trained with its heads divided"):
        module.configure_model()
