"""Problems and where they come from."""

import hashlib
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

from lightning_ltts.data.answers import Answer, normalize_text
from lightning_ltts.data.json_rows import REPEATED, Number
from lightning_ltts.data.ranges import RAISE_IT, Bound, require_whole
from lightning_ltts.data.stored_problems import IN_MEMORY, StoredProblems
from lightning_ltts.data.tables import hub_rows, is_json_lines, read_rows
from lightning_ltts.data.truths import learnable_text, parse_truth
from lightning_ltts.errors import ConfigError, DataError, shorten

AnswerIs = Literal["number", "text"]
Ids = Literal["row", "question"]

FIELDS = ("question", "answer", "steps", "id")
MAX_CHARACTERS = Bound(1_000_000)  # of a field


@dataclass(frozen=True)
class Problem:
    """One question with its reasoning steps and answer.

    Args:
        id: name of the problem, by which randomness is keyed. It is the row's own, or else comes
            from the question's text, so that neither the name of a file nor the order of its rows
            changes a sample.
        question: the question, with single spaces.
        steps: the steps of the explicit solution, in order.
        answer: the right answer, as a model is to write it.
        source: the file and row, or the generator, for error messages.
        answer_is: whether the answer is a number or a text.
    """

    id: str
    question: str
    steps: tuple[str, ...]
    answer: str
    source: str = ""
    answer_is: AnswerIs = "number"

    @property
    def value(self) -> Answer:
        """The answer as an exact rational, or as a normalised text."""
        if self.answer_is == "text":
            return normalize_text(self.answer)
        return parse_truth(self.answer)


class ProblemSource(ABC):
    """Where problems come from: a list that is the same each time it is loaded."""

    @abstractmethod
    def load(self) -> Sequence[Problem]:
        """All problems, in a fixed order.

        Raises:
            DataError: a file or row cannot be used; the message names file, row and field.
        """


class ProblemFiles(ProblemSource):
    """Problems in files, in folders that `datasets` saved, or in data sets of the Hub.

    A file is JSON, JSON Lines, CSV, TSV or Parquet, known by its ending. A row is
    `{"question", "steps", "answer"}` (the COCONUT format; steps may be missing), or GSM8K's own
    `{"question", "answer"}` where the answer text holds `<<...>>` steps and ends in `#### number`.
    It can have an `id`, a text or whole number. In a table, a cell of steps is a JSON list, or has
    a step in each line.

    Args:
        paths: the files, read in this order; see `read_rows` for what else a path can be.
        limit: keep only the first so many problems.
        answers: `number`, or `text` for answers that are sentences (ProsQA, ProntoQA); the reasoner
            that is trained on them needs `answer_which: text` in its specification.
        ids: `row` to name a problem by the `id` of its row, where it has one; `question` to name all
            by their questions, for files that number their rows alike.
        columns: our field (question, answer, steps, id) -> the files', where they differ.
    """

    def __init__(
        self,
        paths: list[str],
        limit: int | None = None,
        answers: AnswerIs = "number",
        ids: Ids = "row",
        columns: dict[str, str] | None = None,
    ):
        if isinstance(paths, str) or not paths:
            raise ConfigError(
                f"paths={shorten(paths)} of ProblemFiles must not be an empty list or a text; name at "
                "least one file, in a list"
            )
        _check_options("ProblemFiles", limit, answers, ids, columns)
        self.paths = paths
        self.answers = answers
        self.limit = limit
        self.ids = ids
        self.columns = columns

    def load(self) -> Sequence[Problem]:  # noqa: D102
        files = [Path(path) for path in self.paths if is_json_lines(path)]
        if len(files) == len(self.paths) and sum(f.stat().st_size for f in files) > IN_MEMORY:
            stored = StoredProblems(files, self._problem)
            stored.name_apart(_numbered)
            _say_repeated(len(stored), stored.num_questions, stored[0])
            return stored if self.limit is None else stored[: self.limit]
        problems = [self._problem(*row) for path in self.paths for row in read_rows(path)]
        return with_distinct_ids(problems)[: self.limit]

    def _problem(self, where: str, row: Any) -> Problem:
        return to_problem(where, with_our_names(where, row, self.columns), self.answers, self.ids)


