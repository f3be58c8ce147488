from pathlib import Path

import pytest

from lightning_ltts.data.problems import ProblemFiles
from lightning_ltts.errors import DataError
from tests.malformed.problem_files import CASES


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_one_sentence_says_where_and_what(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    path = tmp_path / "bad.json"
    path.write_bytes(case.content)
    with pytest.raises(DataError) as caught:
        ProblemFiles([str(path)], answers=case.answers).load()  # type: ignore[arg-type]
    message = str(caught.value)
    assert all(word in message for word in ("bad.json", *case.words)), message
    assert "\n" not in message
    assert len(message.replace(str(tmp_path), "")) < 320
    message.encode()  # it can be printed
