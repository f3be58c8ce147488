"""Tiny modules, data and trainers for tests of training."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from lightning_ltts.data.problem_data import ProblemData
from lightning_ltts.data.problems import Problem
from lightning_ltts.data.tokenization import WordTokenizer
from lightning_ltts.data.word_problems import WordProblems
from lightning_ltts.engine.rollout import Rollouts
from lightning_ltts.training.coconut import CoconutModule
from lightning_ltts.training.codi import CodiModule
from lightning_ltts.training.colar import ColarModule
from lightning_ltts.training.curriculum import Curriculum
from lightning_ltts.training.reasoner import ReasonerModule
from lightning_ltts.training.reinforcement import ReinforcementModule
from lightning_ltts.training.start import Start
from tests.tiny import BACKBONES

NO_DROPOUT = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
CURRICULUM = Curriculum(1, (1, 1))


def make_coconut(family: str = "gpt2", max_number: int = 20, **options) -> CoconutModule:
    torch.manual_seed(0)
    backbone = BACKBONES[family] | (NO_DROPOUT if family == "gpt2" else {})
    return CoconutModule(
        Start(tokenizer=WordTokenizer(max_number), backbone=backbone),
        CURRICULUM,
        max_answer_tokens=4,
        **options,
    )


def make_codi(family: str = "gpt2", **options) -> CodiModule:
    torch.manual_seed(0)
    backbone = BACKBONES[family] | (NO_DROPOUT if family == "gpt2" else {})
    start = Start(tokenizer=WordTokenizer(20), backbone=backbone, lora=options.pop("lora", None))
    return CodiModule(start, num_thoughts=2, max_answer_tokens=4, **options)


def make_colar(family: str = "gpt2", **options) -> ColarModule:
    torch.manual_seed(0)
    backbone = BACKBONES[family] | (NO_DROPOUT if family == "gpt2" else {})
    settings = {
        "num_thoughts": 12,
        "max_answer_tokens": 4,
        "compression": 2,
        "prompt_template": "{question} {speed}\n",
    }
    return ColarModule(
        Start(tokenizer=WordTokenizer(20), backbone=backbone),
        **{**settings, "embedding_std": 0.1, **options},
    )


def half_right(module: ReinforcementModule) -> ReinforcementModule:
    """Has every second trajectory of a group rewarded, so that all groups teach."""
    graded = module.graded

    def every_second(problems: list[Problem], *options: Any) -> tuple[Rollouts, Tensor]:
        rollouts, reward = graded(problems, *options)
        return rollouts, (torch.arange(reward.shape[1]) % 2).float().expand_as(reward)

    module.graded = every_second  # type: ignore[method-assign]
    return module


def make_data(train: int = 64, batch_size: int = 16) -> ProblemData:
    return ProblemData(
        WordProblems("train", train),
        WordProblems("valid", 8),
        WordProblems("test", 8),
        batch_size=batch_size,
        eval_batch_size=8,
    )


def without_trainer(module: ReasonerModule) -> SimpleNamespace:
    """Lets a module be called where no Trainer runs; returns what it takes for one. Nothing is logged."""
    module.log = module.log_dict = lambda *args, **kw: None  # type: ignore[method-assign]
    trainer = SimpleNamespace(global_step=0, current_epoch=0, world_size=1, global_rank=0)
    trainer.fit_loop = SimpleNamespace(total_batch_idx=0)
    module.trainer = trainer
    return trainer


def make_trainer(folder: Path, epochs: int = 3, **options) -> pl.Trainer:
    checkpoint = ModelCheckpoint(folder, save_last=True)  # the last epoch, good or not
    return pl.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        logger=False,
        callbacks=[checkpoint, *options.pop("callbacks", [])],
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **options,
    )