class HubProblems(ProblemSource):
    """Problems of a data set on the Hugging Face Hub, or of a folder that `datasets` can read.

    Args:
        path: name of the data set, for instance openai/gsm8k.
        name: name of its configuration, where it has several.
        split: the part to use; parts can be joined, as in train+test.
        columns: our field (question, answer, steps, id) -> the data set's, where they differ. Rows
            are then read as in files.
        revision: commit or tag of the data set.
        limit: keep only the first so many problems.
        answers: `number` or `text`; see `ProblemFiles`.
        ids: `row` or `question`; see `ProblemFiles`.
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
        ids: Ids = "row",
    ):
        _check_options("HubProblems", limit, answers, ids, columns)
        self.path = path
        self.answers: AnswerIs = answers
        self.name = name
        self.split = split
        self.columns = columns
        self.revision = revision
        self.limit = limit
        self.ids: Ids = ids

    def load(self) -> list[Problem]:  # noqa: D102
        rows = hub_rows(self.path, self.name, self.split, self.revision)
        problems = [
            to_problem(where, with_our_names(where, row, self.columns), self.answers, self.ids)
            for where, row in rows
        ]
        return with_distinct_ids(problems)[: self.limit]


def _check_options(
    owner: str, limit: int | None, answers: str, ids: str, columns: Mapping[str, str] | None
) -> None:
    if unknown := set(columns or {}) - set(FIELDS):
        raise ConfigError(
            f"columns of {owner} names the field {shorten(min(unknown))}, which problems do not "
            f"have; they have {', '.join(FIELDS)}"
        )
    if limit is not None:
        require_whole(owner, "limit", limit, 1, remedy="leave it out to keep all problems")
    for name, value, known in (
        ("answers", answers, get_args(AnswerIs)),
        ("ids", ids, get_args(Ids)),
    ):
        if value not in known:
            raise ConfigError(
                f"{name}={shorten(value)} of {owner} is not known; use one of {', '.join(known)}"
            )


def with_our_names(where: str, row: Any, columns: Mapping[str, str] | None) -> Any:
    """A row under the names of our fields.

    Args:
        where: its place, for messages.
        row: as it was read.
        columns: our field -> the row's; what is not named has our name.

    Raises:
        DataError: the row has no such column.
    """
    if not columns or not isinstance(row, dict):
        return row
    for ours, theirs in columns.items():
        if theirs not in row and ours in ("question", "answer"):
            raise DataError(
                f"{where} has no column {shorten(theirs)} for the {ours}; it has "
                f"{', '.join(map(str, row))}"
            )
    names = {**{field: field for field in FIELDS}, **columns}
    return {ours: row[theirs] for ours, theirs in names.items() if theirs in row}


# -- from rows to problems


def to_problem(where: str, row: Any, answers: AnswerIs, ids: Ids) -> Problem:
    """The problem in a row, named by the row's `id` or by its question.

    Raises:
        DataError: a field is missing or cannot be used.
    """
    if not isinstance(row, dict):
        raise DataError(
            f"{where} is {shorten(row)}; each row must be an object with question and answer"
        )
    if REPEATED in row:
        raise DataError(
            f"{where} has the field {shorten(row[REPEATED])} more than once; leave one of them"
        )
    question = " ".join(_text_field(where, row, "question").split())
    answer, steps = _text_field(where, row, "answer", answers), row.get("steps")
    if "####" in answer and answers == "number":  # GSM8K's own rows
        solution, _, answer = answer.rpartition("####")
        steps = [f"<<{part.split('>>')[0]}>>" for part in solution.split("<<")[1:]]
    answer = answer.strip()
    if answers == "number":
        answer = _exact(where, answer)
    elif not normalize_text(answer):
        raise DataError(
            f"{where}, field 'answer' is {shorten(answer)}, which holds no word; write the answer out"
        )
    name = (_id_field(where, row) if ids == "row" else None) or question_id(question)
    return Problem(name, question, _steps(where, steps), answer, where, answers)


def _text_field(
    where: str, row: Mapping[str, Any], field: str, answers: AnswerIs | None = None
) -> str:
    """A field as text, of which an answer can also be a number, or true or false among texts."""
    if field not in row:
        others = ", ".join(shorten(name) for name in row if name not in FIELDS)
        advice = f"; it has {others}: set columns={{{field}: ...}} of its source" if others else ""
        raise DataError(f"{where} has no field '{field}'{advice}")
    value = row[field]
    if isinstance(value, bool) and answers == "text":
        value = str(value)
    usable = isinstance(value, str) and (answers is not None or not isinstance(value, Number))
    if not usable or not value.strip():
        kinds = "a text" if answers is None else "a text or number"
        raise DataError(
            f"{where}, field '{field}' is {shorten(value)}; it must be {kinds} that is not empty"
        )
    _require_text(where, field, value)
    return str(value)


def _exact(where: str, answer: str) -> str:
    """The text of an answer that is a number, as a model is to write it."""
    try:
        return learnable_text(answer, parse_truth(answer))
    except ValueError as error:
        raise DataError(
            f"{where}, field 'answer' is {shorten(answer)}, which cannot be read as a number exactly "
            f"({error}); write the number alone, or set answers=text for answers that are texts"
        ) from None


def _steps(where: str, steps: Any) -> tuple[str, ...]:
    """Steps that are a list of texts; nothing stands for none."""
    steps = [] if steps is None else steps
    if not isinstance(steps, list) or not all(
        isinstance(step, str) and not isinstance(step, Number) for step in steps
    ):
        raise DataError(f"{where}, field 'steps' must be a list of texts, not {shorten(steps)}")
    for step in steps:
        _require_text(where, "steps", step)
    return tuple(steps)


def _id_field(where: str, row: Mapping[str, Any]) -> str | None:
    """The row's own name, where it has one."""
    value = row.get("id")
    if value is None:
        return None
    digits = value.removeprefix("-") if isinstance(value, Number) else "0"
    if not isinstance(value, str) or not value.strip() or not digits.isdigit():
        raise DataError(
            f"{where}, field 'id' is {shorten(value)}; it must be a text or whole number that is not "
            "empty, or be left out"
        )
    _require_text(where, "id", value)
    return str(value)


