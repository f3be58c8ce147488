"""Problems and where they come from."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.utilities import rank_zero_info

from lightning_ltts.data.answers import Answer, normalize_text
from lightning_ltts.data.truths import MAX_DIGITS, parse_truth
from lightning_ltts.errors import ConfigError, DataError, shorten

AnswerIs = Literal["number", "text"]


@dataclass(frozen=True)
class Problem:
    """One question with its reasoning steps and answer.

    Randomness is keyed by `id`. It is the row's own, or else comes from the question's text, so that neither the name of
    a file nor the order of its rows changes a sample.
    """

    id: str
    question: str
    steps: tuple[str, ...]
    answer: str
    source: str = ""  # "file:row" or the generator, for error messages
    answer_is: "AnswerIs" = "number"
    named: bool = False  # whether the row gave its id

    @property
    def value(self) -> Answer:
        """The answer as an exact rational, or as a normalised text."""
        if self.answer_is == "text":
            return normalize_text(self.answer)
        return parse_truth(self.answer)


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
            raise ConfigError(
                "ProblemFiles got an empty list of paths; name at least one JSON or JSONL file"
            )
        if limit is not None and limit < 1:
            raise ConfigError(
                f"limit={limit} leaves no problems; give a positive number or leave it out"
            )
        self.paths = paths
        self.answers = answers
        self.limit = limit

    def load(self) -> list[Problem]:  # noqa: D102
        problems = [
            problem for path in self.paths for problem in _read_file(Path(path), self.answers)
        ]
        return with_distinct_names(problems)[: self.limit]


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
            raise ConfigError(
                f"limit={limit} leaves no problems; give a positive number or leave it out"
            )
        self.path = path
        self.answers: AnswerIs = answers
        self.name = name
        self.split = split
        self.columns = {
            "question": "question",
            "answer": "answer",
            "steps": "steps",
            **(columns or {}),
        }
        self.revision = revision
        self.limit = limit

    def load(self) -> list[Problem]:  # noqa: D102
        import datasets  # takes a second to import

        try:
            rows = datasets.load_dataset(
                self.path, self.name, split=self.split, revision=self.revision
            )
        except (
            Exception
        ) as error:  # no network, no such name, no access: all mean that it cannot be had
            reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
            raise DataError(
                f"the data set {self.path} ({self.split}) cannot be loaded: {reason}"
            ) from None
        for field, column in self.columns.items():
            if column not in rows.column_names and field != "steps":
                raise DataError(
                    f"the data set {self.path} has no column '{column}'; it has {', '.join(rows.column_names)}"
                )
        columns = {**self.columns, "id": self.columns.get("id", "id")}
        problems = []
        for number, row in enumerate(rows, start=1):
            ours = {field: row[column] for field, column in columns.items() if column in row}
            problems.append(_to_problem(f"{self.path}, row {number}", ours, self.answers))
        return with_distinct_names(problems)[: self.limit]


def _read_file(path: Path, answers: AnswerIs) -> list[Problem]:
    if not path.is_file():
        what = "is a folder, not a file" if path.is_dir() else "does not exist"
        raise DataError(
            f"problem file {path} {what}; check the path (it is relative to the working directory)"
        )
    try:
        text = path.read_text(encoding="utf-8-sig")  # a byte order mark is no error
    except UnicodeDecodeError as error:
        raise DataError(
            f"problem file {path} is not UTF-8 text ({error.reason} at byte {error.start})"
        ) from None
    except OSError as error:
        raise DataError(
            f"problem file {path} cannot be read ({error.strerror}); check its permissions"
        ) from None
    problems = [
        _to_problem(f"{path}, row {number}", row, answers)
        for number, row in _parse_json(path, text)
    ]
    if not problems:
        raise DataError(f"problem file {path} is empty; it must hold at least one problem")
    return problems


def _parse_json(path: Path, text: str) -> Iterable[tuple[int, Any]]:
    """Numbered rows (from 1) of a JSON list, or of JSON Lines (where the number is the line's)."""
    if text.lstrip().startswith("["):
        return list(enumerate(_from_json(text, f"problem file {path}"), start=1))
    lines = enumerate(text.split("\n"), start=1)
    return [
        (number, _from_json(line, f"problem file {path}, line {number}"))
        for number, line in lines
        if line.strip()
    ]


def _from_json(text: str, where: str) -> Any:
    """A JSON value whose numbers are exact: decimals and whole numbers as `Decimal`."""
    try:
        return json.loads(text, parse_float=Decimal, parse_int=Decimal)
    except json.JSONDecodeError as error:
        line = f" at line {error.lineno}" if "\n" in text.strip() else ""
        raise DataError(f"{where} is not valid JSON: {error.msg}{line}") from None
    except RecursionError:
        raise DataError(
            f"{where} is nested too deeply to be read; a row is one object with question and answer"
        ) from None


def _to_problem(where: str, row: Any, answers: AnswerIs) -> Problem:
    """The problem in a row; its name is its own `id`, or else comes from its question.

    Raises:
        DataError: a field is missing or cannot be used.
    """
    if not isinstance(row, dict):
        raise DataError(
            f"{where} is {shorten(row)}; each row must be an object with question and answer"
        )
    question, answer = (_text_field(where, row, field) for field in ("question", "answer"))
    steps = row.get("steps") or []
    if "####" in answer and answers == "number":  # GSM8K's own rows
        solution, _, answer = answer.rpartition("####")
        steps = [f"<<{part.split('>>')[0]}>>" for part in solution.split("<<")[1:]]
    if not isinstance(steps, list) or not all(isinstance(step, str) for step in steps):
        raise DataError(f"{where}, field 'steps' must be a list of texts, not {shorten(steps)}")
    _require_unicode(where, "steps", " ".join(steps))
    if answers == "number":
        try:
            parse_truth(answer)
        except ValueError as error:
            raise DataError(
                f"{where}, field 'answer' is {shorten(answer.strip())}, which cannot be read as a number exactly ({error}); "
                "write the number alone, or set answers=text for answers that are texts"
            ) from None
    elif not normalize_text(answer):
        raise DataError(
            f"{where}, field 'answer' is {shorten(answer)}, which holds no word; write the answer out"
        )
    question = " ".join(question.split())
    name = (
        str(row["id"])
        if isinstance(row.get("id"), str | Decimal | int) and str(row["id"]).strip()
        else ""
    )
    _require_unicode(where, "id", name)
    return Problem(
        name or _name_of(question),
        question,
        tuple(steps),
        answer.strip(),
        where,
        answers,
        bool(name),
    )


def _text_field(where: str, row: dict[str, Any], field: str) -> str:
    """A field as text; numbers are written without exponent.

    Raises:
        DataError: it is missing, empty, or neither text nor number.
    """
    if field not in row:
        raise DataError(f"{where} has no field '{field}'")
    value = row[field]
    if isinstance(value, float):
        value = Decimal(repr(value))
    if isinstance(value, Decimal) and value.is_finite():
        # a number that would take more than a page is left as it is, for the reader of truths to refuse
        small = abs(value.adjusted()) <= MAX_DIGITS and len(value.as_tuple().digits) <= MAX_DIGITS
        value = f"{value:f}" if small else str(value)
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
        raise DataError(
            f"{where}, field '{field}' is {shorten(row[field])}; it must be a text or number that is not empty"
        )
    _require_unicode(where, field, str(value))
    return str(value)


def _require_unicode(where: str, field: str, text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(
            f"{where}, field '{field}' holds half of a character (U+{ord(text[error.start]):04X}), which is "
            "no text; write the character out"
        ) from None


def _name_of(question: str) -> str:
    """A name that depends on the question alone, not on the file or the row it stands in."""
    return hashlib.blake2b(question.encode(), digest_size=8).hexdigest()


def with_distinct_names(problems: list[Problem]) -> list[Problem]:
    """The problems, where those that ask the same get a number after their name, and how many these are is said.

    Raises:
        DataError: two rows have the same `id` of their own.
    """
    first: dict[str, Problem] = {}
    times: Counter[str] = Counter()
    named = []
    for problem in problems:
        other = first.setdefault(problem.id, problem)
        if other is not problem and (problem.named or other.named):
            raise DataError(
                f"{problem.source} and {other.source} both have the id {shorten(problem.id)}; give each its own"
            )
        times[problem.id] += 1
        repeated = times[problem.id] > 1
        named.append(
            replace(problem, id=f"{problem.id}-{times[problem.id]}") if repeated else problem
        )
    if repeats := len(problems) - len(first):
        rank_zero_info(
            f"{repeats} of {len(problems)} problems repeat the question of another ({problems[0].source} and on)"
        )
    return named


def hash_problems(problems: list[Problem]) -> str:
    """A hash of questions, answers and ids, for settings."""
    return hashlib.sha256(
        "\n".join(f"{p.id}\t{p.question}\t{p.answer}" for p in problems).encode()
    ).hexdigest()[:16]
