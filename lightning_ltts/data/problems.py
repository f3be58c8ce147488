"""Problems and where they come from."""

import hashlib
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_ltts.data.answers import normalize_text
from lightning_ltts.data.json_rows import REPEATED
from lightning_ltts.data.latex_answers import LatexTruth, Truth, boxed
from lightning_ltts.data.ranges import IN_MEMORY
from lightning_ltts.data.row_fields import id_field, steps_field, text_field, with_our_names
from lightning_ltts.data.source_options import AnswerIs, Ids, check_options
from lightning_ltts.data.tables import hub_rows, hub_stream, is_json_lines, read_rows
from lightning_ltts.data.truths import learnable_text, parse_truth
from lightning_ltts.errors import ConfigError, DataError, shorten
from lightning_ltts.files import settings_of

if TYPE_CHECKING:
    from lightning_ltts.data.stored_problems import StoredProblems


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
        answer_is: whether the answer is a number, a text or LaTeX.
    """

    id: str
    question: str
    steps: tuple[str, ...]
    answer: str
    source: str = ""
    answer_is: AnswerIs = "number"

    @property
    def value(self) -> Truth:
        """What equals right answers: an exact rational, a normalised text, or an expression."""
        if self.answer_is == "text":
            return normalize_text(self.answer)
        if self.answer_is == "latex":
            return LatexTruth(self.answer)
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
        answers: `number`; `text` for answers that are sentences (ProsQA, ProntoQA); or `latex` for
            expressions, boxed or not (MATH). The reasoner that is trained on them needs
            `answer_which: text` or `latex` in its specification.
        ids: `row` to name a problem by the `id` of its row, where it has one; `question` to name all
            by their questions, for files that number their rows alike.
        columns: our field (question, answer, steps, id) -> the files', where they differ.
        leave_out: answers of questions that have none, such as the None of GSM-Plus: their rows
            are left out, and so are rows whose answer is null. How many is said once.
        only_numbers: whether rows whose answer is not one number are left out, too, and counted,
            instead of refused: for published sets whose odd rows are not yours to mend.
    """

    def __init__(
        self,
        paths: list[str],
        limit: int | None = None,
        answers: AnswerIs = "number",
        ids: Ids = "row",
        columns: dict[str, str] | None = None,
        leave_out: Sequence[str] = (),
        only_numbers: bool = False,
    ):
        if isinstance(paths, str) or not paths:
            raise ConfigError(
                f"paths={shorten(paths)} of ProblemFiles must not be an empty list or a text; name at "
                "least one file, in a list"
            )
        check_options("ProblemFiles", limit, answers, ids, columns, leave_out, only_numbers)
        self.paths = paths
        self.answers = answers
        self.limit = limit
        self.ids = ids
        self.columns = columns
        self.leave_out = leave_out
        self.only_numbers = only_numbers

    def load(self) -> Sequence[Problem]:  # noqa: D102
        files = [Path(path) for path in self.paths if is_json_lines(path)]
        large = sum(file.stat().st_size for file in files) > IN_MEMORY
        if large and len(files) == len(self.paths) and not (self.leave_out or self.only_numbers):
            from lightning_ltts.data.stored_problems import StoredProblems  # which needs NumPy

            stored = _told_apart(StoredProblems(files, self._problem))
            return stored if self.limit is None else stored[: self.limit]
        steps = (self.columns or {}).get("steps", "steps")
        rows = [self._named(*row) for path in self.paths for row in read_rows(path, steps)]
        kept = _with_answers(rows, self.leave_out, self.only_numbers)
        return _to_problems(kept, self.answers, self.ids)[: self.limit]

    def _named(self, where: str, row: Any) -> tuple[str, Any]:
        return where, with_our_names(where, row, self.columns)

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
        answers: `number`, `text` or `latex`; see `ProblemFiles`.
        ids: `row` or `question`; see `ProblemFiles`.
        leave_out: answers of questions that have none; see `ProblemFiles`.
        only_numbers: whether answers that are no number are left out; see `ProblemFiles`.
        streaming: write the problems to a file of the cache as their rows arrive, and serve them
            from there, so that neither the data set is held nor all of it kept; with a `limit`
            nothing beyond it is read. Otherwise they are the same problems.
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
        leave_out: Sequence[str] = (),
        only_numbers: bool = False,
        streaming: bool = False,
    ):
        check_options("HubProblems", limit, answers, ids, columns, leave_out, only_numbers)
        self.path = path
        self.answers: AnswerIs = answers
        self.name = name
        self.split = split
        self.columns = columns
        self.revision = revision
        self.limit = limit
        self.ids: Ids = ids
        self.leave_out = leave_out
        self.only_numbers = only_numbers
        self.streaming = streaming

    def load(self) -> Sequence[Problem]:  # noqa: D102
        if self.streaming:
            from lightning_ltts.data.hub_stream import streamed

            return _told_apart(streamed(settings_of(self), self._stream))
        rows = hub_rows(self.path, self.name, self.split, self.revision)
        return _to_problems(self._kept(rows), self.answers, self.ids)[: self.limit]

    def _stream(self, revision: str | None) -> Iterator[Problem]:
        """The problems as their rows arrive; nothing is asked for before the first is taken."""
        rows = hub_stream(self.path, self.name, self.split, revision)
        for where, row in islice(self._kept(rows), self.limit):
            yield to_problem(where, row, self.answers, self.ids)

    def _kept(self, rows: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
        named = ((where, with_our_names(where, row, self.columns)) for where, row in rows)
        return _with_answers(named, self.leave_out, self.only_numbers)


# -- from rows to problems


def _to_problems(rows: Iterable[tuple[str, Any]], answers: AnswerIs, ids: Ids) -> list[Problem]:
    """The problems in rows with their places."""
    return with_distinct_ids([to_problem(where, row, answers, ids) for where, row in rows])


def _with_answers(
    rows: Iterable[tuple[str, Any]], leave_out: Sequence[str], only_numbers: bool
) -> Iterator[tuple[str, Any]]:
    """The rows, except those whose answer is to be left out; how many these are is said once.

    Raises:
        DataError: nothing is left.
    """
    kept, left_out = 0, list[str]()
    for where, row in rows:
        is_row = isinstance(row, dict) and "answer" in row
        if is_row and _is_left_out(row["answer"], leave_out, only_numbers):
            left_out.append(where)
        else:
            kept += 1
            yield where, row
    lack = "no answer that is a number" if only_numbers else "no answer"
    if left_out and not kept:
        raise DataError(f"all {len(left_out)} problems from {left_out[0]} on have {lack}")
    if left_out:
        say_once(
            f"{len(left_out)} of {len(left_out) + kept} problems have {lack} (from {left_out[0]} on) "
            "and are left out"
        )


def _is_left_out(answer: Any, leave_out: Sequence[str], only_numbers: bool) -> bool:
    text = str(answer).strip()
    if (leave_out or only_numbers) and (answer is None or text in leave_out):
        return True
    try:
        return only_numbers and parse_truth(text.rpartition("####")[2].strip()) is None
    except ValueError:
        return True


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
    question = " ".join(text_field(where, row, "question").split())
    answer, steps = text_field(where, row, "answer", answers), row.get("steps")
    if "####" in answer and answers == "number":  # GSM8K's own rows
        solution, _, answer = answer.rpartition("####")
        steps = [f"<<{part.split('>>')[0]}>>" for part in solution.split("<<")[1:]]
    answer = answer.strip()
    if answers == "number":
        answer = _exact(where, answer)
    elif answers == "latex":
        answer = _expression(where, answer)
    elif not normalize_text(answer):
        raise DataError(
            f"{where}, field 'answer' is {shorten(answer)}, which holds no word; write the answer out"
        )
    name = (id_field(where, row) if ids == "row" else None) or question_id(question)
    return Problem(name, question, steps_field(where, steps), answer, where, answers)


def _exact(where: str, answer: str) -> str:
    """The text of an answer that is a number, as a model is to write it."""
    try:
        return learnable_text(answer, parse_truth(answer))
    except ValueError as error:
        raise DataError(
            f"{where}, field 'answer' is {shorten(answer)}, which cannot be read as a number exactly "
            f"({error}); write the number alone, or set answers=text, or latex, for answers that are none"
        ) from None


def _expression(where: str, answer: str) -> str:
    """An answer in LaTeX without what boxes it."""
    inner = boxed(answer)
    if inner is not None and not inner.strip():
        raise DataError(
            f"{where}, field 'answer' is {shorten(answer)}, whose box is empty; write the answer into it"
        )
    return answer if inner is None else inner.strip()


# -- names


def question_id(question: str) -> str:
    """A name that depends on the question alone, not on the file or the row it stands in."""
    return hashlib.blake2b(question.encode(), digest_size=8).hexdigest()


def key_of(text: str) -> int:
    """64 bits that stand for a text, an id or a question, among millions."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


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


def _told_apart(stored: "StoredProblems") -> "StoredProblems":
    """As `with_distinct_ids`, of problems that stay in files."""
    stored.name_apart(_numbered)
    _say_repeated(len(stored), stored.num_questions, stored[0])
    return stored


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
    """A hash of questions, answers and ids, for settings; LaTeX is another answer than its text."""
    digest, gap = hashlib.sha256(), ""
    for p in problems:
        kind = "\tlatex" if p.answer_is == "latex" else ""
        digest.update(f"{gap}{p.id}\t{p.question}\t{p.answer}{kind}".encode())
        gap = "\n"
    return digest.hexdigest()[:16]
