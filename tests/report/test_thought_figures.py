from pathlib import Path

import pytest
import torch

from lightning_ltts.analysis.thought_store import StoredThoughts, write_thoughts
from lightning_ltts.report.page import write_html
from lightning_ltts.report.runs import Run, load_runs
from lightning_ltts.report.thought_figures import (
    _frame,
    _scatter,
    lens_tables,
    thought_figures,
)
from lightning_ltts.voting.adaptive import BetaStopping
from tests.report.helpers import write


def make_runs(
    folder: Path, names: tuple[str, ...], samples: int = 4, kind: str = "mixed", still: bool = False
) -> list[Run]:
    """Runs with thoughts of two questions; `still` samples think all what the greedy trajectory thinks."""
    generator = torch.Generator().manual_seed(0)
    for name in names:
        write(folder / name, samples=samples, kind=kind)
        for q in range(2):
            greedy = torch.randn(3, 8, generator=generator)
            noise = torch.randn(samples, 3, 8, generator=generator) * (0.0 if still else 1.0)
            counts = torch.tensor([3] * (samples - 1) + [2])
            lens = [
                {"sample": x, "step": 0, "tokens": [" 7", "<b>"], "probabilities": [0.75, 0.1]}
                for x in (None, 0)
            ]
            write_thoughts(
                folder / name, q, StoredThoughts(f"q-{q}", greedy + noise, counts, greedy, lens)
            )
    return load_runs(
        [str(folder / name) for name in names], None, "sum", "majority", BetaStopping(0.95), None
    )


@pytest.mark.slow
def test_two_runs_share_a_projection(tmp_path: Path) -> None:
    figures = {
        title: figure for title, _, figure in thought_figures(make_runs(tmp_path, ("a", "b")))
    }
    projections = [
        f"{run}: Thoughts of question {q}, {method}"
        for q in (1, 2)
        for method in ("PCA", "t-SNE")
        for run in ("a", "b")
    ]
    measures = ("Drift", "Spread", "Isotropy", "Pairwise cosine", "Pairwise L2", "Norm")
    steps = [f"{name} by step" for name in measures]
    assert list(figures) == [*projections, *steps, "Coverage against diversity"]
    for title in projections[:4]:
        # question 0's samples are wrong, right, right, wrong; the last has two thoughts
        sizes = {trace.name: len(trace.x) for trace in figures[title].data}
        assert sizes == {"greedy": 3, "right": 6, "wrong": 5}
    assert len(figures["Coverage against diversity"].data) == 2
    assert [len(trace.x) for trace in figures["Drift by step"].data] == [3, 3]
    colours = {trace.line.color for trace in figures["Drift by step"].data}
    assert len(colours) == 2


@pytest.mark.slow
def test_one_run_has_no_point_for_itself(tmp_path: Path) -> None:
    titles = [title for title, *_ in thought_figures(make_runs(tmp_path, ("a",)))]
    assert "Coverage against diversity" not in titles
    assert titles[0] == "Thoughts of question 1, PCA"


@pytest.mark.slow
def test_far_points_do_not_flatten_the_others() -> None:
    """Two of a hundred stand far out: they are drawn hollow, at the edge of the others' frame."""
    near = torch.randn(98, 2, generator=torch.Generator().manual_seed(0))
    points = torch.cat([near, torch.tensor([[500.0, 0.0], [0.0, -800.0]])])
    frame = _frame(points)
    assert frame.abs().max() < 10
    assert bool(((near >= frame[0]) & (near <= frame[1])).all())
    figure = _scatter(points, frame, [("right", 0, "")] * 100)
    symbols = figure.data[0].marker.symbol
    assert [i for i, symbol in enumerate(symbols) if symbol == "circle-open"] == [98, 99]
    assert max(figure.data[0].x) == pytest.approx(float(frame[1, 0]), abs=1e-3)
    even = torch.linspace(0, 1, 20)[:, None].expand(-1, 2)
    assert torch.equal(_frame(even), torch.tensor([[0.0, 0.0], [1.0, 1.0]]))


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [{"samples": 1}, {"still": True}, {"kind": "right"}, {"kind": "wrong"}]
)
def test_unusual_runs(tmp_path: Path, options: dict) -> None:
    for _, _, figure in thought_figures(make_runs(tmp_path, ("a",), **options)):
        assert "NaN" not in figure.to_json()


def test_nothing_stored(tmp_path: Path) -> None:
    write(tmp_path / "a")
    runs = load_runs([str(tmp_path / "a")], None, "sum", "majority", BetaStopping(0.95), None)
    assert thought_figures(runs) == []
    assert lens_tables(runs[0]) == {}


def test_lens(tmp_path: Path) -> None:
    (run,) = make_runs(tmp_path, ("a",))
    tables = lens_tables(run)
    assert list(tables) == ["q-0", "q-1"]
    assert tables["q-0"][0] == {
        "which": "greedy",
        "step": 1,
        "tokens": ["' 7' 75%", "'<b>' 10%"],
    }
    assert tables["q-0"][1]["which"] == "sample 0"


@pytest.mark.slow
def test_what_a_step_decoder_read(tmp_path: Path) -> None:
    """A step of two thoughts is told beside the second; the page shows it as text."""
    (run,) = make_runs(tmp_path, ("a",))
    said = {"sample": None, "tokens": [" 7"], "probabilities": [0.75]}
    lens = [{**said, "step": 0}, {**said, "step": 1, "text": "<b>7+5=12"}]
    greedy, samples = torch.randn(2, 8), torch.randn(4, 2, 8)
    thoughts = StoredThoughts("q-0", samples, torch.full((4,), 2), greedy, lens)
    write_thoughts(run.folder, 0, thoughts)
    tables = lens_tables(run)
    assert [row["text"] for row in tables["q-0"]] == ["", "<b>7+5=12"]
    assert all("text" not in row for row in tables["q-1"])
    write_html([run], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert '<th scope="col">step decoder</th>' in page
    assert "&lt;b&gt;7+5=12" in page
