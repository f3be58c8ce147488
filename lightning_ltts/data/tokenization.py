"""Tokenizers that are made, not downloaded, and the special tokens of a latent reasoner."""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakKeyDictionary

import torch
from tokenizers import Encoding, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from lightning_ltts.data.graph_problems import CONCEPTS, PERSONS, RELATION, WORDS
from lightning_ltts.data.problems import ProblemFiles
from lightning_ltts.data.ranges import Bound, require_whole
from lightning_ltts.data.source_options import AnswerIs
from lightning_ltts.data.word_problems import MAX_NUMBER, vocabulary
from lightning_ltts.errors import ConfigError, DataError, shorten

PAD, EOS, UNK = "<|pad|>", "<|endoftext|>", "<|unknown|>"
START, END, LATENT = "<|start-latent|>", "<|end-latent|>", "<|latent|>"  # in Meta's order
SPECIALS = [PAD, EOS, UNK, START, END, LATENT]
ANSWER_MARKER = "###"
MAX_VOCABULARY = Bound(1_000_000)  # tokens
# of tokenizers made here
ROLES = {"pad": PAD, "eos": EOS, "unk": UNK, "start": START, "end": END, "latent": LATENT}


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

    def __post_init__(self) -> None:
        require_whole("WordTokenizer", "max_number", self.max_number, 1, MAX_NUMBER)

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
class GraphTokenizer(TokenizerSource):
    """Four tokens per sentence of the built-in graph task: "Every", "baldak", "is a" and "nipern".

    A concept is the same token wherever it stands, so that to follow a path is to look a token up.
    With a token for "Every baldak" and another for "is a baldak" a reasoner has to learn for each
    name that both are one, and learned nothing. Full stops are no tokens: what is decoded has none
    either, which the comparison of text answers does not see.
    """

    def build(self) -> PreTrainedTokenizerFast:  # noqa: D102
        words = [*SPECIALS, ANSWER_MARKER, *WORDS, *RELATION, *PERSONS, *CONCEPTS]
        tokenizer = Tokenizer(
            models.WordLevel({word: i for i, word in enumerate(words)}, unk_token=UNK)
        )
        parts = Regex(rf"\b(?:{'|'.join(RELATION)})\b|\?|[^\s.?]+")
        tokenizer.pre_tokenizer = pre_tokenizers.Split(parts, "removed", invert=True)
        return wrap_tokenizer(tokenizer.to_str())


@dataclass
class BPETokenizer(TokenizerSource):
    """A byte-level BPE tokenizer trained on problem files; digits stay single, so any number can be written.

    Args:
        paths: problem files whose questions and steps it is trained on.
        vocab_size: number of tokens, special tokens included.
        answers: `number` or `text`; see `ProblemFiles`.
    """

    paths: list[str]
    vocab_size: int = 2048
    answers: AnswerIs = "number"

    def __post_init__(self) -> None:
        # all bytes and special tokens are in any vocabulary
        smallest = 256 + len(SPECIALS)
        require_whole("BPETokenizer", "vocab_size", self.vocab_size, smallest, MAX_VOCABULARY)

    def build(self) -> PreTrainedTokenizerFast:  # noqa: D102
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


# checkpoints hold training options as objects of these classes
torch.serialization.add_safe_globals([BPETokenizer, GraphTokenizer, WordTokenizer])


def wrap_tokenizer(
    serialized: str, roles: Mapping[str, str | None] = ROLES
) -> PreTrainedTokenizerFast:
    """A Hugging Face tokenizer from the JSON text of a `tokenizers` one (the form that checkpoints hold).

    Args:
        serialized: the JSON text.
        roles: the token strings for `pad`, `eos`, `unk` and `bos`, where there are such; `pad`
            defaults to `eos`. The markers `start`, `end` and `latent` count as special tokens in
            tokenizers made here.

    Raises:
        ConfigError: there is no `eos`.
    """
    if not roles.get("eos"):
        raise ConfigError(
            f"tokens={shorten(dict(roles))} name no 'eos', the token that ends every answer; give "
            "all tokens of the reasoner's specification"
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(serialized),
        pad_token=roles.get("pad") or roles["eos"],
        eos_token=roles["eos"],
        unk_token=roles.get("unk"),
        bos_token=roles.get("bos"),
        additional_special_tokens=[START, END, LATENT] if roles.get("pad") == PAD else [],
        clean_up_tokenization_spaces=False,
    )


# -- from text to token ids

_PLACE = "{question}"
# added tokens that are not marked as special but stand for no text, such as <|start-latent|>
_CONTROL_FORM = re.compile(r"<[^<>\s]+>|\[[^\[\]\s]+\]")
# what is derived from a tokenizer, as long as it lives
_CONTROLS: WeakKeyDictionary[PreTrainedTokenizerFast, dict[int, str]] = WeakKeyDictionary()
_PLAIN: WeakKeyDictionary[PreTrainedTokenizerFast, Tokenizer] = WeakKeyDictionary()


