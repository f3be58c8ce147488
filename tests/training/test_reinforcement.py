"""What all modules of reinforcement share."""

from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision, Precision

from lightning_ltts.models.folders import save_folder
from lightning_ltts.models.latent_lm import LatentReasoner
from lightning_ltts.training.noise import NoiseModule
from lightning_ltts.training.start import Start
from tests.training.helpers import half_right, make_data, make_trainer


class Norms(pl.Callback):
    """The norm of the gradients that every step goes along."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.optimizers[0].register_step_post_hook(self._see)

    def _see(self, optimizer: torch.optim.Optimizer, *_: object) -> None:
        weights = [p for group in optimizer.param_groups for p in group["params"]]
        gradients = [p.grad.flatten() for p in weights if p.grad is not None]
        self.seen.append(float(torch.cat(gradients).norm()))


@pytest.mark.slow
@pytest.mark.parametrize("scaled", [False, True], ids=["32-true", "16-mixed"])
def test_gradients_are_clipped_as_they_are(
    scaled: bool, gpt2: LatentReasoner, tmp_path: Path
) -> None:
    """Half precision scales the loss up, by 65,536 at first; the limit holds without that."""
    save_folder(gpt2, tmp_path / "reasoner")
    start = Start(pretrained=str(tmp_path / "reasoner"))
    module = half_right(NoiseModule(start, hidden=8, group_size=4, max_grad_norm=1e-3))
    norms, plugin = Norms(), Precision()
    if scaled:
        plugin = MixedPrecision("16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu"))
    trainer = make_trainer(
        tmp_path, epochs=1, callbacks=[norms], plugins=[plugin], default_root_dir=tmp_path
    )
    trainer.fit(module, datamodule=make_data(32))
    assert norms.seen == pytest.approx([1e-3] * len(norms.seen), rel=0.01)
    assert norms.seen
