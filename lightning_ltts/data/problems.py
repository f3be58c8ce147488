"""Problems and where they come from."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from lightning_ltts.data.answers import Answer, normalize_text, parse_number
from lightning_ltts.errors import ConfigError, DataError

AnswerIs = Literal["number", "text"]


@dataclass(frozen=True)
class Problem:
    """One question with its reasoning steps and answer. `id` is stable: randomness is keyed by it."""

    id: str
    question: str
    steps: tuple[str, ...]
    answer: str
    source: str = ""  # "file:row" or the generator, for error messages
    answer_is: "AnswerIs" = "number"

    @property
    def value(self) -> Answer:
        """The answer as an exact rational, or as a normalised text."""
        if self.answer_is == "text":
            return normalize_text(self.answer)
        value = parse_number(self.answer)
        assert value is not None, "sources only make problems with numeric answers"
        return value


class ProblemSource(ABC):
    """Where problems come from: a list that is the same each time it is loaded."""

    @abstractmethod
    def load(self) -> list[Problem]:
        """All problems, in a fixed order.

        Raises:
            DataError: a file or row cannot be used; the message names file, row and field.
        """


class ProblemFiles(ProblemSource):
    """Problems in JSON or JSON Lines files.

    A row is `{"question", "steps", "answer"}` (the COCONUT format; steps may be missing), or GSM8K's own
    `{"question", "answer"}` where the answer text holds `<<...>>` steps and ends in `#### number`.

    Args:
        paths: the files, read in this order.
        limit: keep only the first so many problems.
        answers: `number`, or `text` for answers that are sentences (ProsQA, ProntoQA); the reasoner that is trained on them
            needs `answer_which: text` in its specification.
    """

    def __init__(self, paths: list[str], limit: int | None = None, answers: AnswerIs = "number"):
        if not paths:
            raise ConfigError("ProblemFiles got an empty list of paths; name at least one JSON or JSONL file")
        if limit is not None and limit < 1:
            raise ConfigError(f"limit={limit} leaves no problems; give a positive number or leave it out")
        self.paths = paths
        self.answers = answers
        self.limit = limit

    def load(self) -> list[Problem]:  # noqa: D102
        problems = [problem for path in self.paths for problem in _read_file(Path(path), self.answers)]
        names: dict[str, Problem] = {}
        for problem in problems:
            if (other := names.setdefault(problem.id, problem)) is not problem:
                raise DataError(
                    f"{problem.source} and {other.source} would both be called {problem.id}; rename one of the files"
                )
        return problems[: self.limit]


class HubProblems(ProblemSource):
    """Problems of a data set on the Hugging Face Hub (or of a local folder that `datasets` can read).

    Args:
        path: name of the data set, for instance openai/gsm8k.
        name: its configuration, where it has several.
        split: which part; parts can be joined, as in train+test.
        columns: our field (question, answer, steps) -> the data set's, where they differ. Rows are then read as in files.
        revision: commit or tag of the data set.
        limit: keep only the first so many problems.
        answers: see `ProblemFiles`.
    """

    def __init__(
        self,
        path: str,
        name: str | None = None,
        split: str = "test",
        columns: dict[str, str] | None = None,
        revision: str | None = None,
        limit: int | None = None,
        answers: AnswerIs = "number",
    ):
        if limit is not None and limit < 1:
            raise ConfigError(f"limit={limit} leaves no problems; give a positive number or leave it out")
        self.path = path
        self.answers: AnswerIs = answers
        self.name = name
        self.split = split
        self.columns = {"question": "question", "answer": "answer", "steps": "steps", **(columns or {})}
        self.revision = revision
        self.limit = limit

    def load(self) -> list[Problem]:  # noqa: D102
        import datasets  # takes a second to import

        try:
            rows = datasets.load_dataset(self.path, self.name, split=self.split, revision=self.revision)
        except Exception as error:  # no network, no such name, no access: all mean that it cannot be had
            reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
            raise DataError(f"the data set {self.path} ({self.split}) cannot be loaded: {reason}") from None
        for field, column in self.columns.items():
            if column not in rows.column_names and field != "steps":
                raise DataError(f"the data set {self.path} has no column '{column}'; it has {', '.join(rows.column_names)}")
        stem = "-".join(part for part in (self.path.rstrip("/").split("/")[-1], self.name, self.split) if part)
        problems = []
        for number, row in enumerate(rows, start=1):
            ours = {field: row[column] for field, column in self.columns.items() if column in row}
            if isinstance(ours["answer"], float):
                ours["answer"] = f"{Decimal(str(ours['answer'])):f}"  # without an exponent
            problems.append(_to_problem(f"{stem}-{number}", f"{self.path}, row {number}", ours, self.answers))
        return problems[: self.limit]


def _read_file(path: Path, answers: AnswerIs) -> list[Problem]:
    if not path.is_file():
        raise DataError(f"problem file {path} does not exist; check the path (it is relative to the working directory)")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"problem file {path} is not UTF-8 text ({error.reason} at byte {error.start})") from None
    rows = _parse_json(path, text)
    problems = [_to_problem(f"{path.stem}-{number}", f"{path}, row {number}", row, answers) for number, row in rows]
    if not problems:
        raise DataError(f"problem file {path} is empty; it must hold at least one problem")
    return problems


def _parse_json(path: Path, text: str) -> Iterable[tuple[int, Any]]:
    """Numbered rows (from 1) of a JSON list, or of JSON Lines (where the number is the line's)."""
    if text.lstrip().startswith("["):
        try:
            return list(enumerate(json.loads(text), start=1))
        except json.JSONDecodeError as error:
            raise DataError(f"problem file {path} is not valid JSON: {error.msg} at line {error.lineno}") from None
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                rows.append((number, json.loads(line)))
            except json.JSONDecodeError as error:
                raise DataError(f"problem file {path}, line {number} is not valid JSON: {error.msg}") from None
    return rows


def _to_problem(name: str, where: str, row: Any, answers: AnswerIs) -> Problem:
    if not isinstance(row, dict):
        raise DataError(f"{where} is a {type(row).__name__}; each row must be an object with question and answer")
    for field in ("question", "answer"):
        if field not in row:
            raise DataError(f"{where} has no field '{field}'")
        if not isinstance(row[field], str | int | float) or not str(row[field]).strip():
            raise DataError(f"{where}, field '{field}' is {row[field]!r}; it must be a text or number that is not empty")
    steps = row.get("steps") or []
    answer = str(row["answer"])
    if "####" in answer and answers == "number":  # GSM8K's own rows
        solution, _, answer = answer.rpartition("####")
        steps = [f"<<{part.split('>>')[0]}>>" for part in solution.split("<<")[1:]]
    if not isinstance(steps, list) or not all(isinstance(step, str) for step in steps):
        raise DataError(f"{where}, field 'steps' must be a list of texts, not {steps!r}")
    if answers == "number" and parse_number(answer) is None:
        raise DataError(
            f"{where}, field 'answer' is {answer.strip()!r}, which holds no number; set answers=text for answers that are texts"
        )
    question = " ".join(str(row["question"]).split())
    return Problem(name, question, tuple(steps), answer.strip(), where, answers)


def hash_problems(problems: list[Problem]) -> str:
    """A hash of questions, answers and ids, for settings."""
    return hashlib.sha256("\n".join(f"{p.id}\t{p.question}\t{p.answer}" for p in problems).encode()).hexdigest()[:16]
