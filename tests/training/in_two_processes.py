"""A training in each of two processes, started by `torch.distributed.run`: FOLDER STRATEGY METHOD."""

import sys
from pathlib import Path

import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import ModelParallelStrategy

from lightning_ltts.training.colar_grpo import ColarGrpoModule
from lightning_ltts.training.reasoner import ReasonerModule
from lightning_ltts.training.start import Start
from tests.training import test_coconut, test_codi, test_colar


def make_module(method: str, folder: Path) -> ReasonerModule:
    if method == "colar_grpo":  # goes on from what colar left
        return ColarGrpoModule(Start(str(folder.parent / "colar/last.ckpt")), group_size=4, update_size=16, lr=1e-3)
    return {"coconut": test_coconut, "codi": test_codi, "colar": test_colar}[method].make_module()


def main() -> None:
    torch.set_num_threads(1)
    folder, strategy, method = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    sharded = ModelParallelStrategy(data_parallel_size=2, tensor_parallel_size=1, save_distributed_checkpoint=False)
    trainer = test_coconut.make_trainer(folder, epochs=3, strategy=sharded if strategy == "fsdp" else "ddp", devices=2)
    for callback in trainer.callbacks:
        if isinstance(callback, ModelCheckpoint):
            callback.monitor = None
    trainer.fit(make_module(method, folder), datamodule=test_coconut.make_data(32))
    if trainer.is_global_zero:
        print("accuracy", float(trainer.callback_metrics["val/accuracy"]))


if __name__ == "__main__":
    main()
