"""Trainings in each of two processes, one after the other, started by `torch.distributed.run`: FOLDER.

All of them share one start, because importing the libraries takes longer than a tiny training.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from lightning_ltts.errors import ConfigError
from lightning_ltts.models.folders import save_folder
from lightning_ltts.models.latent_rm import LatentRM
from lightning_ltts.monitoring.throughput import Throughput
from lightning_ltts.sampling import GaussianNoise
from lightning_ltts.training.colar_grpo import ColarGrpoModule
from lightning_ltts.training.curriculum import Curriculum
from lightning_ltts.training.grpo import GrpoModule
from lightning_ltts.training.noise import NoiseModule
from lightning_ltts.training.reasoner import ReasonerModule
from lightning_ltts.training.reinforcement import ReinforcementModule
from lightning_ltts.training.self_training import SelfTrainingModule
from lightning_ltts.training.start import Start
from tests.training.helpers import (
    half_right,
    make_coconut,
    make_codi,
    make_colar,
    make_data,
    make_trainer,
)


def make_self_training() -> SelfTrainingModule:
    """It learns from trajectories that a LatentRM chooses, whose answers end at different times."""
    start = make_coconut()
    judge = LatentRM.from_reasoner(start.reasoner, reference=True, reads_answer=True)
    with TemporaryDirectory() as folder:
        save_folder(judge, folder)
        return SelfTrainingModule(
            start.start,
            folder,
            num_samples=4,
            curriculum=Curriculum(0, (1,), 3),
            max_answer_tokens=4,
            sampler=GaussianNoise(0.8),
        )


SUPERVISED: dict[str, Callable[[], ReasonerModule]] = {
    "CoconutModule": make_coconut,
    "CodiModule": make_codi,
    "ColarModule": make_colar,
    "step_supervision": lambda: make_coconut(step_factor=0.5),
    "mixed_stages": lambda: make_coconut(uniform_prob=0.6),
    "SelfTrainingModule": make_self_training,
}
say = rank_zero_only(print)


def reinforced(folder: Path) -> dict[str, Callable[[], ReinforcementModule]]:
    """Reinforcement of the reasoners that were trained in a folder, by name."""
    coconut, colar = (Start(str(folder / f"{x}Module/last.ckpt")) for x in ("Coconut", "Colar"))
    return {
        "ColarGrpoModule": lambda: ColarGrpoModule(colar, group_size=4, update_size=16, lr=1e-3),
        "GrpoModule": lambda: make_grpo(coconut),
        "NoiseModule": lambda: make_noise(coconut),
    }


def make_grpo(start: Start) -> ReinforcementModule:
    """It makes two steps on each batch, and computes the gradients of a step in several parts."""
    options = {"group_size": 4, "oversampling": 1, "groups_at_once": 6, "lr": 1e-3}
    return half_right(GrpoModule(start, GaussianNoise(0.5), **options))  # type: ignore[arg-type]


def make_noise(start: Start) -> ReinforcementModule:
    """Its head starts at random, and so with the same weights each time."""
    torch.manual_seed(0)
    return half_right(NoiseModule(start, hidden=8, group_size=4))


def train(name: str, module: ReasonerModule, folder: Path, strategy: str) -> None:
    """Ends with folder/STRATEGY/NAME/last.ckpt; says the last accuracy."""
    sharded = ModelParallelStrategy(
        data_parallel_size=2, tensor_parallel_size=1, save_distributed_checkpoint=False
    )
    chosen = sharded if strategy == "fsdp" else "ddp"
    options = {"strategy": chosen, "devices": 2, "callbacks": [Throughput()]}
    options["default_root_dir"] = folder / strategy / name
    trainer = make_trainer(folder / strategy / name, epochs=3, **options)
    trainer.fit(module, datamodule=make_data(32))
    say(strategy, name, "accuracy", float(trainer.callback_metrics["val/accuracy"]))
    rate = trainer.callback_metrics["train/questions_per_second"].float()
    require_same(rate, "it is that of both processes together")
    if strategy == "ddp":
        weights = torch.stack([p.detach().abs().sum() for p in module.parameters()])
        require_same(weights, "both processes make the same steps")


def require_same(mine: Tensor, why: str) -> None:
    """Ends the process where the other one has other numbers (N,)."""
    both = [torch.zeros_like(mine) for _ in range(2)]
    torch.distributed.all_gather(both, mine)
    assert torch.equal(*both), why


def main() -> None:
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    for strategy in ("ddp", "fsdp"):
        for name, make in SUPERVISED.items():
            train(name, make(), folder, strategy)
        for name, make in reinforced(folder / strategy).items():
            try:
                train(name, make(), folder, strategy)
            except ConfigError as error:
                say(strategy, name, "refused:", error)
    # together, since gloo aborts a process whose other one has left
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
