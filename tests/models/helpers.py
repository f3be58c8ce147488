"""Tiny stand-ins for published checkpoints, in the layouts in which they are published."""

from pathlib import Path

import torch
from omegaconf import OmegaConf
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from lightning_ltts.models.latent_lm import make_config
from tests.tiny import BACKBONES

QUESTIONS = ["Tom has 3 cats and 5 dogs. How many pets?", "9 boys, 8 girls. Total?"]


def make_tokenizer(pad: bool) -> PreTrainedTokenizerFast:
    """Byte-level BPE with `###` as one token, like those of published bases; with or without a pad token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    specials = ["<|end|>", *(["<pad>"] if pad else []), "###"]
    tokenizer.train_from_iterator(
        QUESTIONS,
        trainers.BpeTrainer(
            vocab_size=300, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
        ),
    )
    options = {"pad_token": "<pad>"} if pad else {}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", **options)


def make_base(folder: Path, family: str, extra_rows: int = 0, pad: bool = False) -> PreTrainedModel:
    """A causal language model's folder; returns a model of `extra_rows` more tokens with other random weights."""
    torch.manual_seed(0)
    tokenizer = make_tokenizer(pad)
    size = {"n_positions": 160} if family == "gpt2" else {"max_position_embeddings": 160}
    options = {
        **BACKBONES[family],
        **size,
        "eos_token_id": 0,
        "bos_token_id": 0,
        "tie_word_embeddings": True,
    }
    base = AutoModelForCausalLM.from_config(make_config({**options, "vocab_size": len(tokenizer)}))
    base.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return AutoModelForCausalLM.from_config(
        make_config({**options, "vocab_size": len(tokenizer) + extra_rows})
    ).eval()


def untied(model: PreTrainedModel) -> dict[str, Tensor]:
    return {key: t.clone() for key, t in model.state_dict().items() if key != "lm_head.weight"}


def codi_state(trained: PreTrainedModel, family: str, rank: int = 128) -> dict[str, Tensor]:
    """As CODI's trainer saves it: adapters on some layers, everything else below the wrapper."""
    torch.manual_seed(1)
    state: dict[str, Tensor] = {}
    for key, tensor in trained.state_dict().items():
        module = key.rpartition(".")[0]
        if module.endswith(("c_attn", "c_fc", "q_proj", "down_proj")):
            state[f"codi.base_model.model.{module}.base_layer.{key.rpartition('.')[2]}"] = tensor
            if key.endswith("weight"):
                size_in, size_out = tensor.shape if family == "gpt2" else tensor.T.shape
                state[f"codi.base_model.model.{module}.lora_A.default.weight"] = 0.1 * torch.randn(
                    rank, size_in
                )
                state[f"codi.base_model.model.{module}.lora_B.default.weight"] = 0.1 * torch.randn(
                    size_out, rank
                )
        else:
            state[f"codi.base_model.model.{key}"] = tensor
    for name, shape in {"1": (48, 32), "3": (32, 48)}.items():
        state |= {
            f"prj.{name}.weight": torch.randn(shape),
            f"prj.{name}.bias": torch.randn(shape[0]),
        }
    state |= {"prj.ln.weight": torch.randn(32), "prj.ln.bias": torch.randn(32)}
    return state


def colar_checkpoint(folder: Path) -> dict[str, Tensor]:
    """As CoLaR's Lightning module saves it: adapters and latent policy only, hyper-parameters as OmegaConf objects."""
    make_base(folder / "base", "llama")
    torch.manual_seed(2)
    state: dict[str, Tensor] = {}
    for layer in range(2):
        for name, size in (("q_proj", 32), ("v_proj", 16)):
            prefix = f"llm.base_model.model.model.layers.{layer}.self_attn.{name}.lora_"
            state |= {
                f"{prefix}A.default.weight": torch.randn(4, 32),
                f"{prefix}B.default.weight": torch.randn(size, 4),
            }
    for name, shape in {
        "fc.0": (40, 32),
        "fc.2": (40, 40),
        "mean": (32, 40),
        "log_std": (32, 40),
    }.items():
        state |= {
            f"latent_policy.{name}.weight": torch.randn(shape),
            f"latent_policy.{name}.bias": torch.randn(shape[0]),
        }
    state |= {
        "latent_policy.fc.3.weight": torch.ones(40),
        "latent_policy.fc.3.bias": torch.zeros(40),
    }
    lora = {"r": 4, "lora_alpha": 32, "target_modules": ["q_proj", None, True]}
    config = OmegaConf.create({"model": {"lr": 1e-4, "lora_config": lora}, "again": "${model.lr}"})
    checkpoint = {
        "state_dict": state,
        "hyper_parameters": {"all_config": config, "epoch": 3},
        "epoch": 3,
    }
    torch.save(checkpoint, folder / "colar_best.ckpt")
    return state


def save_adapters(base: Path, folder: Path, **options) -> torch.nn.Module:
    """A model with random adapters on a base, saved as PEFT does."""
    torch.manual_seed(3)
    config = LoraConfig(
        r=4, lora_alpha=12, init_lora_weights=False, task_type="CAUSAL_LM", **options
    )
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    model.save_pretrained(folder)
    return model.eval()
