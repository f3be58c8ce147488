import json
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest

from lightning_ltts.data.answers import extract_answer
from lightning_ltts.data.problems import HubProblems, ProblemFiles
from lightning_ltts.errors import ConfigError, DataError


def write(path: Path, content: object) -> list[str]:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return [str(path)]


def test_coconut_format(tmp_path: Path) -> None:
    rows = [
        {"question": " How \n many? ", "steps": ["<<1+1=2>>"], "answer": "2"},
        {"question": "And now?", "answer": 0},
    ]
    first, second = ProblemFiles(write(tmp_path / "a.json", rows)).load()
    assert (first.question, first.steps, first.value) == ("How many?", ("<<1+1=2>>",), 2)
    assert second.value == 0  # zero is an answer
    assert second.steps == ()


def test_json_lines_and_gsm8k(tmp_path: Path) -> None:
    text = '{"question": "Q", "answer": "He has 48/2 = <<48/2=24>>24.\\nSo <<48+24=72>>72.\\n#### 1,072"}\n\n'
    (problem,) = ProblemFiles(write(tmp_path / "a.jsonl", text)).load()
    assert problem.steps == ("<<48/2=24>>", "<<48+24=72>>")
    assert problem.value == 1072


def test_limit_and_several_files(tmp_path: Path) -> None:
    rows = [{"question": f"q{i}", "answer": str(i)} for i in range(3)]
    paths = write(tmp_path / "a.json", rows) + write(tmp_path / "b.json", rows)
    assert [p.question for p in ProblemFiles(paths, limit=4).load()] == ["q0", "q1", "q2", "q0"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "bad.json is empty"),
        ("[]", "bad.json is empty"),
        ("[1,", "bad.json is not valid JSON"),
        ('{"question": "q", "answer": "1"}\n{"ques', "bad.json, line 2 is not valid JSON"),
        ('[{"question": "q"}]', "bad.json, row 1 has no field 'answer'"),
        (
            '[{"question": "q", "answer": "1"}, {"question": "q", "answer": " "}]',
            "bad.json, row 2, field 'answer'",
        ),
        ('[{"question": "", "answer": "1"}]', "bad.json, row 1, field 'question'"),
        ('[{"question": "q", "answer": "many"}]', "bad.json, row 1, field 'answer' is 'many'"),
        ('[{"question": "q", "answer": "1", "steps": "1+1"}]', "bad.json, row 1, field 'steps'"),
        ("[3]", "bad.json, row 1 is "),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, content: str, expected: str) -> None:
    with pytest.raises(DataError, match=expected):
        ProblemFiles(write(tmp_path / "bad.json", content)).load()


def test_names_depend_on_the_question_alone(tmp_path: Path) -> None:
    """Randomness is keyed by them: neither another file name nor another order of the rows may change a sample."""
    rows = [{"question": f"q {i}", "answer": str(i)} for i in range(4)]
    one = ProblemFiles(write(tmp_path / "a.json", rows)).load()
    other = ProblemFiles(
        write(
            tmp_path / "b.json", [{**row, "question": f"  {row['question']}"} for row in rows[::-1]]
        )
    ).load()
    assert {p.question: p.id for p in one} == {p.question: p.id for p in other}
    assert len({p.id for p in one}) == 4


def test_repeated_questions_are_numbered_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [
        {"question": "q", "answer": "1"},
        {"question": "r", "answer": "1"},
        {"question": " q ", "answer": "2"},
    ]
    with caplog.at_level("INFO"):
        first, _, third = ProblemFiles(write(tmp_path / "a.json", rows)).load()
    assert third.id == f"{first.id}-2"
    assert "1 of 3 problems repeat the question of another" in caplog.text


def test_ids_of_rows_are_kept(tmp_path: Path) -> None:
    rows = [
        {"id": "gsm-7", "question": "q", "answer": "1"},
        {"id": 12, "question": "r", "answer": "1"},
    ]
    assert [p.id for p in ProblemFiles(write(tmp_path / "a.json", rows)).load()] == ["gsm-7", "12"]
    with pytest.raises(
        DataError, match=r"a\.json, row 2 and .*a\.json, row 1 both have the id 'x'"
    ):
        ProblemFiles(write(tmp_path / "a.json", [{**row, "id": "x"} for row in rows])).load()


