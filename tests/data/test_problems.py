import json
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
    assert (first.id, first.question, first.steps, first.value) == ("a-1", "How many?", ("<<1+1=2>>",), 2)
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
    assert [p.id for p in ProblemFiles(paths, limit=4).load()] == ["a-1", "a-2", "a-3", "b-1"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "bad.json is empty"),
        ("[]", "bad.json is empty"),
        ("[1,", "bad.json is not valid JSON"),
        ('{"question": "q", "answer": "1"}\n{"ques', "bad.json, line 2 is not valid JSON"),
        ('[{"question": "q"}]', "bad.json, row 1 has no field 'answer'"),
        ('[{"question": "q", "answer": "1"}, {"question": "q", "answer": " "}]', "bad.json, row 2, field 'answer'"),
        ('[{"question": "", "answer": "1"}]', "bad.json, row 1, field 'question'"),
        ('[{"question": "q", "answer": "many"}]', "bad.json, row 1, field 'answer' is 'many'"),
        ('[{"question": "q", "answer": "1", "steps": "1+1"}]', "bad.json, row 1, field 'steps'"),
        ("[3]", "bad.json, row 1 is a int"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, content: str, expected: str) -> None:
    with pytest.raises(DataError, match=expected):
        ProblemFiles(write(tmp_path / "bad.json", content)).load()


def test_files_of_one_name_are_refused(tmp_path: Path) -> None:
    """Randomness and caches are keyed by the problem's name."""
    (tmp_path / "a").mkdir()
    paths = [write(folder / "train.json", [{"question": "q", "answer": "1"}])[0] for folder in (tmp_path, tmp_path / "a")]
    with pytest.raises(DataError, match="would both be called train-1"):
        ProblemFiles(paths).load()


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
        source = HubProblems(str(folder), split="train+test", columns={"question": "input", "answer": "target"})
        problems = source.load()
        assert [p.question for p in problems] == ["2 and 2?", "2 and 2?", "Half of 1e-5?"]
        assert [p.answer for p in problems] == ["4.0", "4.0", "0.000005"]
        assert len({p.id for p in problems}) == 3
        assert source.load() == problems
        limited = HubProblems(str(folder), columns={"question": "input", "answer": "target"}, limit=1)
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
    with pytest.raises(DataError, match="holds no number; set answers=text"):
        ProblemFiles([str(path)]).load()
