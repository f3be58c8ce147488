"""What a reasoner's training starts from: a pretrained model, or random weights; adapters."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor

from lightning_ltts.data.ranges import Bound, require_number, require_whole
from lightning_ltts.data.tokenization import TokenizerSource
from lightning_ltts.errors import ConfigError
from lightning_ltts.models.checkpoints import load_reasoner
from lightning_ltts.models.latent_lm import LatentReasoner, SpecChanges, new_reasoner

MAX_RANK = Bound(100_000)


@dataclass(frozen=True)
class Lora:
    """Low-rank adapters (arXiv 2106.09685).

    Only these and the thought head are trained; loading merges them with the weights. Tokens of
    thinking whose embeddings are equal, as they are where a plain language model has just got
    them, are moved apart first: their rows are not trained, and equal ones could not be told apart.

    Args:
        rank: r, the inner size of an adapter.
        alpha: the adapters' change is scaled by alpha / r.
        dropout: probability of dropping an element of the adapters' input in training.
        targets: names of the matrices they are put on; by default all of every block.

    Raises:
        ConfigError: a number is out of range.
    """

    rank: int = 128
    alpha: float = 32.0
    dropout: float = 0.1
    targets: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        require_whole("Lora", "rank", self.rank, 1, MAX_RANK)
        require_number("Lora", "alpha", self.alpha, open_ends=True)
        if not 0 <= self.dropout < 1:
            raise ConfigError(
                f"dropout={self.dropout} of Lora must be a number of at least 0 and below 1"
            )


@dataclass(frozen=True)
class Start:
    """A model to start from, or a tokenizer and a configuration for random weights.

    Args:
        pretrained: any source that `load_reasoner` takes: a causal language model, or a reasoner to
            go on from.
        base: the model that gives configuration, tokenizer and weights that `pretrained` does not
            hold.
        tokenizer: how the tokenizer is made, where there is no pretrained model.
        backbone: a Hugging Face configuration with its model_type, likewise; the vocabulary is the
            tokenizer's.
        new_tokens_from: a token whose embedding the markers start from (`<<` in the COCONUT
            recipe); otherwise the mean of all.
        lora: adapters to train instead of all weights.
    """

    pretrained: str | None = None
    base: str | None = None
    tokenizer: TokenizerSource | None = None
    backbone: dict[str, Any] | None = None
    new_tokens_from: str | None = None
    lora: Lora | None = None

    def build(
        self, method: str | None, fixed: Mapping[str, Any], spec: SpecChanges | None = None
    ) -> LatentReasoner:
        """The reasoner, in training mode.

        Args:
            method: the name of its thought head; `None` for that of the pretrained reasoner.
            fixed: fields of its specification that follow from the method's own options.
            spec: further fields.

        Raises:
            ConfigError: the parts do not fit together, `spec` contradicts what is fixed, or the
                adapters' targets match nothing.
        """
        own = {} if method is None else {"method": method}
        fields = join_fields({**own, **fixed}, spec or {})
        if self.pretrained is not None:
            if self.tokenizer is not None or self.backbone is not None:
                raise ConfigError(
                    "give either a pretrained model, or a tokenizer and a backbone to start from random weights"
                )
            reasoner = load_reasoner(self.pretrained, self.base, torch.float32, **fields).train()
        elif self.tokenizer is None or self.backbone is None:
            raise ConfigError(
                "nothing to start from: give pretrained, or both tokenizer and backbone for random weights"
            )
        else:
            tokenizer = self.tokenizer.build()
            reasoner = new_reasoner(backbone=self.backbone, tokenizer=tokenizer, **fields)
        if self.new_tokens_from is not None:
            _start_markers(reasoner, self.new_tokens_from)
        if self.lora is not None:
            _move_markers_apart(reasoner)
            _add_adapters(reasoner, self.lora)
        return reasoner


# checkpoints hold training options as objects of these classes; older ones name where they stood
torch.serialization.add_safe_globals([Lora, Start])
torch.serialization.add_safe_globals([(Lora, "lightning_ltts.training.reasoner.Lora")])
torch.serialization.add_safe_globals([(Start, "lightning_ltts.training.reasoner.Start")])


def join_fields(
    fixed: Mapping[str, Any], given: Mapping[str, Any], where: str = "spec"
) -> dict[str, Any]:
    """Fixed and given fields together; those that are themselves mappings are joined, too.

    Args:
        fixed: fields that follow from other options.
        given: further fields, or the same with the same value.
        where: what `given` is called, for messages.

    Raises:
        ConfigError: a field is given another value than the fixed one.
    """
    joined = dict(fixed)
    for name, value in given.items():
        own = fixed.get(name, value)
        if isinstance(own, Mapping) and isinstance(value, Mapping):
            joined[name] = join_fields(own, value, f"{where}.{name}")
        elif own != value:
            raise ConfigError(
                f"{where}.{name}={value!r} contradicts the method's own options, by which it is {own!r}; leave it out of spec"
            )
        else:
            joined[name] = value
    return joined


def _start_markers(reasoner: LatentReasoner, token: str) -> None:
    """Makes the embeddings of the markers those of a token."""
    ids = reasoner.tokenizer.encode(token, add_special_tokens=False)
    if len(ids) != 1 or ids[0] == reasoner.tokenizer.unk_token_id:
        raise ConfigError(
            f"new_tokens_from={token!r} is not one token of the tokenizer, but {len(ids)}; choose another"
        )
    markers = _markers(reasoner)
    with torch.no_grad():  # where both tables are tied, this is done twice
        for table in _tables(reasoner):
            table[markers] = table[ids[0]].clone()


def _markers(reasoner: LatentReasoner) -> list[int]:
    """Token ids of start, end and latent, as far as there are such."""
    roles = (reasoner.spec.tokens.get(role) for role in ("start", "end", "latent"))
    return [reasoner.tokenizer.get_vocab()[name] for name in roles if name is not None]


def _tables(reasoner: LatentReasoner) -> list[Tensor]:
    """The embeddings (V, d) and the vocabulary head's matrix, which may be the same."""
    backbone = reasoner.backbone
    modules = (backbone.get_input_embeddings(), backbone.get_output_embeddings())
    return [module.weight for module in modules]  # type: ignore[misc]


@torch.no_grad()
def _move_markers_apart(reasoner: LatentReasoner) -> None:
    """Adds noise as large as an embedding to the rows of markers that are equal to another's."""
    generator, markers = torch.Generator().manual_seed(0), _markers(reasoner)
    for table in _tables(reasoner):  # where both are tied, they are apart the second time
        spread = float(table.std())
        for i, marker in enumerate(markers):
            if any(torch.equal(table[marker], table[earlier]) for earlier in markers[:i]):
                noise = torch.randn(table.shape[1], generator=generator)
                table[marker] += spread * noise.to(table)


def _add_adapters(reasoner: LatentReasoner, lora: Lora) -> None:
    """Puts adapters on the backbone, whose own weights then are not trained."""
    family = reasoner.family
    targets = list(family.lora_targets if lora.targets is None else lora.targets)
    names = {name.rsplit(".", 1)[-1] for name, _ in reasoner.backbone.named_modules()}
    missing = [target for target in targets if target not in names]
    if missing or not targets:
        raise ConfigError(
            f"LoRA targets that match nothing in this {family.model_type} backbone: "
            f"{', '.join(missing) or '(none given)'}; choose among {', '.join(family.lora_targets)}"
        )
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]  # a float works as well
        lora_dropout=lora.dropout,
        target_modules=targets,
        fan_in_fan_out=family.transposed,
    )
    inject_adapter_in_model(config, reasoner.backbone)
