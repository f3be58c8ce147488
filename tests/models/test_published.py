"""Every known format, made here from tiny random models, and every way in which it can be wrong."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from lightning_ltts import RolloutEngine, load_latent_rm, load_reasoner
from lightning_ltts.data.tokenization import END, LATENT, START
from lightning_ltts.errors import CheckpointError, ConfigError
from lightning_ltts.models import weights
from lightning_ltts.models.folders import import_model
from lightning_ltts.models.latent_lm import LatentReasoner, left_pad
from lightning_ltts.sampling import GaussianNoise, LearnedSpread
from tests.models.helpers import (
    QUESTIONS,
    codi_state,
    colar_checkpoint,
    make_base,
    make_tokenizer,
    untied,
)
from tests.tiny import BACKBONES


def thoughts_of(reasoner: LatentReasoner) -> Tensor:
    ids, mask = left_pad(
        [reasoner.encode_prompt(question) for question in QUESTIONS], reasoner.pad_id
    )
    return (
        RolloutEngine(reasoner)
        .rollout(ids, mask, num_thoughts=3, max_answer_tokens=3)
        .thoughts[:, 0]
    )


def plain_thoughts(
    model: PreTrainedModel, prompts: list[list[int]], head: Callable[[Tensor], Tensor]
) -> Tensor:
    rows = []
    for ids in prompts:
        sequence = model.get_input_embeddings()(torch.tensor([ids]))
        for _ in range(3):
            thought = head(model.base_model(inputs_embeds=sequence).last_hidden_state[:, -1])
            sequence = torch.cat([sequence, thought[:, None]], dim=1)
        rows.append(sequence[0, -3:])
    return torch.stack(rows).detach()


# -- formats


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_meta_coconut(family: str, tmp_path: Path) -> None:
    trained = make_base(tmp_path / "base", family, extra_rows=3)
    state = {f"base_causallm.{key}": tensor for key, tensor in trained.state_dict().items()}
    state["embedding.weight"] = trained.get_input_embeddings().weight.detach()
    if family == "gpt2":
        state["base_causallm.transformer.h.0.attn.bias"] = torch.ones(
            1, 1, 64, 64
        )  # saved by old versions
    torch.save(state, tmp_path / "checkpoint_3")
    reasoner = load_reasoner(tmp_path / "checkpoint_3", base=tmp_path / "base")
    rows = reasoner.backbone.config.vocab_size
    assert (reasoner.start_id, reasoner.end_id) == (rows - 3, rows - 2)
    assert reasoner.tokenizer.get_vocab()[LATENT] == rows - 1
    assert (reasoner.spec.method, reasoner.spec.num_thoughts, reasoner.spec.open_ended) == (
        "coconut",
        6,
        False,
    )
    prompts = [reasoner.encode_prompt(question) for question in QUESTIONS]
    assert torch.allclose(
        thoughts_of(reasoner), plain_thoughts(trained, prompts, lambda h: h), atol=1e-5
    )


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_codi(family: str, tmp_path: Path) -> None:
    trained = make_base(tmp_path / "base", family, extra_rows=3)
    state = codi_state(trained, family)
    torch.save(state, tmp_path / "pytorch_model.bin")
    reasoner = load_reasoner(tmp_path / "pytorch_model.bin", base=tmp_path / "base")
    vocabulary, rows = reasoner.tokenizer.get_vocab(), reasoner.backbone.config.vocab_size
    assert [vocabulary[token] for token in ("[PAD]", START, END)] == [rows - 3, rows - 2, rows - 1]
    assert reasoner.pad_id == rows - 3
    assert reasoner.suppressed_ids == [rows - 1]  # the end marker is never written in an answer
    # each adapted layer does what the layer and its adapter do together
    names = {"gpt2": "transformer.h.0.attn.c_attn", "llama": "model.layers.0.self_attn.q_proj"}
    a, b = (state[f"codi.base_model.model.{names[family]}.lora_{x}.default.weight"] for x in "AB")
    x = torch.randn(5, 32)
    apart = trained.get_submodule(names[family])(x) + 32 / 128 * x @ a.T @ b.T
    assert torch.allclose(reasoner.backbone.get_submodule(names[family])(x), apart, atol=1e-5)
    assert not torch.allclose(trained.get_submodule(names[family])(x), apart, atol=1e-2)
    assert torch.equal(reasoner.thought_head[3].weight, state["prj.3.weight"])
    assert torch.equal(reasoner.thought_head[4].bias, state["prj.ln.bias"])


@pytest.mark.slow
def test_sim_cot(tmp_path: Path) -> None:
    """The decoder that trained beside the reasoner is left out, and the provenance says so."""
    trained = make_base(tmp_path / "base", "gpt2", extra_rows=3)
    plain = {f"base_causallm.{key}": tensor for key, tensor in trained.state_dict().items()}
    decoder = {f"expainable_llm.{key}": tensor for key, tensor in trained.state_dict().items()}
    again = {"embedding.weight": trained.get_input_embeddings().weight.detach()}
    torch.save(plain | again, tmp_path / "meta")
    torch.save(plain | again | decoder, tmp_path / "checkpoint_28")
    base = tmp_path / "base"
    import_model(tmp_path / "checkpoint_28", tmp_path / "coconut", base=base, num_thoughts=10)
    reasoner = load_reasoner(tmp_path / "coconut")
    assert (reasoner.spec.method, reasoner.spec.num_thoughts) == ("coconut", 10)
    without = load_reasoner(tmp_path / "meta", base=base)
    assert torch.equal(thoughts_of(reasoner), thoughts_of(without))
    assert left_out(tmp_path / "coconut") == {"expainable_llm.*": len(decoder), "embedding.*": 1}

    state = codi_state(trained, "gpt2")
    extra = {"pj_in.weight": torch.ones(32, 32), "pj_out.weight": torch.ones(32, 32)}
    extra |= {"pj_out.bias": torch.ones(32)}
    extra |= {f"decoder.{key}": tensor for key, tensor in trained.state_dict().items()}
    (tmp_path / "codi").mkdir()
    torch.save(state | extra, tmp_path / "codi/pytorch_model.bin")
    torch.save(state, tmp_path / "pytorch_model.bin")
    import_model(tmp_path / "codi/pytorch_model.bin", tmp_path / "codi_folder", base=base)
    without = load_reasoner(tmp_path / "pytorch_model.bin", base=base)
    assert torch.equal(thoughts_of(load_reasoner(tmp_path / "codi_folder")), thoughts_of(without))
    parts = left_out(tmp_path / "codi_folder")
    assert parts == {"pj_in.*": 1, "pj_out.*": 2, "decoder.*": len(trained.state_dict())}

    torch.save(plain | {"decoders.weight": torch.ones(1)}, tmp_path / "unknown")
    with pytest.raises(CheckpointError, match=r"holds the key 'decoders\.weight'"):
        load_reasoner(tmp_path / "unknown", base=base)


def left_out(folder: Path) -> dict[str, int]:
    """What an imported folder's provenance says of the rest of its source."""
    result: dict[str, int] = json.loads((folder / "provenance.json").read_text())["left_out"]
    return result


