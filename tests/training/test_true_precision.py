"""Every command works where weights and activations have another type than float32."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
import torch

from lightning_ltts.analysis.predictions import read_rows
from lightning_ltts.data.word_problems import WordProblems
from lightning_ltts.mining.data import MiningData
from lightning_ltts.mining.store import TrajectoryStore
from lightning_ltts.prediction.data import PredictionData
from lightning_ltts.prediction.module import LatentSearch
from lightning_ltts.prediction.writer import PredictionWriter
from lightning_ltts.sampling import GaussianNoise, LearnedNoise
from lightning_ltts.sampling.samplers import LearnedSpread, MCDropout, TokenSampling
from lightning_ltts.search.beam import BeamSearch
from lightning_ltts.trainer import Trainer
from lightning_ltts.training.coconut import CoconutModule
from lightning_ltts.training.colar_grpo import ColarGrpoModule
from lightning_ltts.training.curriculum import Curriculum
from lightning_ltts.training.grpo import GrpoModule
from lightning_ltts.training.latent_rm import LatentRMModule
from lightning_ltts.training.noise import FILE, NoiseModule
from lightning_ltts.training.reinforcement import ReinforcementModule
from lightning_ltts.training.start import Lora, Start
from tests.helpers import save_reasoner
from tests.training.helpers import make_coconut, make_codi, make_colar, make_data

MODULES = {
    "coconut": make_coconut,
    "codi": lambda: make_codi(lora=Lora(rank=2), step_factor=1.0, sampler=MCDropout()),
    "colar": lambda: make_colar(sampler=GaussianNoise(relative_std=0.1)),
    "coconut of Llama": lambda: make_coconut("llama"),
}
PRECISIONS = {"bf16-true": torch.bfloat16, "16-true": torch.float16, "64-true": torch.float64}


def trainer(precision: str, folder: Path, **options) -> Trainer:
    options = {"max_epochs": 2, "limit_train_batches": 2, **options}
    return Trainer(
        precision=precision,
        accelerator="cpu",
        default_root_dir=folder,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )


def cases(methods: Iterable[str], everywhere: Sequence[str]) -> list[tuple[str, str]]:
    """All methods in float16, which has the fewest operations; those whose steps differ, in all types."""
    return [(m, p) for m in methods for p in PRECISIONS if p == "16-true" or m in everywhere]


@pytest.mark.slow
@pytest.mark.parametrize(("method", "precision"), cases(MODULES, ["coconut", "colar"]))
def test_fit_mine_and_predict(method: str, precision: str, tmp_path: Path) -> None:
    # the reasoner
    module = MODULES[method]()
    runner = trainer(precision, tmp_path)
    runner.fit(module, datamodule=make_data(32))
    assert module.reasoner.backbone.dtype == PRECISIONS[precision]
    assert all(weights.isfinite().all() for weights in module.parameters())
    path = tmp_path / "reasoner.ckpt"
    runner.save_checkpoint(path)
    runner.validate(module, datamodule=make_data(32), verbose=False)
    runner.test(module, datamodule=make_data(32), verbose=False)
    # mining and the LatentRM
    sampler = GaussianNoise(0.3)
    problems = WordProblems("train", 6, seed=1), WordProblems("valid", 4, seed=1)
    mined = MiningData(
        str(path), sampler, *problems, str(tmp_path / "store"), num_samples=3, num_rollouts=2,
        val_num_samples=3, batch_size=2, keep_uninformative=True, keep_clean=True,
    )  # fmt: skip
    scorer = LatentRMModule(
        str(path), reference=True, reads_answer=True, noise_free=True, hard_negatives=2.0
    )
    runner = trainer(precision, tmp_path)
    runner.fit(scorer, datamodule=mined)
    assert scorer.latent_rm.backbone.dtype == PRECISIONS[precision]
    assert all(weights.isfinite().all() for weights in scorer.parameters())
    runner.save_checkpoint(tmp_path / "rm.ckpt")
    assert TrajectoryStore(tmp_path / "store/train").manifest["complete"]
    # the search
    open_ended = method == "colar"
    search = LatentSearch(
        str(path), sampler, str(tmp_path / "rm.ckpt"), num_samples=3,
        beam=None if open_ended else BeamSearch(2, 2, trace=True),
    )  # fmt: skip
    writer = PredictionWriter(str(tmp_path / "predictions"), keep_thoughts=1)
    runner = trainer(precision, tmp_path, callbacks=[writer])
    runner.predict(search, datamodule=PredictionData(WordProblems("test", 4)))
    rows = read_rows(tmp_path / "predictions")
    assert len(rows) == 4
    assert all(len(sample["scores"]) for row in rows for sample in row["samples"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("written", "precision"), cases(["steps and answer", "answer alone"], ["steps and answer"])
)
def test_without_thoughts(written: str, precision: str, tmp_path: Path) -> None:
    """Chain of thought, and the answer at once: what is sampled is what is written."""
    module = CoconutModule(
        make_coconut().start,
        Curriculum(2, (), drop_all_steps=written == "answer alone"),
        max_answer_tokens=4,
    )
    runner = trainer(precision, tmp_path)
    runner.fit(module, datamodule=make_data(32))
    assert module.reasoner.backbone.dtype == PRECISIONS[precision]
    assert all(weights.isfinite().all() for weights in module.parameters())
    path = tmp_path / "reasoner.ckpt"
    runner.save_checkpoint(path)
    runner.validate(module, datamodule=make_data(32), verbose=False)
    mined = MiningData(
        str(path), TokenSampling(1.0), WordProblems("train", 6, seed=1),
        WordProblems("valid", 4, seed=1), str(tmp_path / "store"), num_samples=3, num_rollouts=0,
        val_num_samples=3, batch_size=2, keep_uninformative=True,
    )  # fmt: skip
    scorer = LatentRMModule(str(path), reference=True, reads_answer=True, answer_prediction=1.0)
    runner = trainer(precision, tmp_path)
    runner.fit(scorer, datamodule=mined)
    assert scorer.latent_rm.backbone.dtype == PRECISIONS[precision]
    assert all(weights.isfinite().all() for weights in scorer.parameters())
    runner.save_checkpoint(tmp_path / "rm.ckpt")
    search = LatentSearch(str(path), TokenSampling(1.0), str(tmp_path / "rm.ckpt"), num_samples=3)
    rows = predicted(search, precision, tmp_path)
    samples = [sample for row in rows for sample in row["samples"]]
    assert all(math.isfinite(sample["answer_score"]) for sample in samples)


def predicted(search: LatentSearch, precision: str, folder: Path) -> list[dict]:
    """Its rows of a few problems."""
    writer = PredictionWriter(str(folder / "predictions"))
    trainer(precision, folder, callbacks=[writer]).predict(
        search, datamodule=PredictionData(WordProblems("test", 3))
    )
    rows = read_rows(folder / "predictions")
    assert len(rows) == 3
    return rows


REINFORCED = {
    "colar": (make_colar, ColarGrpoModule, {"update_size": 4}),
    "coconut": (make_coconut, GrpoModule, {"sampler": MCDropout(0.3), "oversampling": 1}),
    "codi": (make_codi, GrpoModule, {"sampler": GaussianNoise(0.5), "oversampling": 1}),
    "learned noise": (make_coconut, NoiseModule, {"hidden": 8}),
}


@pytest.mark.slow
@pytest.mark.parametrize(("method", "precision"), cases(REINFORCED, ["colar", "coconut"]))
def test_reinforcement(method: str, precision: str, tmp_path: Path, monkeypatch) -> None:
    """Every second trajectory is said to be right, so that every group teaches something."""
    graded = ReinforcementModule.graded

    def every_second(self: ReinforcementModule, *args):
        rollouts, reward = graded(self, *args)
        return rollouts, (torch.arange(reward.shape[1]) % 2).to(reward).expand_as(reward)

    monkeypatch.setattr(ReinforcementModule, "graded", every_second)
    make, kind, options = REINFORCED[method]
    path = save_reasoner(make().reasoner, tmp_path / "reasoner.ckpt")
    module = kind(Start(pretrained=str(path)), group_size=4, lr=1e-3, **options)
    before = [weights.detach().double() for weights in module.parameters()]
    runner = trainer(precision, tmp_path, max_epochs=1)
    runner.fit(module, datamodule=make_data(32))
    assert module.reasoner.backbone.dtype == PRECISIONS[precision]
    after = [weights.detach().double() for weights in module.parameters()]
    assert any(not torch.equal(x, y) for x, y in zip(before, after, strict=True))
    assert all(weights.isfinite().all() for weights in after)
    sampler = {"colar": LearnedSpread, "learned noise": lambda: LearnedNoise(str(tmp_path / FILE))}
    chosen = sampler.get(method, lambda: GaussianNoise(0.3))()
    predicted(LatentSearch(str(path), chosen, num_samples=3), precision, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["contrastive_unnormalized", "bce", "pairwise"])
def test_losses_of_a_latent_rm(loss: str, reasoner_file: Path, tmp_path: Path) -> None:
    problems = WordProblems("train", 6, seed=1), WordProblems("valid", 4, seed=1)
    mined = MiningData(
        str(reasoner_file), MCDropout(), *problems, str(tmp_path / "store"), num_samples=3,
        num_rollouts=2, val_num_samples=3, batch_size=2, keep_uninformative=True,
    )  # fmt: skip
    scorer = LatentRMModule(str(reasoner_file), loss=loss, trained="head")
    trainer("bf16-true", tmp_path).fit(scorer, datamodule=mined)
