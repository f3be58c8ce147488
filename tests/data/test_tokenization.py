import json
from pathlib import Path

import pytest

from lightning_ltts.data.tokenization import (
    END,
    LATENT,
    START,
    BPETokenizer,
    WordTokenizer,
    encode_text,
    wrap_tokenizer,
)
from lightning_ltts.errors import ConfigError, DataError


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


def test_vocabulary_too_small(bpe_file: str) -> None:
    with pytest.raises(ConfigError, match="vocab_size=100"):
        BPETokenizer([bpe_file], 100).build()


def test_special_tokens_survive_serialisation_and_are_not_decoded() -> None:
    tokenizer = wrap_tokenizer(WordTokenizer(20).build().backend_tokenizer.to_str())
    ids = tokenizer.convert_tokens_to_ids(
        [START, LATENT, "7", END, tokenizer.eos_token, tokenizer.pad_token]
    )
    assert len(set(ids)) == 6
    assert tokenizer.decode(ids, skip_special_tokens=True) == "7"
