"""What a problem file holds, looked at before anything is trained on it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from lightning_ltts.data.overlap import words
from lightning_ltts.data.problems import Problem, to_problem
from lightning_ltts.data.row_fields import with_our_names
from lightning_ltts.data.share import place_of
from lightning_ltts.data.source_options import AnswerIs
from lightning_ltts.data.tables import kind_of, read_rows
from lightning_ltts.errors import DataError

# where no more than one in so many answers is no number, it is taken for a mistake
MISTAKES = 10
MOST_BYTES = 8192  # of what a model that is made here has room for


@dataclass(frozen=True)
class Findings:
    """What a problem file holds.

    Args:
        path: the file.
        kind: how it is written.
        answer_is: whether all answers are numbers.
        problems: its problems, named by their rows or questions.
    """

    path: str
    kind: str
    answer_is: AnswerIs
    problems: list[Problem]

    @property
    def longest(self) -> int:
        """The most bytes of a problem with its steps and answer, which a byte-level model reads."""
        texts = ("\n".join((p.question, *p.steps, p.answer)) for p in self.problems)
        return max(len(text.encode()) for text in texts)

    @property
    def longest_answer(self) -> int:
        """The most bytes of an answer."""
        return max(len(problem.answer.encode()) for problem in self.problems)

    @property
    def has_steps(self) -> bool:
        """Whether every problem has steps, which a curriculum turns into thoughts."""
        return all(problem.steps for problem in self.problems)

    def lines(self) -> list[str]:
        """What to know of the file, in sentences of a line each."""
        count = len(self.problems)
        lengths = sorted(len(problem.question.split()) for problem in self.problems)
        steps = [len(problem.steps) for problem in self.problems if problem.steps]
        repeated = count - len({words(problem.question) for problem in self.problems})
        lines = [
            f"{self.path}: {count} problems, {self.kind}",
            f"  answers: {self.answer_is}s, the longest of {self.longest_answer} bytes",
            f"  questions: {lengths[0]} to {lengths[-1]} words, half of them up to "
            f"{median(lengths):.0f}",
        ]
        about_steps = f"in {len(steps)} of {count} problems, up to {max(steps, default=0)}"
        if not self.has_steps:
            about_steps += "; where some have none, thoughts are trained by the answers alone"
        lines.append(f"  steps: {about_steps}")
        if repeated:
            lines.append(f"  repeats: {repeated} problems ask what another asks")
        if self.longest > MOST_BYTES:
            lines.append(
                f"  too long: a problem of {self.longest} bytes; leave out those above {MOST_BYTES}"
            )
        return lines


def inspect(
    path: str | Path, answers: AnswerIs | None = None, columns: Mapping[str, str] | None = None
) -> Findings:
    """Reads a problem file, and finds out what is in it.

    Args:
        path: what `read_rows` takes.
        answers: what the answers are; by default numbers where all of them are.
        columns: our field -> the file's, where they differ.

    Raises:
        DataError: a row cannot be used, or most answers are numbers and some are not.
    """
    path = str(path)  # a name on the Hub is no path
    read = read_rows(path, (columns or {}).get("steps", "steps"))
    rows = [(where, with_our_names(where, row, columns)) for where, row in read]
    decided = answers or _kind_of_answers(rows, path)
    problems = [to_problem(where, row, decided, "row") for where, row in rows]
    kind = kind_of(path)
    if decided == "number" and any("####" in str(row["answer"]) for _, row in rows):
        kind += " as GSM8K is published"
    return Findings(path, kind, decided, problems)


def _kind_of_answers(rows: Sequence[tuple[str, object]], path: str) -> AnswerIs:
    """Whether the answers are numbers or texts."""
    refused = []
    for where, row in rows:
        try:
            to_problem(where, row, "number", "row")
        except DataError as error:
            refused.append(error)
    if not refused:
        return "number"
    if MISTAKES * len(refused) <= len(rows):
        raise DataError(
            f"{refused[0]} (of {len(rows)} rows of {path} {len(refused)} cannot be used so)"
        )
    return "text"


def split_problems(
    problems: Sequence[Problem], weights: Mapping[str, int]
) -> dict[str, list[Problem]]:
    """Parts of problems that have no question in common, by a hash of the questions' words.

    Args:
        problems: all of them.
        weights: name of each part -> its share of the sum.

    Returns:
        Name -> problems, in their order.

    Raises:
        DataError: there are fewer questions than parts.
    """
    questions = sorted({words(p.question) for p in problems}, key=place_of)
    if len(questions) < len(weights):
        raise DataError(
            f"{len(questions)} different questions are too few for {len(weights)} parts "
            f"({', '.join(weights)}); give more problems"
        )
    names, total, done = list(weights), sum(weights.values()), 0
    part: dict[str, str] = {}
    for number, name in enumerate(names):
        done += weights[name]
        # every part has one at least, those that follow too
        end = max(round(len(questions) * done / total), len(part) + 1)
        end = min(end, len(questions) - (len(names) - 1 - number))
        part |= dict.fromkeys(questions[len(part) : end], name)
    return {name: [p for p in problems if part[words(p.question)] == name] for name in names}
