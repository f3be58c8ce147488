"""The page is made from rows by hand, and opened in a real browser where there is one."""

import csv
import json
import sys
from pathlib import Path

import pytest

from lightning_ltts import cli
from lightning_ltts.report import page as report
from lightning_ltts.report.runs import short_names
from tests.conftest import browser_path
from tests.report.helpers import write

pytestmark = pytest.mark.slow


def ltts(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["ltts", "report", *map(str, arguments)])
    try:
        cli.main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def embedded(page: Path, name: str) -> list:
    text = page.read_text("utf-8").split(f'id="{name}">', 1)[1].split("</script>", 1)[0]
    return json.loads(text)


CASES = {
    "no LatentRM": ({"scored": False}, "predicted without a LatentRM"),
    "no right sample": ({"kind": "wrong"}, "has no right sample at all"),
    "no wrong sample": ({"kind": "right"}, "has no wrong sample at all"),
    "one sample": ({"samples": 1}, "has one sample per question"),
    "one question": ({"questions": 1}, "1 problems"),
    "sentences": ({"text": True}, "What is"),
    "torn last line": ({"torn": True}, "6 problems"),
}


@pytest.mark.parametrize("case", list(CASES))
def test_unusual_runs_give_a_useful_page(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options, said = CASES[case]
    folder = write(tmp_path / "run", **options)
    assert ltts(monkeypatch, folder, "-o", tmp_path / "new/r.html", "--csv", tmp_path / "csv") == 0
    assert said in (tmp_path / "new/r.html").read_text("utf-8")
    (table,) = embedded(tmp_path / "new/r.html", "question-data")
    assert len(table["questions"]) == options.get("questions", 6)


def test_no_script_in_a_question_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ltts(monkeypatch, write(tmp_path / "run"), "-o", tmp_path / "r.html") == 0
    assert "</script><b>" not in (tmp_path / "r.html").read_text("utf-8")
    (table,) = embedded(tmp_path / "r.html", "question-data")
    assert table["questions"][2]["text"] == "What is 2? </script><b>"


def test_table_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Question 0 has samples wrong, right, right, wrong; sample 3 gave no answer. Scores: 0.5, 0.7, 0.7, 0.5."""
    assert ltts(monkeypatch, write(tmp_path / "run"), "-o", tmp_path / "r.html") == 0
    (table,) = embedded(tmp_path / "r.html", "question-data")
    question = table["questions"][0]
    assert [question[field] for field in ("id", "answer", "share", "greedy")] == [
        "q-0",
        "0",
        0.5,
        "0",
    ]
    assert question["samples"] == {
        "answer": ["999", "0", "0", None],
        "right": [0, 1, 1, 0],
        "score": [0.5, 0.7, 0.7, 0.5],
        "steps": [[0, 0, 0.5], [0.1, 0.2, 0.4], [0.2, 0.2, 0.3], [0.3, 0, 0.2]],
    }
    assert dict(zip(table["selections"], question["chosen"], strict=True))["majority"] == 1
    titles = [method["title"] for method in table["methods"]]
    assert question["right"][titles.index("greedy")] == 1
    assert "majority@4" in titles


def test_seconds_and_token_forwards_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Majority costs prompt and sampling, 1.1 s; scores 0.5 s more; 10 token forwards each for prompt and samples."""
    assert ltts(monkeypatch, write(tmp_path / "run"), "-o", tmp_path / "r.html") == 0
    figures = embedded(tmp_path / "r.html", "figure-data")
    by_axis = {figure["layout"]["xaxis"]["title"]["text"]: figure for figure in figures}
    clock = {trace["name"]: trace["x"] for trace in by_axis["seconds per question"]["data"]}
    assert (clock["majority"], clock["weighted_vote"], clock["greedy"]) == ([1.1], [1.6], [0.2])
    budget = {trace["name"]: trace["x"] for trace in by_axis["token forwards per question"]["data"]}
    assert (budget["majority"], budget["greedy"]) == ([12.5, 15, 20], [20])


def test_a_search_of_any_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """It is in the table, the page's table of questions, and every figure, with its own colour."""
    folder = write(tmp_path / "run", search="halving")
    assert ltts(monkeypatch, folder, "-o", tmp_path / "r.html") == 0
    assert "halving@2" in capsys.readouterr().out
    (table,) = embedded(tmp_path / "r.html", "question-data")
    titles = [method["title"] for method in table["methods"]]
    assert titles[-2:] == ["halving@2", "halving_vote@2"]
    figures = embedded(tmp_path / "r.html", "figure-data")
    traces = {
        figure["layout"]["xaxis"]["title"]["text"]: {t.get("name"): t for t in figure["data"]}
        for figure in figures
    }
    assert traces["seconds per question"]["halving"]["x"] == [2.1]
    assert traces["token forwards per question"]["halving_vote"]["x"] == [20]
    assert traces["step of the tree search"]["halving"]["y"] == [1]
    clock = traces["seconds per question"]
    colours = [trace["line"]["color"] for trace in clock.values()]
    assert len(set(colours)) == len(colours) == len(clock)


def test_difficulty_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of four samples, questions 0 and 3 have two right, the others three: parts of up to 50 and 75 %, coverage 1 in both."""
    assert ltts(monkeypatch, write(tmp_path / "run"), "-o", tmp_path / "r.html") == 0
    figures = embedded(tmp_path / "r.html", "figure-data")
    (figure,) = (
        f for f in figures if f["layout"]["xaxis"]["title"]["text"].startswith("right samples")
    )
    coverage = next(trace for trace in figure["data"] if trace["name"] == "coverage")
    assert (coverage["x"], coverage["y"]) == ([50, 75], [1, 1])


def test_runs_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = write(tmp_path / "a/search"), write(tmp_path / "b/search", kind="right")
    assert ltts(monkeypatch, one, other, "-o", tmp_path / "r.html") == 0
    page = (tmp_path / "r.html").read_text("utf-8")
    assert "Between runs, on the same questions" in page
    assert "different problems" not in page
    strange = write(tmp_path / "c/search", questions=3)
    assert ltts(monkeypatch, one, strange, "-o", tmp_path / "r.html") == 0
    page = (tmp_path / "r.html").read_text("utf-8")
    assert "Between runs" not in page
    assert "These runs are of different problems" in page


def test_csv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ltts(monkeypatch, write(tmp_path / "run"), "--csv", tmp_path / "csv") == 0
    tables = {path.stem: list(csv.DictReader(path.open())) for path in (tmp_path / "csv").iterdir()}
    assert {line["method"]: line["accuracy"] for line in tables["results"]}["greedy"] == "1.0"
    assert [line["n"] for line in tables["curves"] if line["method"] == "coverage"] == [
        "1",
        "2",
        "4",
    ]
    greedy = [
        float(line["value"]) for line in tables["questions"] if line["method"] == "majority@4"
    ]
    assert len(greedy) == 6


def test_large_runs_stay_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The samples of the questions that come last are left out, and the page says of how many."""
    monkeypatch.setattr(report, "DETAIL_BYTES", 600 + 6 * (len("What is 0? </script><b>") + 150))
    assert ltts(monkeypatch, write(tmp_path / "run"), "-o", tmp_path / "r.html") == 0
    (table,) = embedded(tmp_path / "r.html", "question-data")
    kept = [question["samples"] is not None for question in table["questions"]]
    assert 0 < table["shown"] == sum(kept) < 6


def test_where_nothing_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    assert ltts(monkeypatch, write(tmp_path / "run"), "-o", tmp_path) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_names_are_short() -> None:
    assert short_names(["logs/a/search", "logs/b/search"]) == ["a", "b"]
    assert short_names(["logs/demo/search/predictions.jsonl"]) == ["demo/search"]
    assert short_names(["x", "x"]) == ["x (1)", "x (2)"]


@pytest.mark.browser
def test_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    pytest.importorskip("kaleido", reason="images are drawn by kaleido (the extra png)")
    assert ltts(monkeypatch, write(tmp_path / "run"), "--png", tmp_path / "png") == 0
    made = sorted(path.name for path in (tmp_path / "png").iterdir())
    assert "accuracy_against_n.png" in made
    assert all((tmp_path / "png" / name).read_bytes().startswith(b"\x89PNG") for name in made)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("Image export using the 'kaleido' engine requires the Kaleido package"),
        RuntimeError(
            "\nImage export requires the Kaleido package, v1.0.0 or greater,\nwhich can be installed"
        ),
    ],
    ids=["plotly 5", "plotly 6"],
)
def test_images_without_kaleido(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    def missing(self, *args, **kw):
        raise error

    monkeypatch.setattr("plotly.graph_objects.Figure.to_image", missing)
    assert ltts(monkeypatch, write(tmp_path / "run"), "--png", tmp_path / "new/png") == 2
    assert "pip install 'lightning-ltts[png]'" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("there", [False, True], ids=["new folder", "empty folder"])
def test_images_go_into_a_folder(
    there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setattr("plotly.graph_objects.Figure.to_image", lambda *args, **kw: b"PNG")
    folder = tmp_path / "new/png"
    if there:
        folder.mkdir(parents=True)
    assert ltts(monkeypatch, write(tmp_path / "run"), "--png", folder) == 0
    assert f"png: {folder}" in capsys.readouterr().out
    assert {path.read_bytes() for path in folder.iterdir()} == {b"PNG"}


@pytest.mark.browser
def test_page_in_a_browser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every tab shows what it is about, filters and details work, and the console stays empty."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="a browser is driven by playwright"
    )
    one, other = (
        write(tmp_path / "a", questions=120),
        write(tmp_path / "b", questions=120, kind="right"),
    )
    assert ltts(monkeypatch, one, other, "-o", tmp_path / "r.html") == 0
    said: list[str] = []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=browser_path(), args=["--no-sandbox"])
        page = browser.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on(
            "request",
            lambda request: (
                said.append(request.url)
                if not request.url.startswith(("file:", "data:", "blob:"))
                else None
            ),
        )
        page.goto(f"file://{tmp_path / 'r.html'}")
        assert (
            page.locator("section:visible h2").first.inner_text()
            == "a: 120 problems, 4 samples each"
        )
        for tab in ("Accuracy", "LatentRM"):
            page.click(f"nav button[data-tab={tab}]")
            drawn = page.locator("section:visible .figure")
            assert (
                drawn.count()
                == page.locator("section:visible .figure .main-svg:first-child").count()
                > 1
            )
        page.click("nav button[data-tab=Questions]")
        assert page.inner_text("#count") == "120 of 120 questions, page 1 of 3"
        page.click("#after")
        assert page.locator("tr.question").count() == 50
        page.fill("#text", "q-117")
        assert page.inner_text("#count") == "1 of 120 questions, page 1 of 1"
        page.locator("tr.question").click()
        assert page.locator(".details tr").count() == 1 + 4
        assert "majority" in page.inner_text(".details")
        page.fill("#text", "")
        page.select_option("#run", label="b")
        page.select_option("#filter", value="mixed")
        assert page.inner_text("#count").startswith("0 of 120")
        browser.close()
    assert said == []
