"""Whatever is malformed is refused in one sentence, with exit code 2, and nothing half-written."""

import sys
from pathlib import Path

import pytest

from lightning_ltts.cli.messages import one_line_errors
from lightning_ltts.models.folders import import_model
from tests.malformed import checkpoints, configurations, folders, options
from tests.malformed.case import Case, Place

TABLES = (options, configurations, checkpoints, folders)
CASES: dict[str, Case] = {name: case for table in TABLES for name, case in table.CASES.items()}


@pytest.fixture(scope="session")
def exported(reasoner_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "reasoner"
    import_model(reasoner_file, folder)
    return folder


@pytest.fixture
def place(
    tmp_path: Path,
    reasoner_file: Path,
    latent_rm_file: Path,
    exported: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Place:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", sys.argv)  # put back what a case sets
    return Place(tmp_path, reasoner_file, latent_rm_file, exported)


def content(folder: Path) -> dict[Path, bytes | None]:
    """Every file and folder below a folder, with what it holds."""
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_one_sentence_and_nothing_written(name: str, place: Place, capsys) -> None:
    case = CASES[name]
    case.make(place)
    before = content(place.folder)
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop, one_line_errors():
        case.use(place)
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert all(word in line for word in case.words), line
    assert len(line.replace(str(place.folder), "")) < 400
    assert content(place.folder) == before
