"""The docs as a site: every page, every link, the API reference."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.pages import DOCS, ROOT
from tests.test_layers import LAYERS


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` builds it: a warning is an error."""
    for module in ("mkdocs", "material", "mkdocstrings"):
        pytest.importorskip(module, reason="the extra docs is not installed")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.extra
@pytest.mark.slow
def test_every_page_and_room_is_there(site: Path) -> None:
    for page in DOCS.glob("*.md"):
        assert (site / f"{page.stem}.html").is_file(), page
    for room in LAYERS:
        if room != "__main__":
            assert (site / f"reference/{room}.html").is_file(), room
    assert {"CONTRIBUTING.html", "CHANGELOG.html", "examples.html"} <= {
        path.name for path in site.iterdir()
    }
    assert not (site / "site_hooks.py").exists()


@pytest.mark.extra
@pytest.mark.slow
def test_the_reference_is_made_of_docstrings(site: Path) -> None:
    page = (site / "reference/sampling.html").read_text()
    assert 'id="lightning_ltts.sampling.samplers.MCDropout"' in page
    assert "dropout" in page.lower()
    assert (site / "search/search_index.json").is_file()


@pytest.mark.extra
@pytest.mark.slow
def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    text = (site / "index.html").read_text()
    assert "fonts.googleapis" not in text
