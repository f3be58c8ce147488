from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from lightning_ltts.training.latent_rm import LatentRMModule
from tests.training.helpers import make_coconut, make_data, make_trainer


@pytest.fixture(autouse=True)
def allowed() -> Iterator[None]:
    """cuDNN's attention may be used before the test, and after it as it might before."""
    was = torch.backends.cuda.cudnn_sdp_enabled()
    torch.backends.cuda.enable_cudnn_sdp(True)
    yield
    torch.backends.cuda.enable_cudnn_sdp(was)


def test_a_reasoner_is_trained_without_cudnn_attention(tmp_path: Path) -> None:
    make_trainer(tmp_path, 1, limit_train_batches=1).fit(make_coconut("gpt2"), make_data())
    assert not torch.backends.cuda.cudnn_sdp_enabled()


def test_a_latent_rm_is_trained_without_cudnn_attention(reasoner_file: Path) -> None:
    module = LatentRMModule(str(reasoner_file))
    module.trainer = SimpleNamespace(datamodule=None)
    module.on_fit_start()
    assert not torch.backends.cuda.cudnn_sdp_enabled()