@pytest.mark.slow
def test_colar(tmp_path: Path) -> None:
    state = colar_checkpoint(tmp_path)
    path, base = tmp_path / "colar_best.ckpt", tmp_path / "base"
    with pytest.raises(CheckpointError, match=r"llama of size 32; set thought_head.embedding_std"):
        load_reasoner(path, base=base)
    reasoner = load_reasoner(path, base=base, thought_head={"embedding_std": 0.02}, num_thoughts=4)
    assert reasoner.spec.open_ended
    assert reasoner.start_id is None
    assert reasoner.end_id == reasoner.tokenizer.get_vocab()["###"]
    assert reasoner.encode_prompt(QUESTIONS[0])[-1] == reasoner.end_id
    plain = load_file(base / "model.safetensors")["model.layers.1.self_attn.v_proj.weight"]
    a, b = (
        state[f"llm.base_model.model.model.layers.1.self_attn.v_proj.lora_{x}.default.weight"]
        for x in "AB"
    )
    assert torch.allclose(
        reasoner.backbone.model.layers[1].self_attn.v_proj.weight, plain + 32 / 4 * b @ a, atol=1e-5
    )
    assert torch.equal(reasoner.thought_head.log_std.weight, state["latent_policy.log_std.weight"])

    ids, mask = left_pad(
        [reasoner.encode_prompt(question) for question in QUESTIONS], reasoner.pad_id
    )
    mean = RolloutEngine(reasoner).rollout(ids, mask)
    drawn = RolloutEngine(reasoner, LearnedSpread()).rollout(ids, mask, 400)
    assert (
        drawn.thoughts[0, :, 0].mean(0) - mean.thoughts[0, 0, 0]
    ).abs().max() < 0.3 * drawn.thoughts[0, :, 0].std()
    hidden = torch.randn(2, 32)
    assert reasoner.thought_head.spread(hidden).shape == (2, 32)


