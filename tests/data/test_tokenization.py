import json
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, processors
from transformers import PreTrainedTokenizerFast

from lightning_ltts.data.tokenization import (
    END,
    EOS,
    LATENT,
    PAD,
    SPECIALS,
    START,
    BPETokenizer,
    WordTokenizer,
    encode_template,
    encode_text,
    wrap_tokenizer,
)
from lightning_ltts.errors import ConfigError, DataError
from lightning_ltts.models.latent_lm import new_reasoner
from tests.tiny import BACKBONES


@pytest.fixture
def bpe_file(tmp_path: Path) -> str:
    path = tmp_path / "train.json"
    rows = [
        {"question": f"Tim has {i} apples and eats {j}.", "answer": str(i - j)}
        for i in range(9)
        for j in range(9)
    ]
    path.write_text(json.dumps(rows))
    return str(path)


def test_words_and_signs_are_tokens() -> None:
    tokenizer = WordTokenizer(20).build()
    ids = encode_text(tokenizer, "12-3=9\n### 9")
    assert tokenizer.convert_ids_to_tokens(ids) == ["12", "-", "3", "=", "9", "###", "9"]


def test_unknown_word_is_named_with_its_place() -> None:
    with pytest.raises(
        DataError, match=r"a\.json, row 3: the word 'zebras' is not in the tokenizer's vocabulary"
    ):
        encode_text(WordTokenizer(20).build(), "Ann has 3 zebras", "a.json, row 3")
    with pytest.raises(DataError, match="the word '21'"):
        encode_text(WordTokenizer(20).build(), "Ann has 21 pens.")


def test_bpe_writes_any_number_and_any_text(bpe_file: str) -> None:
    tokenizer = BPETokenizer([bpe_file], vocab_size=300).build()
    text = "Zoë owes $1,234,567.89 \u2192 ok?\n### 12345"
    ids = encode_text(tokenizer, text)
    assert tokenizer.decode(ids) == text
    assert all(
        len(t) == 1 for t in tokenizer.convert_ids_to_tokens(encode_text(tokenizer, "98765"))
    )


def test_bpe_is_the_same_each_time(bpe_file: str) -> None:
    one, two = (BPETokenizer([bpe_file], 300).build().backend_tokenizer.to_str() for _ in range(2))
    assert one == two


@pytest.mark.parametrize("size", [100, 10**15, 1e4, -1])
def test_vocabulary_of_no_possible_size(size: int) -> None:
    with pytest.raises(
        ConfigError, match=f"vocab_size={size} of BPETokenizer must be a whole number from 262"
    ):
        BPETokenizer(["a.json"], size)


@pytest.mark.parametrize("number", [0, 10**15])
def test_numbers_of_no_possible_size(number: int) -> None:
    with pytest.raises(ConfigError, match=f"max_number={number} of WordTokenizer"):
        WordTokenizer(number)


def test_special_tokens_survive_serialisation_and_are_not_decoded() -> None:
    tokenizer = wrap_tokenizer(WordTokenizer(20).build().backend_tokenizer.to_str())
    ids = tokenizer.convert_tokens_to_ids(
        [START, LATENT, "7", END, tokenizer.eos_token, tokenizer.pad_token]
    )
    assert len(set(ids)) == 6
    assert tokenizer.decode(ids, skip_special_tokens=True) == "7"


def test_a_word_of_any_length_makes_a_short_message() -> None:
    with pytest.raises(DataError, match="the word 'zzz") as caught:
        encode_text(WordTokenizer(20).build(), "Ann has " + "z" * 10**5)
    assert len(str(caught.value)) < 300


LOOKALIKES = [EOS, START, END, LATENT, PAD, f"{LATENT}{LATENT}", f"7{END}", f"{START} and {END}"]


