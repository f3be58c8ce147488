"""The page is made from rows by hand; for how it looks see `test_browser.py`."""

import csv
import json
import sys
from pathlib import Path

import pytest

from lightning_ltts import cli
from lightning_ltts.report import page as report
from lightning_ltts.report.runs import short_names
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
    assert dict(zip(table["selections"], question["chosen"], strict=True))["majority vote"] == 1
    titles = [method["title"] for method in table["methods"]]
    assert question["right"][titles.index("greedy")] == 1
    assert "majority vote" in titles
    first = [method["name"] for method in table["methods"] if method["first"]]
    assert first == ["greedy", "majority", "weighted_vote", "best_of_n"]


def axis(figure: dict) -> str:
    return figure["layout"]["xaxis"]["title"]["text"]


def test_seconds_and_token_forwards_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Majority costs prompt and sampling, 1.1 s; scores 0.5 s more; 10 token forwards each for prompt and samples."""
    assert ltts(monkeypatch, write(tmp_path / "run"), "-o", tmp_path / "r.html") == 0
    by_axis = {axis(figure): figure for figure in embedded(tmp_path / "r.html", "figure-data")}
    clock = {trace["name"]: trace["x"] for trace in by_axis["seconds per problem"]["data"]}
    assert (clock["majority vote"], clock["weighted vote"], clock["greedy"]) == (
        [1.1],
        [1.6],
        [0.2],
    )
    budget = {trace["name"]: trace["x"] for trace in by_axis["token forwards per problem"]["data"]}
    assert (budget["majority vote"], budget["greedy"]) == ([12.5, 15, 20], [20])
    # of half of the samples: half of the sampling and of the scoring
    options = ["-o", tmp_path / "half.html", "--num-samples", "2"]
    assert ltts(monkeypatch, tmp_path / "run", *options) == 0
    by_axis = {axis(figure): figure for figure in embedded(tmp_path / "half.html", "figure-data")}
    clock = {trace["name"]: trace["x"] for trace in by_axis["seconds per problem"]["data"]}
    assert clock["majority vote"] == [pytest.approx(0.6)]
    assert clock["greedy"] == [0.2]


def test_few_curves_and_the_line_to_beat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest can be turned on; of two runs there are the answer and majority voting of each."""
    one, other = write(tmp_path / "a"), write(tmp_path / "b")
    assert ltts(monkeypatch, one, "-o", tmp_path / "r.html") == 0
    first, by_samples, *_ = embedded(tmp_path / "r.html", "figure-data")
    assert axis(first) == "token forwards per problem"
    for figure in (first, by_samples):
        assert figure["layout"]["annotations"][0]["text"] == "greedy 100.0%"
        assert figure["layout"]["shapes"][0]["y0"] == 1
    seen = {trace["name"] for trace in by_samples["data"] if trace["visible"] is True}
    assert seen == {"coverage (oracle)", "majority vote", "weighted vote", "best-of-N"}
    assert "agreeing best-of-N" in {trace["name"] for trace in by_samples["data"]} - seen
    assert ltts(monkeypatch, one, other, "-o", tmp_path / "r.html") == 0
    _, by_samples, *_ = embedded(tmp_path / "r.html", "figure-data")
    assert len(by_samples["layout"]["annotations"]) == 1  # greedy decoding is the same in both
    seen = {trace["name"] for trace in by_samples["data"] if trace["visible"] is True}
    assert seen == {
        f"{run}: {method}" for run in ("a", "b") for method in ("majority vote", "weighted vote")
    }


