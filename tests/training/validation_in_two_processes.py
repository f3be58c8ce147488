"""Validation and test in each of some processes, as `torch.distributed.run` starts them.

Arguments: FOLDER DEVICES.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_ltts.data.problem_data import ProblemData
from lightning_ltts.data.problems import Problem
from lightning_ltts.data.word_problems import WordProblems
from lightning_ltts.mining.data import MiningData
from lightning_ltts.sampling import GaussianNoise
from lightning_ltts.trainer import Trainer
from lightning_ltts.training.coconut import CoconutModule
from lightning_ltts.training.latent_rm import LatentRMModule
from lightning_ltts.training.start import Start


class HalfRight(CoconutModule):
    """Generates, and is right where a question is of even length, so that every problem counts."""

    def greedy_correct(self, problems: list[Problem]) -> Tensor:
        found = super().greedy_correct(problems)
        assert found.shape == (len(problems),)
        return torch.tensor([float(len(problem.question) % 2 == 0) for problem in problems])


def main() -> None:
    torch.set_num_threads(1)
    folder, devices = Path(sys.argv[1]), int(sys.argv[2])
    reasoner = str(folder / "reasoner.ckpt")
    strategy = {"strategy": "ddp"} if devices > 1 else {}
    metrics: dict[str, Any] = {}
    for size, batch_size in ((65, 8), (7, 1)):
        problems = WordProblems("valid", size)
        data = ProblemData(problems, problems, problems, eval_batch_size=batch_size)
        trainer = Trainer(
            accelerator="cpu", devices=devices, logger=False, enable_progress_bar=False, **strategy
        )
        module = HalfRight(Start(reasoner))
        for verb in (trainer.validate, trainer.test):
            (found,) = verb(module, datamodule=data, verbose=False)
            metrics |= {f"{name} of {size}": value for name, value in found.items()}
    mining = MiningData(
        reasoner,
        GaussianNoise(0.8),
        WordProblems("train", 8),
        WordProblems("valid", 5),
        store=str(folder / "store"),
        val_num_samples=4,
        batch_size=1,
    )
    (found,) = trainer.validate(LatentRMModule(reasoner), datamodule=mining, verbose=False)
    if trainer.is_global_zero:
        (folder / f"{devices}.json").write_text(json.dumps(metrics | found))


if __name__ == "__main__":
    main()