def test_learned_spread_needs_one(gpt2: LatentReasoner, prompts: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(ConfigError, match="learned spread"):
        RolloutEngine(gpt2, LearnedSpread()).rollout(*prompts)
    with pytest.raises(ConfigError, match=r"scale=0\.0 of LearnedSpread"):
        LearnedSpread(0.0)


@pytest.mark.slow
@pytest.mark.parametrize("family", list(BACKBONES))
@pytest.mark.parametrize("pad", [True, False])
def test_plain_language_model(family: str, pad: bool, tmp_path: Path) -> None:
    """Becomes an untrained reasoner: markers are added, each starting as the mean of all tokens."""
    make_base(tmp_path / "base", family, pad=pad)
    reasoner = load_reasoner(tmp_path / "base", num_thoughts=2)
    old = load_file(tmp_path / "base/model.safetensors")
    table = next(tensor for key, tensor in old.items() if "wte" in key or "embed_tokens" in key)
    embeddings = reasoner.backbone.get_input_embeddings().weight
    assert torch.equal(embeddings[: len(table)], table)
    assert torch.allclose(embeddings[reasoner.start_id], table.mean(0), atol=1e-6)
    assert reasoner.backbone.get_output_embeddings().weight is embeddings
    assert reasoner.pad_id == (reasoner.tokenizer.get_vocab()["<pad>"] if pad else reasoner.eos_id)
    assert thoughts_of(reasoner).shape == (2, 3, 32)
    for method, options in {"codi": {}, "colar": {"embedding_std": 0.1}}.items():
        other = load_reasoner(tmp_path / "base", method=method, thought_head=options)
        assert thoughts_of(other).isfinite().all()


def test_a_tokenizer_that_does_not_name_its_end(tmp_path: Path) -> None:
    """As GPT-2's own folder has it: only the model's configuration says which token it is."""
    make_base(tmp_path / "base", "gpt2")
    expected = load_reasoner(tmp_path / "base")
    (tmp_path / "base/tokenizer_config.json").write_text('{"model_max_length": 1024}')
    (tmp_path / "base/special_tokens_map.json").unlink(missing_ok=True)
    reasoner = load_reasoner(tmp_path / "base")
    assert reasoner.tokenizer.eos_token == expected.tokenizer.eos_token
    assert reasoner.eos_id == expected.eos_id


def test_rows_that_no_token_had_used(tmp_path: Path) -> None:
    """Markers start as the mean of all tokens there, too; further rows stay as they are."""
    make_base(tmp_path / "base", "gpt2", extra_rows=5).save_pretrained(tmp_path / "base")
    old = load_file(tmp_path / "base/model.safetensors")["transformer.wte.weight"]
    reasoner = load_reasoner(tmp_path / "base")
    table, start = reasoner.backbone.get_input_embeddings().weight, reasoner.start_id
    assert start == len(old) - 5
    assert torch.allclose(table[start], old[:start].mean(0), atol=1e-6)
    assert torch.equal(table[start], table[reasoner.end_id])
    assert torch.equal(table[start + 3 :], old[start + 3 :])


def test_cot_stage_of_meta(tmp_path: Path) -> None:
    """Plain GPT-2 keys and no markers yet: a base to train from."""
    trained = make_base(tmp_path / "base", "gpt2")
    torch.save(trained.state_dict(), tmp_path / "checkpoint_1")
    reasoner = load_reasoner(tmp_path / "checkpoint_1", base=tmp_path / "base")
    assert torch.equal(
        reasoner.backbone.transformer.h[1].mlp.c_fc.weight, trained.transformer.h[1].mlp.c_fc.weight
    )
    assert reasoner.start_id == trained.config.vocab_size


def test_shards_and_half_precision(tmp_path: Path) -> None:
    trained = make_base(tmp_path / "base", "llama")
    trained.to(torch.bfloat16).save_pretrained(tmp_path / "base", max_shard_size="20KB")
    assert (tmp_path / "base/model.safetensors.index.json").exists()
    (tmp_path / "base/model.safetensors").unlink(missing_ok=True)
    reasoner = load_reasoner(tmp_path / "base")
    assert reasoner.backbone.dtype == torch.bfloat16
    assert thoughts_of(reasoner).dtype == torch.bfloat16
    full = load_reasoner(tmp_path / "base", dtype=torch.float32)
    assert full.backbone.dtype == torch.float32
    assert (thoughts_of(full) - thoughts_of(reasoner)).abs().max() < 0.2
    shard = next((tmp_path / "base").glob("model-00001*"))
    shard.unlink()
    with pytest.raises(CheckpointError, match=rf"{shard.name} is missing"):
        load_reasoner(tmp_path / "base")


@pytest.mark.slow
def test_gguf(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf", reason="the extra 'gguf' is not installed")
    make_base(tmp_path / "base", "llama")
    tokenizer, weights_ = make_tokenizer(False), load_file(tmp_path / "base/model.safetensors")
    names = {
        "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "self_attn.k_proj": "attn_k", "self_attn.o_proj": "attn_output",
        "self_attn.q_proj": "attn_q", "self_attn.v_proj": "attn_v",
    }  # fmt: skip
    writer = gguf.GGUFWriter(tmp_path / "tiny.gguf", "llama")
    writer.add_context_length(160)
    writer.add_embedding_length(32)
    writer.add_block_count(2)
    writer.add_feed_forward_length(48)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_vocab_size(len(tokenizer))
    writer.add_tokenizer_model("gpt2")
    parts = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    writer.add_token_list(
        [token for token, _ in sorted(parts["vocab"].items(), key=lambda item: item[1])]
    )
    writer.add_token_merges([" ".join(merge) for merge in parts["merges"]])
    writer.add_token_types(
        [
            3 if token in ("<|end|>", "###") else 1
            for token in sorted(parts["vocab"], key=parts["vocab"].get)
        ]
    )
    writer.add_eos_token_id(0)
    writer.add_bos_token_id(0)
    for key, tensor in weights_.items():
        name = {
            "model.embed_tokens.weight": "token_embd.weight",
            "model.norm.weight": "output_norm.weight",
        }.get(key)
        if name is None:
            layer, rest = key.removeprefix("model.layers.").split(".", 1)
            name = f"blk.{layer}.{names[rest.removesuffix('.weight')]}.weight"
        if name.endswith(
            ("attn_q.weight", "attn_k.weight")
        ):  # GGUF keeps rotary halves interleaved
            heads = 4 if "attn_q" in name else 2
            tensor = tensor.view(heads, 2, -1, 32).transpose(1, 2).reshape(tensor.shape)
        writer.add_tensor(name, tensor.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    reasoner, same = load_reasoner(tmp_path / "tiny.gguf"), load_reasoner(tmp_path / "base")
    # transformers gives such a tokenizer an unknown token, so that only the markers' ids differ
    assert reasoner.encode_prompt(QUESTIONS[1])[:-1] == same.encode_prompt(QUESTIONS[1])[:-1]
    assert torch.allclose(thoughts_of(reasoner), thoughts_of(same), atol=1e-4)
    (tmp_path / "cut.gguf").write_bytes((tmp_path / "tiny.gguf").read_bytes()[:3000])
    with pytest.raises(CheckpointError, match=r"cut.gguf cannot be read"):
        load_reasoner(tmp_path / "cut.gguf")


# -- what can be wrong


@pytest.fixture
def coconut(tmp_path: Path) -> tuple[Path, dict[str, Tensor]]:
    """A COCONUT state dict's path (the base is beside it) and content."""
    trained = make_base(tmp_path / "base", "gpt2", extra_rows=3)
    state = {f"base_causallm.{key}": tensor for key, tensor in trained.state_dict().items()}
    torch.save(state, tmp_path / "checkpoint_3")
    return tmp_path / "checkpoint_3", state


KEY = "base_causallm.transformer.h.1.mlp.c_fc.weight"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: s.update({"surprise": torch.zeros(1)}),
            r"the key 'surprise', which no COCONUT state dict has; expected",
        ),
        (
            lambda s: s.update({"base_causallm.transformer.h.9.mlp.c_fc.weight": torch.zeros(1)}),
            r"the key 'base_causallm.transformer.h.9.mlp.c_fc.weight', which this kind of model does not have",
        ),
        (
            lambda s: s.pop(KEY),
            r"lacks the key 'backbone.transformer.h.1.mlp.c_fc.weight' of shape \(32, 128\)",
        ),
        (
            lambda s: s.update({KEY: torch.zeros(3, 4)}),
            rf"'{KEY}' has the shape \(3, 4\), but \(32, 128\) is expected",
        ),
        (
            lambda s: s.update({"base_causallm.transformer.wte.weight": torch.zeros(290, 32)}),
            r"has a vocabulary of 290, but the tokenizer of .*base has 302 tokens",
        ),
        (
            lambda s: s.update({"base_causallm.transformer.text": "words"}),
            r"'base_causallm.transformer.text', which is a str",
        ),
        (lambda s: s.pop("base_causallm.transformer.wte.weight"), "lacks token embeddings"),
    ],
)
def test_keys_shapes_and_vocabulary(
    coconut: tuple[Path, dict[str, Any]], change: Callable, message: str
) -> None:
    path, state = coconut
    change(state)
    torch.save(state, path)
    with pytest.raises(CheckpointError, match=message):
        load_reasoner(path, base=path.parent / "base")


