"""Tokenizers that are made, not downloaded, and the special tokens of a latent reasoner."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from lightning_ltts.data.problems import AnswerIs, ProblemFiles
from lightning_ltts.data.word_problems import vocabulary
from lightning_ltts.errors import ConfigError, DataError

PAD, EOS, UNK = "<|pad|>", "<|endoftext|>", "<|unknown|>"
START, END, LATENT = "<|start-latent|>", "<|end-latent|>", "<|latent|>"  # in Meta's order
SPECIALS = [PAD, EOS, UNK, START, END, LATENT]
ANSWER_MARKER = "###"
ROLES = {
    "pad": PAD,
    "eos": EOS,
    "unk": UNK,
    "start": START,
    "end": END,
    "latent": LATENT,
}  # of tokenizers made here


class TokenizerSource(ABC):
    """How to make a tokenizer; building it twice gives the same one."""

    @abstractmethod
    def build(self) -> PreTrainedTokenizerFast:
        """The tokenizer, with the special tokens of a latent reasoner in it."""


@dataclass
class WordTokenizer(TokenizerSource):
    """One token per word, number and sign of the built-in task.

    Args:
        max_number: the largest number that is a token.
    """

    max_number: int = 20

    def build(self) -> PreTrainedTokenizerFast:  # noqa: D102
        words = [*SPECIALS, ANSWER_MARKER, *vocabulary(self.max_number)]
        tokenizer = Tokenizer(
            models.WordLevel({word: i for i, word in enumerate(words)}, unk_token=UNK)
        )
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex("[-+*=]"), "isolated")]
        )
        return wrap_tokenizer(tokenizer.to_str())


@dataclass
class BPETokenizer(TokenizerSource):
    """A byte-level BPE tokenizer trained on problem files; digits stay single, so any number can be written.

    Args:
        paths: problem files whose questions and steps it is trained on.
        vocab_size: number of tokens, special tokens included.
        answers: see `ProblemFiles`.
    """

    paths: list[str]
    vocab_size: int = 2048
    answers: AnswerIs = "number"

    def build(self) -> PreTrainedTokenizerFast:  # noqa: D102
        if self.vocab_size < 256 + len(SPECIALS):
            raise ConfigError(
                f"vocab_size={self.vocab_size} is below the {256 + len(SPECIALS)} bytes and special tokens"
            )
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False),
            ]
        )
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=self.vocab_size,
            special_tokens=SPECIALS,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        problems = ProblemFiles(
            [str(Path(path)) for path in self.paths], answers=self.answers
        ).load()
        tokenizer.train_from_iterator(
            ("\n".join((p.question, *p.steps, p.answer)) for p in problems), trainer
        )
        return wrap_tokenizer(tokenizer.to_str())


def wrap_tokenizer(
    serialized: str, roles: Mapping[str, str | None] = ROLES
) -> PreTrainedTokenizerFast:
    """A Hugging Face tokenizer from the JSON text of a `tokenizers` one (the form that checkpoints hold).

    Args:
        serialized: the JSON text.
        roles: the token strings for `pad`, `eos`, `unk` and `bos`, where there are such; `pad` defaults to `eos`. The
            markers `start`, `end` and `latent` count as special tokens in tokenizers made here.
    """
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(serialized),
        pad_token=roles.get("pad") or roles["eos"],
        eos_token=roles["eos"],
        unk_token=roles.get("unk"),
        bos_token=roles.get("bos"),
        additional_special_tokens=[START, END, LATENT] if roles.get("pad") == PAD else [],
        clean_up_tokenization_spaces=False,
    )


def encode_text(
    tokenizer: PreTrainedTokenizerFast,
    text: str,
    source: str = "",
    add_special_tokens: bool = False,
) -> list[int]:
    """Token ids of a text, with the tokenizer's own first and last tokens where `add_special_tokens`.

    Raises:
        DataError: a word is not in the vocabulary; the message names it and `source`.
    """
    encoding = tokenizer(text, add_special_tokens=add_special_tokens, return_offsets_mapping=True)
    ids: list[int] = encoding["input_ids"]
    if tokenizer.unk_token_id in ids and tokenizer.unk_token != tokenizer.eos_token:
        start, end = encoding["offset_mapping"][ids.index(tokenizer.unk_token_id)]
        where = f"{source}: " if source else ""
        raise DataError(
            f"{where}the word '{text[start:end]}' is not in the tokenizer's vocabulary of {len(tokenizer)} words; "
            "use a tokenizer made for this text (for instance BPETokenizer)"
        )
    return ids
