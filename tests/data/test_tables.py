"""Problems in tables: CSV, Parquet, folders that `datasets` saved, data sets of the Hub by name."""

import json
from pathlib import Path

import datasets
import pytest

from lightning_ltts.data import tables
from lightning_ltts.data.problems import ProblemFiles
from lightning_ltts.data.tables import HubName, exists, read_rows
from lightning_ltts.errors import ConfigError, DataError

ROWS = [
    {"question": "One, and one?", "steps": ["1+1=2", "so 2"], "answer": "2"},
    {"question": "A third of 1?", "steps": [], "answer": "0.3333333333333333333333"},
]
CSV = (
    "question,steps,answer\n"
    '"One, and one?","[""1+1=2"", ""so 2""]",2\n'
    "A third of 1?,,0.3333333333333333333333\n"
)


def loaded(path: str | Path, **options) -> list[tuple]:
    return [
        (p.question, list(p.steps), p.answer) for p in ProblemFiles([str(path)], **options).load()
    ]


@pytest.fixture
def expected(tmp_path: Path) -> list[tuple]:
    (tmp_path / "a.json").write_text(json.dumps(ROWS))
    return loaded(tmp_path / "a.json")


IN_QUOTES = '"[""1+1=2"", ""so 2""]"'
THIRD = "0.3333333333333333333333"
VARIANTS = {
    "a.csv": CSV,
    "byte_order_mark.csv": f"\ufeff{CSV}",
    "semicolons.csv": f"question;steps;answer\nOne, and one?;{IN_QUOTES};2\nA third of 1?;;{THIRD}\n",
    "windows.csv": CSV.replace("\n", "\r\n"),
    "lines.csv": CSV.replace(IN_QUOTES, '"1+1=2\nso 2"'),
    "a.tsv": f"question\tsteps\tanswer\nOne, and one?\t{IN_QUOTES}\t2\n\nA third of 1?\t\t{THIRD}\n",
}


@pytest.mark.parametrize(("name", "text"), VARIANTS.items(), ids=list(VARIANTS))
def test_csv_is_read_as_json_is(name: str, text: str, expected: list, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    assert loaded(tmp_path / name) == expected


def test_parquet_and_saved_folders(expected: list, tmp_path: Path) -> None:
    data = datasets.Dataset.from_list(ROWS)
    data.to_parquet(tmp_path / "a.parquet")
    data.save_to_disk(tmp_path / "saved")
    parts = datasets.DatasetDict(train=data.select([0]), test=data)
    parts.save_to_disk(tmp_path / "parts")
    for place in ("a.parquet", "saved", "parts:test"):
        assert loaded(tmp_path / place) == expected
        assert exists(str(tmp_path / place))
    assert loaded(f"{tmp_path}/parts:train") == expected[:1]
    with pytest.raises(
        DataError, match=r"has the parts train, test; name one, as in .*parts:train"
    ):
        loaded(tmp_path / "parts")


def test_numbers_of_tables_keep_their_digits(tmp_path: Path) -> None:
    data = datasets.Dataset.from_list([{"question": "q", "answer": 5e-6}])
    data.to_parquet(tmp_path / "a.parquet")
    assert loaded(tmp_path / "a.parquet")[0][2] == "0.000005"
    (tmp_path / "a.csv").write_text("question,answer,id\nq,123456789012345678901,007\n")
    (problem,) = ProblemFiles([str(tmp_path / "a.csv")]).load()
    assert (problem.answer, problem.id) == ("123456789012345678901", "007")


def test_columns(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("Frage,Antwort\nWas gibt 1+1?,2\n")
    columns = {"question": "Frage", "answer": "Antwort"}
    assert loaded(tmp_path / "a.csv", columns=columns) == [("Was gibt 1+1?", [], "2")]
    with pytest.raises(
        DataError, match=r"line 2 has no field 'question'; it has 'Frage', 'Antwort'"
    ):
        loaded(tmp_path / "a.csv")
    with pytest.raises(DataError, match="has no column 'Ask' for the question; it has Frage"):
        loaded(tmp_path / "a.csv", columns={"question": "Ask"})
    with pytest.raises(ConfigError, match="columns of ProblemFiles names the field 'asked'"):
        ProblemFiles(["a"], columns={"asked": "question"})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty; it must hold at least one problem"),
        ("question,answer\n", "is empty; it must hold at least one problem"),
        ("question,answer\nOne, two,3\n", "line 2 has 3 cells, but the first line names 2 columns"),
        ("question,answer,answer\nq,1,2\n", "has a column more than once"),
        ('question,answer\n"q,1\n', "line 2 is not valid CSV"),
        ("question,answer\nq,\n", "line 2 has no field 'answer'"),
        ("question,answer\nq,many\n", "line 2, field 'answer' is 'many'"),
        ("question,steps,answer\nq,[1],2\n", "line 2, field 'steps' must be a list of texts"),
    ],
)
def test_csv_that_is_refused(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DataError, match=r"a\.csv") as error:
        loaded(tmp_path / "a.csv")
    assert words in str(error.value)


def test_other_things_that_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 no")
    (tmp_path / "b").mkdir()
    (tmp_path / "b/state.json").write_text("{")
    for place, words in (
        (tmp_path / "a.parquet", "is not valid Parquet"),
        (tmp_path / "none.parquet", "does not exist"),
        (tmp_path / "b", "cannot be read by datasets"),
        ("hf://nobody", "names no data set of the Hub; write hf://owner/name"),
    ):
        with pytest.raises(DataError, match=words):
            read_rows(str(place))


def test_names_on_the_hub(monkeypatch: pytest.MonkeyPatch, expected: list) -> None:
    assert HubName.of("hf://a/b") == ("a/b", None, "train", None)
    assert HubName.of("hf://a/b@v1/main:test[:10%]") == ("a/b", "main", "test[:10%]", "v1")
    asked = []

    def load(*given, **options):
        asked.append((given, options))
        return datasets.Dataset.from_list(ROWS)

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert loaded("hf://openai/gsm8k@v1/main:test") == expected
    assert asked == [(("openai/gsm8k", "main"), {"split": "test", "revision": "v1"})]
    assert tables.kind_of("hf://a/b") == "a data set of the Hub"


def test_steps_as_texts_in_a_column_of_another_name(tmp_path: Path) -> None:
    """A JSON list or lines, in CSV and in Parquet; other columns stay texts."""
    rows = [
        {"question": "One?", "cot": '["1+1=2", "2=2"]', "answer": "2", "steps": "[not read]"},
        {"question": "Two?", "cot": "1+2=3\n3=3", "answer": "3", "steps": ""},
    ]
    datasets.Dataset.from_list(rows).to_csv(tmp_path / "a.csv", index=False)
    datasets.Dataset.from_list(rows).to_parquet(tmp_path / "a.parquet")
    expected = [("One?", ["1+1=2", "2=2"], "2"), ("Two?", ["1+2=3", "3=3"], "3")]
    for name in ("a.csv", "a.parquet"):
        assert loaded(tmp_path / name, columns={"steps": "cot"}) == expected


@pytest.mark.parametrize("space", ["\u2028", "\x85", "\x0c", "\x1d"])
def test_a_line_of_csv_ends_where_a_line_ends(space: str, tmp_path: Path) -> None:
    """Not at other characters that Unicode takes for the end of a line."""
    (tmp_path / "a.csv").write_text(f"question,answer\nWhat{space}is 1+1?,2\nNext?,3\n")
    assert [question for question, *_ in loaded(tmp_path / "a.csv")] == ["What is 1+1?", "Next?"]