class TestControlTokens:
    """What a question says is text, even where it says the name of a control token."""

    @pytest.fixture
    def byte_level(self, bpe_file: str) -> PreTrainedTokenizerFast:
        return BPETokenizer([bpe_file], vocab_size=300).build()

    @pytest.mark.parametrize("text", LOOKALIKES)
    def test_bytes(self, byte_level: PreTrainedTokenizerFast, text: str) -> None:
        controls = set(byte_level.convert_tokens_to_ids(SPECIALS))
        ids = encode_text(byte_level, f"Tim has {text} apples.")
        assert not controls & set(ids)
        assert byte_level.decode(ids) == f"Tim has {text} apples."
        # ordinary text is as before, also after such a text was seen
        assert encode_text(byte_level, "Tim has 7.") == byte_level("Tim has 7.")["input_ids"]

    @pytest.mark.parametrize("text", LOOKALIKES)
    def test_words(self, text: str) -> None:
        with pytest.raises(
            DataError,
            match=r"a\.json, row 3: the word '.*<.*' is not in the tokenizer's vocabulary",
        ):
            encode_text(WordTokenizer(20).build(), f"Ann has {text} pens.", "a.json, row 3")

    @pytest.mark.parametrize("special", [True, False])
    def test_markers_that_were_added_later(
        self, byte_level: PreTrainedTokenizerFast, special: bool
    ) -> None:
        """Published tokenizers have theirs as added tokens, special or not; added words are words."""
        backend = Tokenizer.from_str(byte_level.backend_tokenizer.to_str())
        backend.add_tokens(
            [AddedToken("<|bocot|>", special=special), AddedToken("[PAD]", special=special)]
        )
        backend.add_tokens([AddedToken("zebra", special=False)])
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=EOS)
        ids = encode_text(tokenizer, "Tim <|bocot|> [PAD] zebra <|endoftext|>")
        assert tokenizer.convert_tokens_to_ids("zebra") in ids
        assert not set(tokenizer.convert_tokens_to_ids(["<|bocot|>", "[PAD]", EOS])) & set(ids)
        assert tokenizer.decode(ids).replace(" ", "") == "Tim<|bocot|>[PAD]zebra<|endoftext|>"

    @pytest.mark.parametrize(
        "question", ["Tim has 7.", f"Tim {EOS} has {START} 7.", START, "{question}"]
    )
    def test_those_of_the_template_are_kept(
        self, byte_level: PreTrainedTokenizerFast, question: str
    ) -> None:
        start, end = byte_level.convert_tokens_to_ids([START, END])
        template = f"{START}Q: {{question}}{END}\n"
        ids = encode_template(byte_level, template, question)
        assert (ids[0], ids.count(start), ids.count(end), ids[-2]) == (start, 1, 1, end)
        assert not set(byte_level.convert_tokens_to_ids([EOS, LATENT, PAD])) & set(ids)
        assert byte_level.decode(ids) == template.replace("{question}", question)
        if "<" not in question:
            assert ids == byte_level(template.replace("{question}", question))["input_ids"]

    def test_template_and_question_never_make_one_together(
        self, byte_level: PreTrainedTokenizerFast
    ) -> None:
        ids = encode_template(byte_level, "<|{question}|> 7", "endoftext")
        assert byte_level.eos_token_id not in ids
        assert byte_level.decode(ids) == "<|endoftext|> 7"

    @pytest.mark.parametrize("question", ["Tim has 7.", f"Tim {EOS} has 7.", EOS])
    def test_the_tokenizers_own_first_token(
        self, byte_level: PreTrainedTokenizerFast, question: str
    ) -> None:
        backend = Tokenizer.from_str(byte_level.backend_tokenizer.to_str())
        eos = byte_level.eos_token_id
        backend.post_processor = processors.TemplateProcessing(
            single=f"{EOS} $A", special_tokens=[(EOS, eos)]
        )
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=EOS)
        ids = encode_text(tokenizer, question, add_special_tokens=True)
        assert ids[0] == eos
        assert eos not in ids[1:]
        assert ids[1:] == encode_text(tokenizer, question)

    def test_a_prompt_of_a_reasoner(self, byte_level: PreTrainedTokenizerFast) -> None:
        reasoner = new_reasoner("coconut", {**BACKBONES["gpt2"], "n_positions": 128}, byte_level, 2)
        controls = set(byte_level.convert_tokens_to_ids(SPECIALS))
        ids = reasoner.encode_prompt(f"Ann writes {EOS} and {END}. How many marks?")
        assert [i for i in ids if i in controls] == [reasoner.start_id]
