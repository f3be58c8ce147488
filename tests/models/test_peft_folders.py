"""Adapters as PEFT saves them are merged into their base, of whatever format that is."""

import json
from pathlib import Path

import pytest
import torch
from peft import PromptTuningConfig, get_peft_model
from transformers import AutoModelForCausalLM

from lightning_ltts import load_latent_rm, load_reasoner
from lightning_ltts.errors import CheckpointError
from lightning_ltts.models.folders import import_model
from lightning_ltts.models.latent_lm import LatentReasoner
from tests.models.helpers import QUESTIONS, make_base, save_adapters


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("options", [{}, {"use_rslora": True}, {"use_dora": True}], ids=str)
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_plain_base(family: str, options: dict, tmp_path: Path) -> None:
    make_base(tmp_path / "base", family)
    model = save_adapters(tmp_path / "base", tmp_path / "adapter", **options)
    reasoner = load_reasoner(tmp_path / "adapter")  # whose configuration names the base
    row = torch.tensor([reasoner.encode_prompt(QUESTIONS[0])[:-1]])  # without the new marker
    expected = model(row).logits
    logits = reasoner.logits(reasoner.backbone.base_model(row).last_hidden_state)
    assert torch.allclose(logits[..., : expected.shape[-1]], expected, atol=1e-4)
    plain = load_reasoner(tmp_path / "base")
    before = plain.logits(plain.backbone.base_model(row).last_hidden_state)
    assert not torch.allclose(logits, before, atol=1e-2)


@pytest.mark.slow
def test_base_of_this_package(gpt2: LatentReasoner, tmp_path: Path) -> None:
    """It stays the reasoner that it is; what is imported describes itself."""
    base = gpt2.save_pretrained(tmp_path / "reasoner")
    save_adapters(base, tmp_path / "adapter")
    import_model(tmp_path / "adapter", tmp_path / "merged", num_thoughts=2)
    merged = load_reasoner(tmp_path / "merged")
    assert merged.spec.num_thoughts == 2
    assert merged.spec.tokens == gpt2.spec.tokens
    facts = json.loads((tmp_path / "merged/provenance.json").read_text())
    assert facts["format"] == "PEFT adapters"
    assert set(facts["files"]) == {"adapter_model.safetensors"}
    weight = "transformer.h.0.attn.c_attn.weight"
    assert not torch.equal(
        merged.backbone.get_parameter(weight), gpt2.backbone.get_parameter(weight)
    )
    with pytest.raises(CheckpointError, match="holds a latent reasoner"):
        load_latent_rm(tmp_path / "adapter")


@pytest.mark.slow
def test_what_is_refused(tmp_path: Path) -> None:
    make_base(tmp_path / "base", "gpt2")
    make_base(tmp_path / "llama", "llama")
    save_adapters(tmp_path / "base", tmp_path / "adapter")
    with pytest.raises(CheckpointError, match=r"do not fit the base .*llama"):
        load_reasoner(tmp_path / "adapter", base=tmp_path / "llama")
    path = tmp_path / "adapter/adapter_config.json"
    config = json.loads(path.read_text())
    for change, words in (
        ({"base_model_name_or_path": None}, "does not name the model that the adapters belong to"),
        ({"peft_type": "LOHA"}, "of the type 'LOHA', which cannot be merged here"),
        ({"megatron_config": {}, "megatron_core": "os"}, None),
        ({"megatron_config": {"a": 1}, "megatron_core": "os"}, "Megatron are not supported"),
        ({"r": 2}, "do not fit the base"),
        ({"target_modules": ["c_attn", "c_fc"]}, "lack .*c_fc"),
    ):
        path.write_text(json.dumps({**config, **change}))
        if words is not None:
            with pytest.raises(CheckpointError, match=words):
                load_reasoner(tmp_path / "adapter")
    prompt = get_peft_model(
        AutoModelForCausalLM.from_pretrained(tmp_path / "base"),
        PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2),
    )
    prompt.save_pretrained(tmp_path / "prompt")
    with pytest.raises(CheckpointError):
        load_reasoner(tmp_path / "prompt")