def _require_text(where: str, field: str, text: str) -> None:
    """Refuses a text that no tokenizer should be given."""
    if len(text) > MAX_CHARACTERS.raised:
        raise DataError(
            f"{where}, field '{field}' has {len(text)} characters; it can have at most "
            f"{MAX_CHARACTERS.raised}; {RAISE_IT}"
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"{where}, field '{field}' holds half of a character "
            f"(U+{ord(text[error.start]):04X}), which is no text; write the character out"
        ) from None


# -- names


def question_id(question: str) -> str:
    """A name that depends on the question alone, not on the file or the row it stands in."""
    return hashlib.blake2b(question.encode(), digest_size=8).hexdigest()


def with_distinct_ids(problems: list[Problem]) -> list[Problem]:
    """The problems, where those that ask the same get a number after their name.

    These are numbered by answer and steps, so that their order in the list changes nothing. How
    many they are is said once.

    Raises:
        DataError: two questions have the same id.
    """
    distinct = _numbered(problems)
    if problems:
        _say_repeated(len(problems), len({p.question for p in problems}), problems[0])
    return distinct


def _say_repeated(problems: int, questions: int, first: Problem) -> None:
    if problems > questions:
        say_once(
            f"{problems - questions} of {problems} problems repeat the question of another (from "
            f"{first.source} on)"
        )


def _numbered(problems: list[Problem]) -> list[Problem]:
    same_id: dict[str, list[int]] = defaultdict(list)
    for index, problem in enumerate(problems):
        same_id[problem.id].append(index)
    distinct = list(problems)
    for indices in same_id.values():
        first, *others = (problems[index] for index in indices)
        for other in others:
            if other.question != first.question:
                raise DataError(
                    f"{other.source} and {first.source} both have the id {shorten(first.id)}; give "
                    "each its own, or set ids=question to name problems by their questions"
                )
        by_content = sorted(
            indices, key=lambda index: (problems[index].answer, problems[index].steps)
        )
        for number, index in enumerate(by_content[1:], start=2):
            distinct[index] = replace(problems[index], id=f"{first.id}-{number}")
    return distinct


@cache
def say_once(line: str) -> None:
    """Prints a line, however often the same problems are loaded."""
    from lightning.pytorch.utilities import rank_zero_info  # which takes seconds to import

    rank_zero_info(line)


def hash_problems(problems: Sequence[Problem]) -> str:
    """A hash of questions, answers and ids, for settings."""
    digest, gap = hashlib.sha256(), ""
    for p in problems:
        digest.update(f"{gap}{p.id}\t{p.question}\t{p.answer}".encode())
        gap = "\n"
    return digest.hexdigest()[:16]
