"""A new selection is one class and its entry in `SELECTIONS`; everything else finds it there."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lightning_ltts import load_latent_rm
from lightning_ltts.analysis.summary import summarize
from lightning_ltts.data.word_problems import WordProblems
from lightning_ltts.mining.data import MiningData
from lightning_ltts.models.latent_lm import LatentReasoner
from lightning_ltts.models.latent_rm_spec import LatentRMSpec
from lightning_ltts.prediction.data import PredictionData
from lightning_ltts.prediction.module import LatentSearch
from lightning_ltts.prediction.writer import PredictionWriter
from lightning_ltts.report.page import write_html
from lightning_ltts.report.runs import load_runs
from lightning_ltts.report.tables import write_csv
from lightning_ltts.sampling import GaussianNoise
from lightning_ltts.trainer import Trainer
from lightning_ltts.training.latent_rm import LatentRMModule
from lightning_ltts.voting import selection as selection_module
from lightning_ltts.voting.adaptive import BetaStopping
from lightning_ltts.voting.selection import SELECTIONS, BestOfN, Selection, fitted_in, selections
from lightning_ltts.voting.signals import Signal
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
        place = min(self.skipped, votes.shape[1] - 1)
        worst = scores.double().masked_fill(votes < 0, torch.inf).argsort(1)[:, place]
        return worst.where((votes >= 0).any(dim=1), -1)


@pytest.fixture
def _known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection_module, "SELECTIONS", (*SELECTIONS, WorstOfN))


@pytest.mark.slow
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
    assert "worst of n" in table["selections"]


@pytest.mark.usefixtures("_known")
def test_its_parameter_is_fitted_with_the_latent_rm(tmp_path: Path, gpt2: LatentReasoner) -> None:
    path = save_reasoner(gpt2, tmp_path / "reasoner.ckpt")
    metrics = LatentRMModule(str(path))._selection_metrics()
    assert [m.selection.skipped for m in metrics if isinstance(m.selection, WorstOfN)] == [0, 1]


@pytest.mark.slow
@pytest.mark.usefixtures("_known")
def test_its_parameter_goes_through_fit_predict_and_report(
    tmp_path: Path, reasoner_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One class in one place: the checkpoint, the predictions and the report hold what was fitted."""
    monkeypatch.setattr(WorstOfN, "candidates", (1,))  # so that another is fitted than the default
    reasoner, sampler = str(reasoner_file), GaussianNoise(0.8)
    sources = WordProblems("train", 6), WordProblems("valid", 4)
    store, quiet = str(tmp_path / "store"), {"logger": False, "enable_progress_bar": False}
    samples = {"num_samples": 3, "num_rollouts": 1, "val_num_samples": 3, "batch_size": 3}
    data = MiningData(reasoner, sampler, *sources, store, keep_uninformative=True, **samples)
    fit = Trainer(accelerator="cpu", max_epochs=1, default_root_dir=tmp_path, **quiet)
    fit.fit(LatentRMModule(reasoner), datamodule=data)
    fit.save_checkpoint(tmp_path / "rm.ckpt")
    fitted = load_latent_rm(tmp_path / "rm.ckpt").spec.fitted
    assert fitted.keys() == {"temperature", "agreement", "skipped"}
    assert fitted["skipped"] == 1

    search = LatentSearch(reasoner, sampler, str(tmp_path / "rm.ckpt"), num_samples=4)
    writer = PredictionWriter(str(tmp_path / "run"))
    predict = Trainer(accelerator="cpu", callbacks=[writer], **quiet)
    problems = PredictionData(WordProblems("test", 3))
    predict.predict(search, datamodule=problems, return_predictions=False)
    (run,) = load_runs([str(tmp_path / "run")], None, "sum", "majority", BetaStopping(), None)
    assert run.rows[0]["fitted"] == fitted
    assert run.settings.items() >= fitted.items()
    assert run.selections[-1].skipped == 1  # type: ignore[attr-defined]
    chosen = [row["choices"]["worst_of_n"] for row in run.rows]
    assert run.choices["worst_of_n"].tolist() == chosen


def test_what_was_stored_before_there_was_fitted() -> None:
    """Descriptions and rows of then hold two parameters by themselves; fingerprints stay."""
    then = {"temperature": 3.0, "agreement": 2.0}
    assert fitted_in({"id": "q", "seed": 1, **then}) == then
    assert fitted_in({"fitted": {"skipped": 1}, "skipped": 5}) == {"skipped": 1}
    assert fitted_in({"id": "q"}) == {}
    spec = LatentRMSpec.of({"backbone": {}, "thought_size": 4, "end_id": 7, **then})
    assert (spec.fitted, spec.end_id) == (then, 7)
    assert LatentRMSpec.of(asdict(spec)) == spec
    assert spec.identity().items() >= then.items()
    assert "fitted" not in spec.identity()
    more = LatentRMSpec({}, 4, fitted={"skipped": 1}).identity()
    assert (more["temperature"], more["agreement"], more["fitted"]) == (1.0, 0.0, {"skipped": 1})


def test_parameters_are_taken_where_they_are_given() -> None:
    by_name = {
        s.name: s
        for s in selections({"temperature": 3.0, "agreement": 2.0, "seed": 1}, [Signal.SCORE])
    }
    assert (by_name["weighted_vote"].temperature, by_name["agreeing_best_of_n"].weight) == (
        3.0,
        2.0,
    )  # type: ignore[attr-defined]
    assert [s.name for s in selections({}, [])] == ["majority"]
    assert selections({}, [Signal.SCORE])[1].temperature == 1.0  # type: ignore[attr-defined]


def test_names_are_distinct() -> None:
    assert len({kind.name for kind in selection_module.SELECTIONS}) == len(SELECTIONS)
    parameters = [kind.parameter for kind in SELECTIONS if kind.parameter]
    assert len(set(parameters)) == len(parameters)
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