def test_a_search_of_any_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """It is in the table, the page's table of questions, and every figure, with its own colour."""
    folder = write(tmp_path / "run", search="halving")
    assert ltts(monkeypatch, folder, "-o", tmp_path / "r.html") == 0
    assert "halving@2" in capsys.readouterr().out
    (table,) = embedded(tmp_path / "r.html", "question-data")
    titles = [method["title"] for method in table["methods"]]
    assert titles[-2:] == ["halving", "halving, vote"]
    traces = {
        axis(figure): {t.get("name"): t for t in figure["data"]}
        for figure in embedded(tmp_path / "r.html", "figure-data")
    }
    clock = traces["seconds per problem"]
    assert clock["halving"]["x"] == [2.1]
    assert clock["halving"]["visible"] is True
    assert traces["token forwards per problem"]["halving, vote"]["x"] == [20]
    assert traces["step of the tree search"]["halving"]["y"] == [1, 1]
    colours = [trace["line"]["color"] for trace in clock.values()]
    assert len(set(colours)) == len(colours) == len(clock)


def test_no_figure_with_one_dot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sample has no curves, and problems of equal difficulty no parts."""
    folder = write(tmp_path / "run", samples=1, kind="right")
    assert ltts(monkeypatch, folder, "-o", tmp_path / "r.html") == 0
    figures = embedded(tmp_path / "r.html", "figure-data")
    axes = {axis(figure) for figure in figures}
    assert "token forwards per problem" in axes
    assert not {"samples per problem, N", "right samples, up to (%)"} & axes
    for figure in figures:
        places = {x for trace in figure["data"] for x in trace["x"]}
        assert len(places) > 1 or figure["data"][0]["type"] == "bar"


def test_difficulty_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of four samples, questions 0 and 3 have two right, the others three: parts of up to 50 and 75 %, coverage 1 in both."""
    assert ltts(monkeypatch, write(tmp_path / "run"), "-o", tmp_path / "r.html") == 0
    figures = embedded(tmp_path / "r.html", "figure-data")
    (figure,) = (f for f in figures if axis(f).startswith("right samples"))
    coverage = next(trace for trace in figure["data"] if trace["name"] == "coverage (oracle)")
    assert (coverage["x"], coverage["y"]) == ([50, 75], [1, 1])


def test_runs_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = write(tmp_path / "a/search"), write(tmp_path / "b/search", kind="right")
    assert ltts(monkeypatch, one, other, "-o", tmp_path / "r.html") == 0
    page = (tmp_path / "r.html").read_text("utf-8")
    assert "b over a, on 6 shared problems" in page
    assert "share 6 problems" not in page  # there is nothing to warn of
    fewer = write(tmp_path / "c/search", questions=3)
    assert ltts(monkeypatch, one, fewer, "-o", tmp_path / "r.html") == 0
    page = (tmp_path / "r.html").read_text("utf-8")
    assert "c over a, on 3 shared problems" in page
    assert "a (6 problems) and c (3) share 3 problems" in page
    strange = write(tmp_path / "d/search", text=True)
    assert ltts(monkeypatch, one, strange, "-o", tmp_path / "r.html") == 0
    page = (tmp_path / "r.html").read_text("utf-8")
    assert "shared problems" not in page
    assert "a and d are of different problems" in page


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


@pytest.mark.parametrize(("room", "listed"), [(12, 6), (7, 3), (1, 1)])
def test_large_runs_stay_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int, listed: int
) -> None:
    """The samples of the questions that come last are left out, then these themselves; half of the room is theirs."""
    monkeypatch.setattr(report, "DETAIL_BYTES", room * (len("What is 0? </script><b>") + 150))
    assert ltts(monkeypatch, write(tmp_path / "run", samples=16), "-o", tmp_path / "r.html") == 0
    (table,) = embedded(tmp_path / "r.html", "question-data")
    assert table["all"] == 6
    assert [question["id"] for question in table["questions"]] == [f"q-{i}" for i in range(listed)]
    kept = [question["samples"] is not None for question in table["questions"]]
    assert table["shown"] == sum(kept) < 6
    assert sum(kept) > 0 or room == 1
    assert all(len(question["right"]) == len(table["methods"]) for question in table["questions"])


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
    assert "accuracy_against_compute.png" in made
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
