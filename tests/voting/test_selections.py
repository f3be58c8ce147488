"""A new selection is one class and its entry in `SELECTIONS`; everything else finds it there."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lightning_ltts.analysis.summary import summarize
from lightning_ltts.models.latent_lm import LatentReasoner
from lightning_ltts.report.page import write_csv, write_html
from lightning_ltts.report.runs import load_runs
from lightning_ltts.training.latent_rm import LatentRMModule
from lightning_ltts.voting import selection as selection_module
from lightning_ltts.voting.adaptive import BetaStopping
from lightning_ltts.voting.selection import SELECTIONS, BestOfN, Selection, selections
from tests.helpers import save_reasoner
from tests.report.test_page import write


class WorstOfN(Selection):
    """The answer of the trajectory with the lowest score, or of the one that comes after so many."""

    name = "worst_of_n"
    parameter = "skipped"
    candidates = (0, 1)

    def __init__(self, skipped: int = 0):
        self.skipped = skipped

    def choose(self, votes: Tensor, scores: Tensor) -> Tensor:
        worst = scores.double().masked_fill(votes < 0, torch.inf).argsort(1)[:, self.skipped]
        return worst.where((votes >= 0).any(dim=1), -1)


@pytest.fixture
def _known(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (
        "lightning_ltts.voting.selection",
        "lightning_ltts.training.latent_rm",
        "lightning_ltts.report.drawing",
    ):
        monkeypatch.setattr(f"{module}.SELECTIONS", (*SELECTIONS, WorstOfN))


@pytest.mark.usefixtures("_known")
def test_a_new_selection_is_in_table_page_and_curves(tmp_path: Path) -> None:
    runs = load_runs([str(write(tmp_path / "run"))], None, "sum", "majority", BetaStopping(), None)
    summary = runs[0].summary
    assert "worst_of_n@4" in summary.table()
    assert list(summary.curves["worst_of_n"]) == [1, 2, 4]
    write_html(runs, tmp_path / "r.html")
    write_csv(runs, tmp_path / "csv")
    assert "worst_of_n@4" in (tmp_path / "csv/results.csv").read_text()
    page = (tmp_path / "r.html").read_text("utf-8")
    (table,) = json.loads(page.split('id="question-data">', 1)[1].split("</script>", 1)[0])
    assert "worst_of_n" in table["selections"]


@pytest.mark.usefixtures("_known")
def test_its_parameter_is_fitted_with_the_latent_rm(tmp_path: Path, gpt2: LatentReasoner) -> None:
    path = save_reasoner(gpt2, tmp_path / "reasoner.ckpt")
    metrics = LatentRMModule(str(path))._selection_metrics()
    assert [m.selection.skipped for m in metrics if isinstance(m.selection, WorstOfN)] == [0, 1]


def test_parameters_are_taken_where_they_are_given() -> None:
    by_name = {
        s.name: s
        for s in selections({"temperature": 3.0, "agreement": 2.0, "seed": 1}, scored=True)
    }
    assert (by_name["weighted_vote"].temperature, by_name["agreeing_best_of_n"].weight) == (
        3.0,
        2.0,
    )  # type: ignore[attr-defined]
    assert [s.name for s in selections({}, scored=False)] == ["majority"]
    assert selections({}, scored=True)[1].temperature == 1.0  # type: ignore[attr-defined]


def test_names_are_distinct() -> None:
    assert len({kind.name for kind in selection_module.SELECTIONS}) == len(SELECTIONS)
    assert [s.name for s in BestOfN.variants()] == ["best_of_n"]


def test_summary_names_methods_apart_from_their_n() -> None:
    rows = [
        {
            "id": "a",
            "answer": "1",
            "greedy": {"answer": "1"},
            "samples": [{"answer": "1"}, {"answer": "2"}],
        },
    ]
    lines = {line.name: (line.method, line.n) for line in summarize(rows).lines}
    assert lines["coverage@2"] == ("coverage", 2)
    assert lines["greedy"] == ("greedy", None)
    assert lines["pass@1"] == ("pass", 1)
