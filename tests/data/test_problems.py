import json
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


def test_repeated_questions_are_numbered_whatever_their_order(tmp_path: Path) -> None:
    rows = [
        {"question": "q", "answer": "2"},
        {"question": "r", "answer": "1"},
        {"question": " q ", "answer": "1"},
        {"question": "q", "answer": "1", "steps": ["1=1"]},
    ]
    names = []
    for order in (rows, rows[::-1]):
        problems = ProblemFiles(write(tmp_path / "a.json", order)).load()
        names.append({(p.question, p.answer, p.steps): p.id for p in problems})
    assert names[0] == names[1]
    base = names[0]["q", "1", ()]
    assert (names[0]["q", "1", ("1=1",)], names[0]["q", "2", ()]) == (f"{base}-2", f"{base}-3")


def test_repeats_are_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [
        {"question": "q", "answer": "1"},
        {"question": "r", "answer": "1"},
        {"question": "q", "answer": "2"},
    ]
    source = ProblemFiles(write(tmp_path / "a.json", rows))
    with caplog.at_level("INFO"):
        assert source.load() == source.load()
    assert caplog.text.count("1 of 3 problems repeat the question of another") == 1


def test_ids_of_rows_are_kept(tmp_path: Path) -> None:
    rows = [
        {"id": "gsm-7", "question": "q", "answer": "1"},
        {"id": 12, "question": "r", "answer": "1"},
        {"id": None, "question": "s", "answer": "1"},
    ]
    *names, hashed = [p.id for p in ProblemFiles(write(tmp_path / "a.json", rows)).load()]
    assert names == ["gsm-7", "12"]
    assert hashed == ProblemFiles(write(tmp_path / "a.json", rows), ids="question").load()[2].id
    with pytest.raises(
        DataError,
        match=r"a\.json, row 2 and .*a\.json, row 1 both have the id 'x'.*set ids=question",
    ):
        ProblemFiles(write(tmp_path / "a.json", [{**row, "id": "x"} for row in rows])).load()


def test_files_that_number_their_rows_alike(tmp_path: Path) -> None:
    paths = [
        write(tmp_path / f"{name}.json", [{"id": 1, "question": name, "answer": "1"}])[0]
        for name in "ab"
    ]
    with pytest.raises(DataError, match="both have the id '1'"):
        ProblemFiles(paths).load()
    assert len({p.id for p in ProblemFiles(paths, ids="question").load()}) == 2
    # the same row read twice is a repeat, not a clash
    assert [p.id for p in ProblemFiles([paths[0], paths[0]]).load()] == ["1", "1-2"]


def test_missing_file_and_bad_options(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nope\.json does not exist"):
        ProblemFiles([str(tmp_path / "nope.json")]).load()
    with pytest.raises(ConfigError, match="empty list"):
        ProblemFiles([])
    for options, expected in (
        (
            {"limit": 0},
            r"limit=0 of ProblemFiles must be a whole number of at least 1; leave it out",
        ),
        ({"limit": 1.5}, "limit=1.5"),
        (
            {"answers": "texts"},
            "answers='texts' of ProblemFiles is not known; use one of number, text, latex",
        ),
        ({"leave_out": "None"}, "leave_out='None' of ProblemFiles must be a list of texts"),
        ({"only_numbers": True, "answers": "text"}, "no number, but answers=text; leave one"),
        ({"ids": "file"}, "ids='file' of ProblemFiles is not known; use one of row, question"),
    ):
        with pytest.raises(ConfigError, match=expected):
            ProblemFiles(["a"], **options)
    with pytest.raises(ConfigError, match=r"paths='a\.json' of ProblemFiles"):
        ProblemFiles("a.json")


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
        assert problems[0].id != problems[1].id  # asked in both parts
        assert len({p.id for p in problems}) == 3
        assert source.load() == problems
        limited = HubProblems(
            str(folder), columns={"question": "input", "answer": "target"}, limit=1
        )
        assert len(limited.load()) == 1

    def test_user_errors(self, folder: Path) -> None:
        with pytest.raises(DataError, match="has no field 'question'; it has 'input', 'target'"):
            HubProblems(str(folder)).load()
        with pytest.raises(DataError, match="cannot be loaded"):
            HubProblems(str(folder / "nowhere"), split="test").load()
        for options, expected in (
            ({"limit": 0}, "limit=0"),
            (
                {"columns": {"asked": "question"}},
                "names the field 'asked', which problems do not have",
            ),
            ({"ids": "row number"}, "ids='row number'"),
        ):
            with pytest.raises(ConfigError, match=expected):
                HubProblems("x/y", **options)

    def test_ids(self, tmp_path: Path) -> None:
        rows = [
            {"id": 7, "question": "q", "answer": "1"},
            {"id": 8, "question": "r", "answer": "2"},
        ]
        (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        assert [p.id for p in HubProblems(str(tmp_path)).load()] == ["7", "8"]
        hashed = [p.id for p in HubProblems(str(tmp_path), ids="question").load()]
        assert [
            p.id for p in ProblemFiles([str(tmp_path / "test.jsonl")], ids="question").load()
        ] == hashed


def test_the_text_of_a_truth_is_one_that_a_model_can_be_right_with(tmp_path: Path) -> None:
    rows = [{"question": text, "answer": text} for text in ("8.3099e-06", "1 1/2", "2,125", "$5")]
    problems = ProblemFiles(write(tmp_path / "a.json", rows)).load()
    assert [p.answer for p in problems] == ["0.0000083099", "1.5", "2,125", "5"]
    assert all(extract_answer(p.answer, "", "only") == p.value for p in problems)


def test_true_and_false_among_texts(tmp_path: Path) -> None:
    rows = [{"question": "q", "answer": True}, {"question": "r", "answer": 5}]
    problems = ProblemFiles(write(tmp_path / "a.json", rows), answers="text").load()
    assert [p.value for p in problems] == ["true", "5"]


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
        ('[{"question": "q", "answer": -0}]', Fraction(0)),
        (
            '[{"question": "q", "answer": 0.30000000000000000000000000000001}]',
            Fraction(3 * 10**31 + 1, 10**32),
        ),
    ],
)
def test_numbers_in_json_are_exact(tmp_path: Path, content: str, value: Fraction) -> None:
    (tmp_path / "a.json").write_text(content, encoding="utf-8")
    assert ProblemFiles([str(tmp_path / "a.json")]).load()[0].value == value


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a folder, not a file"):
        ProblemFiles([str(tmp_path)]).load()