def test_missing_base(coconut: tuple[Path, dict[str, Tensor]], tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError,
        match="holds neither configuration nor tokenizer; give the model it was trained from",
    ):
        load_reasoner(coconut[0])
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="no configuration of a supported model"):
        load_reasoner(coconut[0], base=tmp_path / "empty")
    with pytest.raises(
        CheckpointError, match="no field 'num_thougts' to be set; there are method, num_thoughts"
    ):
        load_reasoner(coconut[0], base=tmp_path / "base", num_thougts=3)
    with pytest.raises(
        CheckpointError, match="field 'num_thoughts' must be a int, for instance 6, not 'many'"
    ):
        load_reasoner(coconut[0], base=tmp_path / "base", num_thoughts="many")
    with pytest.raises(
        ConfigError, match="answer_which='middle' is not known; use one of first, last, only"
    ):
        load_reasoner(coconut[0], base=tmp_path / "base", answer_which="middle")
    with pytest.raises(CheckpointError, match="holds no weights; expected one of"):
        load_reasoner(tmp_path / "empty")


def test_truncated_files(coconut: tuple[Path, dict[str, Tensor]], tmp_path: Path) -> None:
    path, _ = coconut
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(CheckpointError, match=r"checkpoint_3 cannot be read, it may be cut off"):
        load_reasoner(path, base=tmp_path / "base")
    whole = tmp_path / "base/model.safetensors"
    whole.write_bytes(whole.read_bytes()[:-2000])
    with pytest.raises(
        CheckpointError, match=r"model.safetensors cannot be read, it may be cut off"
    ):
        load_reasoner(tmp_path / "base")