def encode_text(
    tokenizer: PreTrainedTokenizerFast,
    text: str,
    source: str = "",
    add_special_tokens: bool = False,
) -> list[int]:
    """Token ids of a text that others wrote; nothing in it becomes a control token.

    Args:
        tokenizer: the reasoner's tokenizer.
        text: any text, which can hold the names of control tokens.
        source: the file and row the text stands in, for messages.
        add_special_tokens: whether the tokenizer's own first and last tokens are put around it.

    Raises:
        DataError: a word is not in the vocabulary; the message names it and `source`.
    """
    return encode_template(tokenizer, _PLACE, text, source, add_special_tokens)


def encode_template(
    tokenizer: PreTrainedTokenizerFast,
    template: str,
    question: str = "",
    source: str = "",
    add_special_tokens: bool = False,
) -> list[int]:
    """Token ids of a template with a question in it.

    Control tokens that the template names are encoded as such, those in the question as plain text.

    Args:
        tokenizer: the reasoner's tokenizer.
        template: our own text, with `{question}` where the question stands.
        question: any text, which can hold the names of control tokens.
        source: the file and row the question stands in, for messages.
        add_special_tokens: whether the tokenizer's own first and last tokens are put around it.

    Raises:
        DataError: a word of the question is not in the vocabulary.
    """
    text = template.replace(_PLACE, question)
    encoding = tokenizer(text, add_special_tokens=add_special_tokens, return_offsets_mapping=True)
    ids: list[int] = encoding["input_ids"]
    controls = _control_tokens(tokenizer)
    if not controls.keys().isdisjoint(ids):
        # what the tokenizer adds of itself spans no text
        spans = zip(ids, encoding["offset_mapping"], strict=True)
        written = [controls[i] for i, (start, end) in spans if i in controls and end > start]
        parts = _split_at(controls.values(), template)
        if written != parts[1::2]:
            return _encode_apart(tokenizer, parts, question, source, add_special_tokens)
    _require_known(tokenizer, ids, encoding["offset_mapping"], text, source)
    return ids


def _control_tokens(tokenizer: PreTrainedTokenizerFast) -> dict[int, str]:
    """Id -> text of the tokens that stand for no text: special tokens, and markers of thinking."""
    if tokenizer not in _CONTROLS:
        _CONTROLS[tokenizer] = {
            number: token.content
            for number, token in tokenizer.added_tokens_decoder.items()
            if token.special or _CONTROL_FORM.fullmatch(token.content)
        }
    return _CONTROLS[tokenizer]


def _plain_tokenizer(tokenizer: PreTrainedTokenizerFast) -> Tokenizer:
    """The same tokenizer, for which the names of control tokens are text like any other."""
    if tokenizer not in _PLAIN:
        serialized = json.loads(tokenizer.backend_tokenizer.to_str())
        controls = set(_control_tokens(tokenizer).values())
        for token in serialized["added_tokens"]:
            token["special"] = token["special"] or token["content"] in controls
        _PLAIN[tokenizer] = Tokenizer.from_str(json.dumps(serialized))
        _PLAIN[tokenizer].encode_special_tokens = True
    return _PLAIN[tokenizer]


def _split_at(tokens: Iterable[str], template: str) -> list[str]:
    """The parts of a template, of which every second is one of the tokens."""
    longest_first = sorted(tokens, key=len, reverse=True)
    return re.split(f"({'|'.join(map(re.escape, longest_first))})", template)


def _encode_apart(
    tokenizer: PreTrainedTokenizerFast,
    parts: list[str],
    question: str,
    source: str,
    add_special_tokens: bool,
) -> list[int]:
    """Encodes the texts between a template's control tokens without regard to such tokens."""
    plain, controls = _plain_tokenizer(tokenizer), _control_tokens(tokenizer)
    encodings = []
    for number, part in enumerate(parts):
        if number % 2:
            encodings.append(tokenizer.backend_tokenizer.encode(part, add_special_tokens=False))
            continue
        text = part.replace(_PLACE, question)
        encoding = plain.encode(text, add_special_tokens=False)
        _require_known(tokenizer, encoding.ids, encoding.offsets, text, source, controls)
        encodings.append(encoding)
    merged = Encoding.merge(encodings, growing_offsets=True)
    ids: list[int] = plain.post_process(merged, None, add_special_tokens).ids
    return ids


def _require_known(
    tokenizer: PreTrainedTokenizerFast,
    ids: Sequence[int],
    offsets: Sequence[tuple[int, int]],
    text: str,
    source: str,
    controls: Collection[int] = (),
) -> None:
    """Refuses a text with a word outside the vocabulary.

    In a tokenizer of words the name of a control token can be a word of the vocabulary; as text it
    is not.
    """
    unknown = set(controls)
    if tokenizer.unk_token_id is not None and tokenizer.unk_token != tokenizer.eos_token:
        unknown.add(tokenizer.unk_token_id)
    if unknown.isdisjoint(ids):
        return
    start, end = next(span for number, span in zip(ids, offsets, strict=True) if number in unknown)
    where = f"{source}: " if source else ""
    raise DataError(
        f"{where}the word {shorten(text[start:end])} is not in the tokenizer's vocabulary of "
        f"{len(tokenizer)} words; use a tokenizer made for this text (for instance BPETokenizer)"
    )
