"""Weights of models that are only read: other places in memory, the same numbers."""

from pathlib import Path
from types import SimpleNamespace

import torch
from torch import nn
from transformers import PreTrainedTokenizerFast

from lightning_ltts.cluster.engine import Place
from lightning_ltts.models.cpu_layout import lay_out_for_reading
from lightning_ltts.models.folders import save_folder
from lightning_ltts.models.latent_lm import LatentReasoner
from lightning_ltts.prediction.module import LatentSearch
from lightning_ltts.sampling import GaussianNoise
from tests.tiny import make_reasoner


def test_values_stay_and_columns_lie_together() -> None:
    layer = nn.Linear(5, 7)
    before = layer.weight.detach().clone()
    rows = torch.randn(3, 5)
    expected = layer(rows)
    lay_out_for_reading(layer)
    assert torch.equal(layer.weight, before)
    assert layer.weight.stride() == (1, 7)
    torch.testing.assert_close(layer(rows), expected)
    lay_out_for_reading(layer)  # once more changes nothing
    assert layer.weight.stride() == (1, 7)
    assert torch.equal(layer.weight, before)


def test_embeddings_that_are_shared_and_half_precision_stay() -> None:
    embedding, head, half = nn.Embedding(7, 5), nn.Linear(5, 7, bias=False), nn.Linear(5, 7)
    head.weight = embedding.weight
    half.bfloat16()
    lay_out_for_reading(nn.ModuleList([embedding, head, half]))
    assert head.weight is embedding.weight
    assert embedding.weight.is_contiguous()
    assert half.weight.is_contiguous()


def projections(reasoner: LatentReasoner) -> list[nn.Linear]:
    return [m for block in reasoner.blocks for m in block.modules() if isinstance(m, nn.Linear)]


def test_mining_and_prediction_read_laid_out_weights(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    reasoner = make_reasoner("llama", tokenizer)
    save_folder(reasoner, tmp_path)
    search = LatentSearch(str(tmp_path), GaussianNoise(0.1))
    assert all(layer.weight.is_contiguous() for layer in projections(search.reasoner))
    search.trainer = SimpleNamespace(predict_loop=SimpleNamespace(engine=None))
    with torch.inference_mode():  # as in a prediction
        search.on_predict_start()
    assert not any(p.is_inference() for p in search.parameters())
    mined_by = Place.alone("cpu", "32-true").take(reasoner)
    for laid_out in (search.reasoner, mined_by):
        assert projections(laid_out)
        assert all(layer.weight.t().is_contiguous() for layer in projections(laid_out))


def test_an_engine_gets_the_models_as_they_were_loaded(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    save_folder(make_reasoner("llama", tokenizer), tmp_path)
    search = LatentSearch(str(tmp_path), GaussianNoise(0.1))
    search.trainer = SimpleNamespace(predict_loop=SimpleNamespace(engine=object()))
    search.on_predict_start()
    assert all(layer.weight.is_contiguous() for layer in projections(search.reasoner))