def test_adapter_without_weights(tmp_path: Path) -> None:
    state = codi_state(make_base(tmp_path / "base", "gpt2", extra_rows=3), "gpt2")
    alone = dict(state)
    alone.pop("codi.base_model.model.transformer.h.0.attn.c_attn.base_layer.weight")
    torch.save(alone, tmp_path / "pytorch_model.bin")
    with pytest.raises(
        CheckpointError,
        match=r"lora_A.default.weight' without 'backbone.transformer.h.0.attn.c_attn.weight'",
    ):
        load_reasoner(tmp_path / "pytorch_model.bin", base=tmp_path / "base")
    state["codi.base_model.model.transformer.h.0.attn.c_attn.lora_B.default.weight"] = torch.zeros(
        7, 128
    )
    torch.save(state, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"makes a change of shape \(32, 7\)"):
        load_reasoner(tmp_path / "pytorch_model.bin", base=tmp_path / "base")


@pytest.mark.slow
def test_alpha_of_adapters(tmp_path: Path) -> None:
    """It is read, or asked for where the rank is not that of published ones."""
    trained = make_base(tmp_path / "base", "gpt2", extra_rows=3)
    state = codi_state(trained, "gpt2", rank=4)
    path, base = tmp_path / "pytorch_model.bin", tmp_path / "base"
    torch.save(state, path)
    with pytest.raises(CheckpointError, match=r"rank 4 and does not say the lora_alpha .*--set"):
        load_reasoner(path, base=base)
    for wrong in (0, float("nan"), "much", True):
        with pytest.raises(CheckpointError, match=r"lora_alpha=.* must be a number above 0"):
            load_reasoner(path, base=base, lora_alpha=wrong)
    module = "transformer.h.0.attn.c_attn"
    a, b = (state[f"codi.base_model.model.{module}.lora_{x}.default.weight"] for x in "AB")
    merged = trained.get_submodule(module).weight + 16 / 4 * (b @ a).T

    def weight(**given: float) -> Tensor:
        return load_reasoner(path, base=base, **given).backbone.get_submodule(module).weight

    assert torch.allclose(weight(lora_alpha=16), merged, atol=1e-5)
    (tmp_path / "adapter_config.json").write_text('{"r": 4, "lora_alpha": 16}')
    assert torch.allclose(weight(), merged, atol=1e-5)
    assert torch.allclose(weight(lora_alpha=16), merged, atol=1e-5)
    with pytest.raises(CheckpointError, match="has lora_alpha=16, not 32; leave it out"):
        weight(lora_alpha=32)
    (tmp_path / "adapter_config.json").write_text('{"use_rslora": true}')
    with pytest.raises(CheckpointError, match="use_rslora are not supported"):
        weight()


