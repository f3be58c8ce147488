"""What a reasoner's training starts from: a pretrained model, or random weights; adapters."""

from dataclasses import dataclass
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor

from lightning_ltts.data.tokenization import TokenizerSource
from lightning_ltts.errors import ConfigError
from lightning_ltts.models.checkpoints import load_reasoner
from lightning_ltts.models.latent_lm import LatentReasoner, new_reasoner

# what adapters are put on by default, per backbone family: all matrices of a block
LORA_TARGETS = {"gpt2": ["c_attn", "c_proj", "c_fc"]}


_LLAMA_TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@dataclass(frozen=True)
class Lora:
    """Low-rank adapters (arXiv 2106.09685); only these and the thought head are trained, and loading merges them.

    Args:
        rank: r.
        alpha: the adapters' change is scaled by alpha / r.
        dropout: on the adapters' input.
        targets: names of the matrices they are put on; by default all of every block.
    """

    rank: int = 128
    alpha: float = 32.0
    dropout: float = 0.1
    targets: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Start:
    """What a reasoner's training starts from: a model, or a tokenizer and a configuration for random weights.

    Args:
        pretrained: any source that `load_reasoner` takes: a causal language model, or a reasoner to go on from.
        base: see `load_reasoner`.
        tokenizer: how the tokenizer is made, where there is no pretrained model.
        backbone: a Hugging Face configuration with its model_type, likewise; the vocabulary is the tokenizer's.
        new_tokens_from: a token whose embedding the markers start from (`<<` in the COCONUT recipe); otherwise the mean of all.
        lora: adapters to train instead of all weights.
    """

    pretrained: str | None = None
    base: str | None = None
    tokenizer: TokenizerSource | None = None
    backbone: dict[str, Any] | None = None
    new_tokens_from: str | None = None
    lora: Lora | None = None

    def build(self, method: str, spec: dict[str, Any]) -> LatentReasoner:
        """The reasoner, with fields of its specification set as given.

        Raises:
            ConfigError: the parts do not fit together, or the adapters' targets match nothing.
        """
        if self.pretrained is not None:
            if self.tokenizer is not None or self.backbone is not None:
                raise ConfigError("give either a pretrained model, or a tokenizer and a backbone to start from random weights")
            reasoner = load_reasoner(self.pretrained, self.base, torch.float32, method=method, **spec).train()
        elif self.tokenizer is None or self.backbone is None:
            raise ConfigError("nothing to start from: give pretrained, or both tokenizer and backbone for random weights")
        else:
            options = {key: spec[key] for key in ("num_thoughts", "max_answer_tokens") if key in spec}
            rest = {key: value for key, value in spec.items() if key not in options}
            reasoner = new_reasoner(method, self.backbone, self.tokenizer.build(), **options, **rest)
        if self.new_tokens_from is not None:
            _start_markers(reasoner, self.new_tokens_from)
        if self.lora is not None:
            _add_adapters(reasoner, self.lora)
        return reasoner


# hyper-parameters in checkpoints hold these, and checkpoints are read in PyTorch's weights-only mode
torch.serialization.add_safe_globals([Lora, Start])
# those of checkpoints that were written when both stood in training/reasoner.py
torch.serialization.add_safe_globals([(cls, f"lightning_ltts.training.reasoner.{cls.__name__}") for cls in (Lora, Start)])


def _start_markers(reasoner: LatentReasoner, token: str) -> None:
    ids = reasoner.tokenizer.encode(token, add_special_tokens=False)
    if len(ids) != 1 or ids[0] == reasoner.tokenizer.unk_token_id:
        raise ConfigError(f"new_tokens_from={token!r} is not one token of the tokenizer, but {len(ids)}; choose another")
    roles = (reasoner.spec.tokens.get(role) for role in ("start", "end", "latent"))
    markers = [reasoner.tokenizer.get_vocab()[name] for name in roles if name is not None]
    with torch.no_grad():
        for module in (reasoner.backbone.get_input_embeddings(), reasoner.backbone.get_output_embeddings()):
            table: Tensor = module.weight  # type: ignore[assignment]  # where both are tied, this is done twice
            table[markers] = table[ids[0]].clone()


def _add_adapters(reasoner: LatentReasoner, lora: Lora) -> None:
    targets = list(lora.targets) if lora.targets is not None else LORA_TARGETS.get(reasoner.family, _LLAMA_TARGETS)
    names = {name.rsplit(".", 1)[-1] for name, _ in reasoner.backbone.named_modules()}
    missing = [target for target in targets if target not in names]
    if missing or not targets:
        raise ConfigError(
            f"LoRA targets that match nothing in this {reasoner.family} backbone: {', '.join(missing) or '(none given)'}; "
            f"choose among {', '.join(sorted(x for x in names if x.endswith(('proj', 'attn', 'fc'))))}"
        )
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]  # a float works as well
        lora_dropout=lora.dropout,
        target_modules=targets,
        fan_in_fan_out=reasoner.family == "gpt2",
    )
    inject_adapter_in_model(config, reasoner.backbone)
