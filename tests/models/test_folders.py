"""Export: a folder from which a model loads bit by bit the same."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from lightning_ltts import load_latent_rm, load_reasoner
from lightning_ltts.errors import CheckpointError
from lightning_ltts.models.checkpoints import FOLDER_ENTRY, PROVENANCE
from lightning_ltts.models.folders import import_model, save_folder
from lightning_ltts.models.latent_lm import LatentReasoner, fingerprint, new_reasoner
from lightning_ltts.models.latent_rm import LatentRM
from lightning_ltts.models.latent_rm_spec import LatentRMSpec
from tests.helpers import save_latent_rm, save_reasoner
from tests.models.helpers import QUESTIONS, make_base
from tests.tiny import BACKBONES

HEADS: dict[str, dict] = {
    "coconut": {},
    "codi": {"hidden_size": 20},
    "colar": {"intermediate_size": 20, "embedding_std": 0.1, "spread": True},
}


@pytest.mark.slow
@pytest.mark.parametrize("method", list(HEADS))
@pytest.mark.parametrize("family", list(BACKBONES))
def test_round_trip(
    method: str, family: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    spec = {"thought_head": HEADS[method], "open_ended": method == "colar", "answer_which": "last"}
    reasoner = new_reasoner(method, BACKBONES[family], tokenizer, 3, **spec)
    save_folder(reasoner, tmp_path / "folder")
    loaded = load_reasoner(tmp_path / "folder")
    assert loaded.spec == reasoner.spec
    assert fingerprint(loaded) == fingerprint(reasoner)
    assert loaded.encode_prompt("Ann has 3 pens.") == reasoner.encode_prompt("Ann has 3 pens.")


def test_half_precision(gpt2: LatentReasoner, tmp_path: Path) -> None:
    loaded = load_reasoner(save_folder(gpt2.to(torch.bfloat16), tmp_path / "folder"))
    assert loaded.backbone.dtype == torch.bfloat16
    for name, parameter in loaded.named_parameters():
        assert torch.equal(parameter, gpt2.get_parameter(name))


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("family", list(BACKBONES))
def test_coconut_loads_with_plain_transformers(family: str, tmp_path: Path) -> None:
    make_base(tmp_path / "base", family, pad=True)
    reasoner = load_reasoner(tmp_path / "base")
    save_folder(reasoner, tmp_path / "folder")
    model, info = AutoModelForCausalLM.from_pretrained(
        tmp_path / "folder", output_loading_info=True
    )
    assert not any(info.values()), info
    row = torch.tensor([reasoner.encode_prompt(QUESTIONS[0])])
    expected = reasoner.logits(reasoner.backbone.base_model(row).last_hidden_state)
    assert torch.allclose(model(row).logits, expected, atol=1e-5)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "folder")
    text = QUESTIONS[0] + "\n<|start-latent|>"
    if family != "qwen2":  # for which transformers puts in the pre-tokenizer of the real Qwen2
        assert tokenizer(text).input_ids == row[0].tolist()
    assert tokenizer.get_vocab() == reasoner.tokenizer.get_vocab()
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id) == (reasoner.pad_id, reasoner.eos_id)
    assert model.config.latent_start_id == reasoner.start_id


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [{"extra_layers": 1}, {"reference": True, "reads_answer": True}, {"noise_free": True}],
    ids=str,
)
def test_latent_rm(reasoner: LatentReasoner, tmp_path: Path, options: dict) -> None:
    rm = LatentRM.from_reasoner(reasoner, **options)
    if rm.reference_mark is not None:
        torch.nn.init.normal_(rm.reference_mark)
    loaded = load_latent_rm(save_folder(rm, tmp_path / "rm"))
    assert loaded.spec == rm.spec
    assert fingerprint(loaded) == fingerprint(rm)


def test_latent_rm_with_head_and_projection(tmp_path: Path) -> None:
    spec = LatentRMSpec(
        {**BACKBONES["llama"], "vocab_size": 50},
        24,
        fitted={"temperature": 2.0},
        thought_head={"hidden_size": 10},
    )
    rm = LatentRM(spec)
    loaded = load_latent_rm(save_folder(rm, tmp_path / "rm"))
    assert fingerprint(loaded) == fingerprint(rm)
    assert json.loads((tmp_path / "rm/config.json").read_text())["architectures"] == [
        "LlamaForTokenClassification"
    ]


@pytest.mark.slow
def test_provenance(gpt2: LatentReasoner, latent_rm: LatentRM, tmp_path: Path) -> None:
    source = save_reasoner(gpt2, tmp_path / "r.ckpt")
    import_model(source, tmp_path / "folder", num_thoughts=5)
    facts = json.loads((tmp_path / "folder" / PROVENANCE).read_text())
    assert facts["source"] == "r.ckpt"
    assert facts["format"] == "Lightning checkpoint"
    assert len(facts["files"]["r.ckpt"]) == 64
    assert facts["tokens"]["start"] == {"token": "<|start-latent|>", "id": gpt2.start_id}
    assert (facts["prompt_template"], facts["num_thoughts"], facts["method"]) == (
        "{question}\n",
        5,
        "coconut",
    )
    assert facts["answer_rule"] == {"marker": "", "which": "first"}
    assert load_reasoner(tmp_path / "folder").spec.num_thoughts == 5
    import_model(save_latent_rm(latent_rm, tmp_path / "rm.ckpt"), tmp_path / "rm")
    assert json.loads((tmp_path / "rm" / PROVENANCE).read_text())["kind"] == "LatentRM"
    import_model(tmp_path / "folder", tmp_path / "again")  # a folder can be imported once more
    assert fingerprint(load_reasoner(tmp_path / "again")) == fingerprint(
        load_reasoner(tmp_path / "folder")
    )


def test_user_errors(gpt2: LatentReasoner, latent_rm: LatentRM, tmp_path: Path) -> None:
    folder = save_folder(gpt2, tmp_path / "folder")
    with pytest.raises(CheckpointError, match="is not an empty folder"):
        save_folder(gpt2, folder)
    with pytest.raises(CheckpointError, match="holds a latent reasoner, but a LatentRM is needed"):
        load_latent_rm(folder)
    entry = json.loads((folder / FOLDER_ENTRY).read_text())
    (folder / FOLDER_ENTRY).write_text(
        json.dumps({**entry, "spec": {**entry["spec"], "from_the_future": 1}})
    )
    with pytest.raises(
        CheckpointError, match=r"not one that this version knows \(.*from_the_future"
    ):
        load_reasoner(folder)
    (folder / FOLDER_ENTRY).write_text("{")
    with pytest.raises(CheckpointError, match="is damaged: JSONDecodeError"):
        load_reasoner(folder)


@pytest.mark.parametrize("plain", [False, True])
def test_a_tokenizer_of_a_gigabyte(plain: bool, gpt2: LatentReasoner, tmp_path: Path) -> None:
    """It is not read: a file of nothing but a hole, which would take that much memory."""
    folder = save_folder(gpt2, tmp_path / "model")
    if plain:
        (folder / "lightning_ltts.json").unlink()
    with (folder / "tokenizer.json").open("wb") as file:
        file.truncate(10**9)
    with pytest.raises(CheckpointError, match=r"tokenizer.json has 1,000 MB, more than the 300 MB"):
        load_reasoner(folder)