def test_missing_file_and_bad_options(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nope\.json does not exist"):
        ProblemFiles([str(tmp_path / "nope.json")]).load()
    with pytest.raises(ConfigError, match="empty list"):
        ProblemFiles([])
    with pytest.raises(ConfigError, match="limit=0"):
        ProblemFiles(["a"], limit=0)


def test_not_text(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not UTF-8"):
        ProblemFiles([str(tmp_path / "a.json")]).load()


class TestHub:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """A data set of two splits, as `datasets` finds it in a folder."""
        rows = [{"input": "2 and 2?", "target": 4.0}, {"input": "Half of 1e-5?", "target": 5e-6}]
        for split in ("train", "test"):
            (tmp_path / f"{split}.jsonl").write_text(
                "".join(json.dumps(row) + "\n" for row in rows[: 2 if split == "test" else 1])
            )
        return tmp_path

    def test_columns_and_splits(self, folder: Path) -> None:
        source = HubProblems(
            str(folder), split="train+test", columns={"question": "input", "answer": "target"}
        )
        problems = source.load()
        assert [p.question for p in problems] == ["2 and 2?", "2 and 2?", "Half of 1e-5?"]
        assert [p.answer for p in problems] == ["4.0", "4.0", "0.000005"]
        assert len({p.id for p in problems}) == 3
        assert source.load() == problems
        limited = HubProblems(
            str(folder), columns={"question": "input", "answer": "target"}, limit=1
        )
        assert len(limited.load()) == 1

    def test_user_errors(self, folder: Path) -> None:
        with pytest.raises(DataError, match="has no column 'question'; it has input, target"):
            HubProblems(str(folder)).load()
        with pytest.raises(DataError, match="cannot be loaded"):
            HubProblems(str(folder / "nowhere"), split="test").load()
        with pytest.raises(ConfigError, match="limit=0"):
            HubProblems("x/y", limit=0)


def test_text_answers(tmp_path: Path) -> None:
    """ProsQA: the answer is a sentence, compared by its words."""
    path = tmp_path / "prosqa.json"
    path.write_text(
        '[{"question": "Is Tom a lempus or scrompus?", "steps": ["Tom is a terpus."], "answer": "Tom is a lempus."}]'
    )
    (problem,) = ProblemFiles([str(path)], answers="text").load()
    assert problem.value == "tom is a lempus"
    assert problem.value == extract_answer("### Tom is a  Lempus", "###", "text")
    assert extract_answer("Tom is a lempus", "###", "text") is None
    assert extract_answer("### .", "###", "text") is None
    with pytest.raises(DataError, match=r"cannot be read as a number exactly.*set answers=text"):
        ProblemFiles([str(path)]).load()


DATA = next(
    (
        p / "shared/data/eval"
        for p in Path(__file__).resolve().parents
        if (p / "shared/data").is_dir()
    ),
    None,
)


@pytest.mark.skipif(DATA is None, reason="the problem sets are not beside this checkout")
def test_truths_of_gsm_hard_are_those_of_the_file() -> None:
    """26 of its answers are written with an exponent."""
    path = DATA / "gsm_hard.json"
    written = [
        row["answer"] for row in json.loads(path.read_text(), parse_float=str, parse_int=str)
    ]
    assert [p.value for p in ProblemFiles([str(path)]).load()] == [
        Fraction(Decimal(text)) for text in written
    ]


@pytest.mark.parametrize(
    ("content", "value"),
    [
        ('[{"question": "q", "answer": 1e-05}]', Fraction(1, 10**5)),
        ('[{"question": "q", "answer": 1e16}]', Fraction(10**16)),
        ('[{"question": "q", "answer": 1e400}]', Fraction(10**400)),
        ('[{"question": "q", "answer": 0.1}]', Fraction(1, 10)),
        (
            '[{"question": "q", "answer": 2.0106999999999997e-06}]',
            Fraction(20106999999999997, 10**22),
        ),
        (
            '[{"question": "q", "answer": 123456789012345678901234567890}]',
            Fraction(123456789012345678901234567890),
        ),
        ('\ufeff[{"question": "q", "answer": "12"}]', Fraction(12)),
        ('\ufeff{"question": "q", "answer": "12"}\n', Fraction(12)),
    ],
)
def test_numbers_in_json_are_exact(tmp_path: Path, content: str, value: Fraction) -> None:
    (tmp_path / "a.json").write_text(content, encoding="utf-8")
    assert ProblemFiles([str(tmp_path / "a.json")]).load()[0].value == value


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"question": ' * 100_000, "nested too deeply"),
        (
            '[{"question": "q", "answer": ' + "9" * 5000 + "}]",
            "row 1, field 'answer' is '9.*has more than 1000 digits",
        ),
        ('[{"question": "q", "answer": 1e99999}]', "row 1, field 'answer'.*more than 1000 digits"),
        (
            '[{"question": "q", "answer": "' + "9" * 10**7 + '"}]',
            "row 1, field 'answer' is '99.*has 10000000 characters",
        ),
        ('[{"question": "q", "answer": NaN}]', "row 1, field 'answer'"),
        ('[{"question": "q", "answer": Infinity}]', "row 1, field 'answer'"),
        ('[{"question": "q", "answer": true}]', "row 1, field 'answer' is True"),
        ('[{"question": "q", "answer": null}]', "row 1, field 'answer' is None"),
        ('[{"question": "q", "answer": ["1"]}]', "row 1, field 'answer'"),
        ('[{"question": {"a": 1}, "answer": "1"}]', "row 1, field 'question'"),
        (
            '[{"question": "half \\ud83d", "answer": "1"}]',
            r"row 1, field 'question' holds half of a character \(U\+D83D\)",
        ),
        (
            '[{"question": "q", "steps": ["\\ud83d"], "answer": "1"}]',
            "row 1, field 'steps' holds half of a character",
        ),
        (
            '[{"question": "q", "steps": [1], "answer": "1"}]',
            "row 1, field 'steps' must be a list of texts",
        ),
        ('[{"question": "q", "answer": "' + "x" * 10**7 + '"}]', r"row 1, field 'answer' is 'xxx"),
        ('[{"question": "q", "answer": "#### 3 or 4"}]', "row 1, field 'answer' is '3 or 4'"),
    ],
)
def test_malformed_files_give_one_short_sentence(
    tmp_path: Path, content: str, expected: str
) -> None:
    (tmp_path / "bad.json").write_text(content)
    with pytest.raises(DataError, match=f"bad.json.*{expected}") as caught:
        ProblemFiles([str(tmp_path / "bad.json")]).load()
    assert len(str(caught.value)) < 500
    assert "\n" not in str(caught.value)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a folder, not a file"):
        ProblemFiles([str(tmp_path)]).load()
