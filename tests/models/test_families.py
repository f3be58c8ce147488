"""A backbone family is one entry: what depends on it works for each, and its names stand there."""

import ast
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import PreTrainedTokenizerFast
from transformers.pytorch_utils import Conv1D

import lightning_ltts
from lightning_ltts import RolloutEngine, load_latent_rm, load_reasoner
from lightning_ltts.errors import ConfigError
from lightning_ltts.models.adapters import merge_lora
from lightning_ltts.models.families import FAMILIES, family_of
from lightning_ltts.models.folders import save_folder
from lightning_ltts.models.formats import CAUSAL_LM, LATENT_TTS, rename
from lightning_ltts.models.latent_lm import LatentReasoner, fingerprint, left_pad, new_reasoner
from lightning_ltts.models.latent_rm import LatentRM
from lightning_ltts.sampling import MCDropout
from lightning_ltts.training.start import Lora, Start
from tests.tiny import BACKBONES, make_reasoner

PACKAGE = Path(lightning_ltts.__file__).parent


def test_every_family_is_in_the_tests_that_are_run_for_all() -> None:
    """They run for the backbones of `tests/tiny.py`, one for each family."""
    assert list(BACKBONES) == list(FAMILIES)
    assert all(backbone["model_type"] == name for name, backbone in BACKBONES.items())


@pytest.mark.parametrize("name", list(FAMILIES))
def test_parts_are_where_the_entry_says(name: str, tokenizer: PreTrainedTokenizerFast) -> None:
    family, reasoner = FAMILIES[name], make_reasoner(name, tokenizer)
    model = reasoner.backbone
    assert reasoner.family is family
    assert model.get_submodule(family.body) is model.base_model
    assert model.base_model.get_submodule(family.embedding) is model.get_input_embeddings()
    assert len(reasoner.blocks) == model.config.num_hidden_layers
    for site in family.sites:
        assert reasoner.modules_at([site])
    matrices = {
        path.rpartition(".")[2]: module
        for block in reasoner.blocks
        for path, module in block.named_modules()
        if isinstance(module, nn.Linear | Conv1D)
    }
    assert set(matrices) == set(family.lora_targets)
    assert all(isinstance(module, Conv1D) == family.transposed for module in matrices.values())


@pytest.mark.parametrize("name", list(FAMILIES))
def test_adapters_are_merged_as_they_act(name: str, tokenizer: PreTrainedTokenizerFast) -> None:
    lora = Lora(rank=2, alpha=6.0, dropout=0.0)
    torch.manual_seed(0)
    reasoner = make_reasoner(name, tokenizer)
    start = Start(tokenizer=Known(tokenizer), backbone=BACKBONES[name], lora=lora)
    adapted = start.build("coconut", {"num_thoughts": 2}).eval()
    for key, parameter in adapted.named_parameters():
        if "lora_B" in key:
            nn.init.normal_(parameter)
    state = adapted.state_dict()
    merge_lora(state, reasoner.family, "here", lora.alpha)
    reasoner.load_state_dict(state)
    ids = torch.arange(3, 20)[None]
    acted = adapted.backbone(input_ids=ids).logits
    assert torch.allclose(reasoner.backbone(input_ids=ids).logits, acted, atol=1e-4)


class Known:
    """A source of one tokenizer that is there already."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast):
        self.build = lambda: tokenizer


def test_an_unknown_family_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'bert' is not supported; use one of gpt2, llama"):
        family_of("bert")


# -- one entry is enough

MISTRAL = {**BACKBONES["llama"], "model_type": "mistral", "sliding_window": None}


@pytest.mark.slow
@torch.no_grad()
def test_a_new_family_is_one_entry(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made, sampled from, scored, exported and loaded, with nothing but its entry."""
    with pytest.raises(ConfigError, match="'mistral' is not supported"):
        new_reasoner("coconut", MISTRAL, tokenizer, 2)
    monkeypatch.setitem(FAMILIES, "mistral", replace(FAMILIES["llama"], model_type="mistral"))
    torch.manual_seed(0)
    reasoner = new_reasoner("coconut", MISTRAL, tokenizer, 2)
    loaded = load_reasoner(save_folder(reasoner, tmp_path / "reasoner"))
    assert fingerprint(loaded) == fingerprint(reasoner)
    prompts = left_pad([[7, 8, 9], [10, 11]], reasoner.pad_id)
    thoughts = RolloutEngine(loaded, MCDropout(0.3)).rollout(*prompts, num_samples=3).thoughts
    assert thoughts.shape == (2, 3, 2, 32)
    rm = LatentRM.from_reasoner(reasoner, extra_layers=1)
    loaded_rm = load_latent_rm(save_folder(rm, tmp_path / "rm"))
    assert torch.equal(
        loaded_rm.eval().score(*prompts, thoughts), rm.eval().score(*prompts, thoughts)
    )
    start = Start(pretrained=str(tmp_path / "reasoner"), lora=Lora(rank=2))
    assert isinstance(start.build("coconut", {}), LatentReasoner)


# -- names of families and of their parts stand in one file

# (file, string): what may name a family elsewhere, and why
ALLOWED = {
    ("models/published.py", "openai-community/gpt2"),  # an example in a message
    ("engine/plan.py", "gpt2"),  # sizes of well-known models, by their names
    ("engine/plan.py", "llama-"),
    ("cli/commands.py", "--shape gpt2"),
}


def strings_of(path: Path) -> list[tuple[int, str]]:
    """The strings in a file that are not docstrings, each with its line."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    constants = (node for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return [
        (node.lineno, node.value)
        for node in constants
        if isinstance(node.value, str) and id(node) not in docstrings
    ]


def names_in(text: str) -> list[str]:
    """The names of families and of their parts in a string."""
    names = {
        name for f in FAMILIES.values() for name in (f.model_type, f.embedding, *f.lora_targets)
    }
    return re.findall(rf"(?<![A-Za-z0-9_])(?:{'|'.join(sorted(names))})(?![A-Za-z0-9_])", text)


@pytest.mark.slow
def test_no_other_file_names_a_family() -> None:
    found = [
        f"{path.relative_to(PACKAGE)}:{line}: {text}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if path != PACKAGE / "models/families.py"
        for line, text in strings_of(path)
        if names_in(text)
        and not any(
            file == str(path.relative_to(PACKAGE)) and allowed in text for file, allowed in ALLOWED
        )
    ]
    assert found == [], "write it into the family's entry in models/families.py"


def test_a_family_that_is_named_is_found(tmp_path: Path) -> None:
    file = tmp_path / "low.py"
    file.write_text('"""Not gpt2."""\nif family == "gpt2":\n    f"{x} transformer.wte.weight"\n')
    assert [(line, names_in(text)) for line, text in strings_of(file)] == [
        (2, ["gpt2"]),
        (3, ["wte"]),
    ]
    assert names_in("gpt2_small and _wte") == []


def test_every_body_is_known_to_the_formats() -> None:
    for family in FAMILIES.values():
        keys = {
            f"{family.body}.{family.embedding}.weight": torch.zeros(1),
            "lm_head.weight": torch.ones(1),
        }
        state, *_ = rename(keys, LATENT_TTS, "here", CAUSAL_LM.name)
        assert list(state) == [f"backbone.{key}" for key in keys]
