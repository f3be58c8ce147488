"""What a training starts from."""

from pathlib import Path

import pytest
import torch

from lightning_ltts.training.start import Lora, Start
from tests.models.helpers import make_base


@pytest.mark.parametrize("token", [None, "<pad>"])
def test_adapters_start_from_markers_that_differ(token: str | None, tmp_path: Path) -> None:
    """Their rows are not trained: of equal ones, an end could never be told from a start."""
    make_base(tmp_path / "base", "gpt2", pad=True)
    plain, adapted = (
        Start(str(tmp_path / "base"), new_tokens_from=token, lora=lora).build("coconut", {})
        for lora in (None, Lora(rank=2))
    )
    markers = [plain.start_id, plain.end_id, plain.tokenizer.get_vocab()["<|latent|>"]]
    tables = [model.backbone.get_output_embeddings().weight for model in (plain, adapted)]
    assert all(torch.equal(tables[0][markers[0]], tables[0][marker]) for marker in markers)
    for one, other in ((0, 1), (0, 2), (1, 2)):
        moved = (tables[1][markers[one]] - tables[1][markers[other]]).std()
        assert 0.5 < moved / tables[0].std() < 2
    others = [i for i in range(len(tables[0])) if i not in markers]
    assert torch.equal(tables[0][others], tables[1][others])
    assert torch.equal(tables[0][markers[0]], tables[1][markers[0]])
    assert not tables[1].requires_grad
