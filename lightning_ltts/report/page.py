"""`ltts report -o`: prediction runs as one HTML page that needs no network."""

import json
from collections.abc import Sequence
from importlib.resources import files
from itertools import accumulate, takewhile
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from jinja2 import Environment, FunctionLoader
from plotly.offline import get_plotlyjs

from lightning_ltts.report.comparison import between_runs, notes
from lightning_ltts.report.figures import figures_by_tab
from lightning_ltts.report.question_table import question_table
from lightning_ltts.report.results import flat, groups_of, words_in
from lightning_ltts.report.runs import Run
from lightning_ltts.report.thought_figures import lens_tables

DETAIL_BYTES = 9_000_000  # of questions and samples in a page; with plotting library and figures it stays under 15 MB
_ROW_BYTES = 150  # of a question beside its text and samples


def write_html(runs: Sequence[Run], path: Path) -> None:
    """One page with figures, tables and questions of one or several runs.

    Where the samples of all questions would make it too large, the questions that come last are listed without theirs, or
    not at all, and the page says so.
    """
    tabs = figures_by_tab(runs)
    accuracy = tabs.pop("Accuracy")  # the first of these stands beside the table
    tabs = {"Results": accuracy[:1], "Accuracy": accuracy[1:], **tabs}
    page = (
        _environment()
        .get_template("report.html")
        .render(
            tabs=tabs,
            runs=runs,
            notes=notes(runs),
            between=between_runs(runs),
            groups={run.name: groups_of(run, runs) for run in runs},
            words=words_in(runs),
            settings={run.name: flat(run.settings) for run in runs},
            lens={run.name: tables for run in runs if (tables := lens_tables(run))},
            plotly=get_plotlyjs(),
            figures=_json([_plain(figure) for made in tabs.values() for *_, figure in made]),
            questions=_json(_question_tables(runs)),
        )
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")


def _environment() -> Environment:
    """Jinja with the files of the page, which stand beside this one."""
    folder = files(__package__).joinpath("page_files")
    loader = FunctionLoader(lambda name: folder.joinpath(name).read_text("utf-8"))
    return Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)


def _question_tables(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """The table of each run, with the first questions, and samples as long as there is room for them.

    Questions have at most half of the room, so that there are some with their samples.
    """
    room = DETAIL_BYTES // 2 // len(runs)
    listed = []
    for run in runs:
        texts = (len(row.get("question", "").encode()) + _ROW_BYTES for row in run.rows)
        listed.append(list(takewhile(lambda used: used <= room, accumulate(texts))) or [0])
    tables, left = [], DETAIL_BYTES - sum(used[-1] for used in listed)
    for run, used_by_texts in zip(runs, listed, strict=True):
        table, used = question_table(run, len(used_by_texts), left)
        tables.append(table)
        left -= used
    return tables


def _plain(figure: go.Figure) -> dict[str, Any]:
    """A figure without its template, whose colours are those of the page."""
    plain: dict[str, Any] = json.loads(figure.to_json())
    plain["layout"].pop("template", None)
    return plain


def _json(value: Any) -> str:
    """For a script element: a tag in a question must not end it."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")
