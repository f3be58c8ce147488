"""Problems that stay in their files: only where each one is, is held in memory."""

from array import array
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, overload

import numpy as np

from lightning_ltts.data.json_rows import line_rows, read_line
from lightning_ltts.data.problems import Problem, key_of
from lightning_ltts.files import read_at

_COLUMNS = 4  # of where a problem is: file, offset, bytes, row


class ProblemView(Sequence[Problem]):
    """Some of the problems of a sequence, in an order of their own.

    Args:
        problems: the sequence.
        indices: which, by index.
    """

    def __init__(self, problems: Sequence[Problem], indices: Any):
        self.problems = problems
        self.indices = np.asarray(indices, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.indices)

    @overload
    def __getitem__(self, index: int) -> Problem: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Problem]: ...
    def __getitem__(self, index: int | slice) -> Problem | Sequence[Problem]:
        if isinstance(index, slice):
            return ProblemView(self.problems, self.indices[index])
        return self.problems[int(self.indices[index])]


class StoredProblems(Sequence[Problem]):
    """The problems of JSON Lines files, each read when it is asked for.

    It takes 40 bytes for each problem, whatever the problem's own size.

    Args:
        paths: the files, read in this order.
        to_problem: makes a problem of a row's place and the row.

    Raises:
        DataError: a row cannot be used. All are looked at.
    """

    def __init__(self, paths: Sequence[Path], to_problem: Callable[[str, Any], Problem]):
        self.paths = list(paths)
        self._to_problem = to_problem
        self._names: dict[int, str] = {}  # of problems that are not named by their rows
        places, keys, questions = array("q"), array("Q"), array("Q")
        for number, path in enumerate(self.paths):
            for offset, size, row_number, where, row in line_rows(path):
                problem = to_problem(where, row)
                places.extend((number, offset, size, row_number))
                keys.append(key_of(problem.id))
                questions.append(key_of(problem.question))
        self._places = np.array(places).reshape(-1, _COLUMNS)
        self._keys = np.array(keys)
        self.num_questions = len(np.unique(np.array(questions)))  # different ones

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> Problem: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Problem]: ...
    def __getitem__(self, index: int | slice) -> Problem | Sequence[Problem]:
        if isinstance(index, slice):
            return ProblemView(self, np.arange(len(self))[index])
        place = range(len(self))[index]
        number, offset, size, row_number = self._places[place].tolist()
        path = self.paths[number]
        where, row = read_line(path, read_at(path, offset, size), row_number)
        problem = self._to_problem(where, row)
        return replace(problem, id=self._names[place]) if place in self._names else problem

    def name_apart(self, distinct: Callable[[list[Problem]], list[Problem]]) -> None:
        """Gives problems of equal ids names of their own.

        Args:
            distinct: makes the names of some problems distinct.
        """
        _, first, counts = np.unique(self._keys, return_inverse=True, return_counts=True)
        alike = np.flatnonzero(counts[first] > 1).tolist()
        before = [self[index] for index in alike]
        for index, problem, named in zip(alike, before, distinct(before), strict=True):
            if named.id != problem.id:
                self._names[index] = named.id
