"""Trainings in each of two processes, one after the other, started by `torch.distributed.run`: FOLDER.

All of them share one start, because importing the libraries takes longer than a tiny training.
"""

import sys
from pathlib import Path

import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.utilities import rank_zero_only

from lightning_ltts.errors import ConfigError
from lightning_ltts.monitoring.throughput import Throughput
from lightning_ltts.training.colar_grpo import ColarGrpoModule
from lightning_ltts.training.reasoner import ReasonerModule
from lightning_ltts.training.start import Start
from tests.training.helpers import make_coconut, make_codi, make_colar, make_data, make_trainer

METHODS = {"coconut": make_coconut, "codi": make_codi, "colar": make_colar}
say = rank_zero_only(print)


def train(module: ReasonerModule, folder: Path, strategy: str) -> None:
    """Ends with folder/STRATEGY/METHOD/last.ckpt; says the last accuracy."""
    method = type(module).__name__
    sharded = ModelParallelStrategy(
        data_parallel_size=2, tensor_parallel_size=1, save_distributed_checkpoint=False
    )
    chosen = sharded if strategy == "fsdp" else "ddp"
    options = {"strategy": chosen, "devices": 2, "callbacks": [Throughput()]}
    trainer = make_trainer(folder / strategy / method, epochs=3, **options)
    trainer.fit(module, datamodule=make_data(32))
    say(strategy, method, "accuracy", float(trainer.callback_metrics["val/accuracy"]))
    rate = torch.stack([trainer.callback_metrics["train/questions_per_second"]])
    both = [torch.zeros(1) for _ in range(2)]
    torch.distributed.all_gather(both, rate.float())
    assert torch.equal(*both), "it is that of both processes together"


def main() -> None:
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    for strategy in ("ddp", "fsdp"):
        for make in METHODS.values():
            train(make(), folder, strategy)
        start = Start(
            str(folder / strategy / "ColarModule/last.ckpt")
        )  # reinforcement goes on from it
        try:
            train(ColarGrpoModule(start, group_size=4, update_size=16, lr=1e-3), folder, strategy)
        except ConfigError as error:
            say(strategy, "refused:", error)
    # together, since gloo aborts a process whose other one has left
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