def test_alpha_in_the_hyper_parameters(tmp_path: Path) -> None:
    colar_checkpoint(tmp_path)
    path = tmp_path / "colar_best.ckpt"
    options = {"base": tmp_path / "base", "thought_head": {"embedding_std": 0.02}}
    with pytest.raises(CheckpointError, match="has lora_alpha=32, not 8"):
        load_reasoner(path, lora_alpha=8, **options)
    content = torch.load(path, weights_only=False)
    torch.save({"state_dict": content["state_dict"]}, path)
    with pytest.raises(CheckpointError, match="rank 4 and does not say the lora_alpha"):
        load_reasoner(path, **options)


def test_code_of_a_folder_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even where transformers would ask for leave to."""
    make_base(tmp_path / "base", "gpt2")
    code = f"open({str(tmp_path / 'owned')!r}, 'w')\nfrom transformers import GPT2Config\nclass Evil(GPT2Config):\n    pass\n"
    (tmp_path / "base/evil.py").write_text(code)
    config = json.loads((tmp_path / "base/config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Evil"}}
    (tmp_path / "base/config.json").write_text(json.dumps(config))
    monkeypatch.setattr("builtins.input", lambda *args: "y")
    with pytest.raises(CheckpointError, match="no configuration of a supported model"):
        load_reasoner(tmp_path / "base")
    assert not (tmp_path / "owned").exists()


def test_incomplete_adapters(tmp_path: Path) -> None:
    state = colar_checkpoint(tmp_path)
    for gone, message in (
        ("layers.0.self_attn.q_proj", "which other layers have"),
        ("lora_", "lacks adapters"),
    ):
        kept = {key: tensor for key, tensor in state.items() if gone not in key}
        torch.save({"state_dict": kept}, tmp_path / "colar_best.ckpt")
        with pytest.raises(CheckpointError, match=message):
            load_reasoner(
                tmp_path / "colar_best.ckpt",
                base=tmp_path / "base",
                thought_head={"embedding_std": 0.02},
            )
    codi = codi_state(make_base(tmp_path / "other", "gpt2", extra_rows=3), "gpt2")
    torch.save(
        {k: t for k, t in codi.items() if "h.1.mlp.c_fc.lora" not in k},
        tmp_path / "pytorch_model.bin",
    )
    with pytest.raises(
        CheckpointError, match=r"lacks the adapter 'backbone.transformer.h.1.mlp.c_fc.lora_A"
    ):
        load_reasoner(tmp_path / "pytorch_model.bin", base=tmp_path / "other")


def test_no_tokenizer_and_other_head(coconut: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    path, state = coconut
    state["base_causallm.lm_head.weight"] = torch.randn_like(state["base_causallm.lm_head.weight"])
    torch.save(state, path)
    with pytest.raises(CheckpointError, match="a vocabulary head that differs from the embeddings"):
        load_reasoner(path, base=tmp_path / "base")
    (tmp_path / "base/tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match="it has neither"):
        load_reasoner(tmp_path / "base")


class Malicious:
    def __init__(self, command: str):
        self.command = command

    def __reduce__(self) -> tuple:
        return os.system, (self.command,)


@pytest.mark.parametrize(
    "name", ["checkpoint_3", "pytorch_model.bin", "colar_best.ckpt", "base/pytorch_model.bin"]
)
def test_malicious_pickle_is_refused(
    coconut: tuple[Path, dict[str, Any]], name: str, tmp_path: Path
) -> None:
    _, state = coconut
    path = tmp_path / name
    torch.save({**state, "payload": Malicious(f"touch {tmp_path / 'owned'}")}, path)
    source = path
    if name.startswith("base/"):
        (tmp_path / "base/model.safetensors").unlink()
        source = tmp_path / "base"
    with pytest.raises(CheckpointError, match=r"is refused: it would run or create '\w+\.system'"):
        load_reasoner(source, base=tmp_path / "base")
    assert not (tmp_path / "owned").exists()


def test_wrong_kind(golden_like_rm: Path) -> None:
    with pytest.raises(CheckpointError, match="holds a LatentRM, but a latent reasoner is needed"):
        load_reasoner(golden_like_rm)


@pytest.fixture
def golden_like_rm(tmp_path: Path) -> Path:
    """A LatentRM folder as it is published: configuration and weights, no tokenizer; hidden size 32, thoughts of 24."""
    body = make_base(tmp_path / "base", "llama")
    state = {key: tensor for key, tensor in untied(body).items() if key.startswith("model.")}
    state |= {"classifier.weight": torch.randn(1, 32), "classifier.bias": torch.randn(1)}
    state |= {"projecter.weight": torch.randn(32, 24), "projecter.bias": torch.randn(32)}
    (tmp_path / "rm").mkdir()
    save_file(state, tmp_path / "rm/model.safetensors")
    config = {**body.config.to_dict(), "latent_hidden_size": 24, "latent_id": 5, "loss_type": "bce"}
    (tmp_path / "rm/config.json").write_text(json.dumps(config))
    return tmp_path / "rm"


def test_latent_rm_with_a_projection(golden_like_rm: Path) -> None:
    rm = load_latent_rm(golden_like_rm).requires_grad_(False)
    assert rm.spec.thought_size == 24
    ids, thoughts = torch.randint(5, 200, (2, 6)), torch.randn(2, 3, 4, 24)
    scores = rm.score(ids, torch.ones_like(ids), thoughts)
    body = rm.backbone
    sequence = torch.cat(
        [body.embed_tokens(ids[1:2]), rm.input_projection(thoughts[1, 2][None])], dim=1
    )
    expected = rm.score_head(body(inputs_embeds=sequence).last_hidden_state[0, -4:])[:, 0]
    assert torch.allclose(scores[1, 2], expected, atol=1e-5)


def test_not_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is neither a path nor on the Hub; without a network the answer comes at once."""
    from lightning_ltts.models import checkpoints

    def no_network(*args: Any, **kwargs: Any) -> str:
        raise ConnectionError("no network")

    monkeypatch.setattr(checkpoints, "snapshot_download", no_network)
    monkeypatch.setattr(checkpoints, "hf_hub_download", no_network)
    for name in ("owner/model@main", "hf://owner/model/folder/file.ckpt"):
        with pytest.raises(
            CheckpointError,
            match=r"nor could it be fetched from the Hugging Face Hub \(no network\)",
        ):
            load_reasoner(name)
    for name in ("logs/run/best.ckpt", "r.ckpt", "./somewhere/x"):
        with pytest.raises(CheckpointError, match="does not exist"):
            load_reasoner(name)


def test_from_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lightning_ltts.models import checkpoints

    make_base(tmp_path / "base", "gpt2")
    asked: list[Any] = []

    def fetch(repository: str, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((repository, revision))
        return str(tmp_path / "base")

    monkeypatch.setattr(checkpoints, "snapshot_download", fetch)
    assert load_reasoner("owner/model@v2").spec.method == "coconut"
    assert asked == [("owner/model", "v2")]


def test_no_second_copy_of_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model uses the very memory that the file is mapped to."""
    from lightning_ltts.models.folders import save_folder

    make_base(tmp_path / "base", "gpt2")
    save_folder(load_reasoner(tmp_path / "base"), tmp_path / "exported")
    read: dict[str, Tensor] = {}

    def remember(path: Path) -> dict[str, Tensor]:
        read.update(load_file(path))
        return dict(read)

    monkeypatch.setattr(weights, "load_file", remember)
    reasoner = load_reasoner(tmp_path / "exported")
    for name, parameter in reasoner.backbone.named_parameters():
        assert parameter.data_ptr() == read[name].data_ptr(), name


@pytest.mark.slow
def test_noise_on_an_imported_model_is_reproducible(tmp_path: Path) -> None:
    make_base(tmp_path / "base", "qwen3")
    reasoner = load_reasoner(tmp_path / "base", num_thoughts=2)
    ids, mask = left_pad(
        [reasoner.encode_prompt(question) for question in QUESTIONS], reasoner.pad_id
    )
    engine = RolloutEngine(reasoner, GaussianNoise(0.3))
    one, two = (engine.rollout(ids, mask, 3, ["a", "b"], seed=1) for _ in range(2))
    assert torch.equal(one.thoughts, two.thoughts)
