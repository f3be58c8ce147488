"""Which problems to mine the reasoner was trained on: what it says to them tells little of others."""

from collections.abc import Sequence
from pathlib import Path

from lightning_ltts.data.problem_data import training_problems
from lightning_ltts.data.problems import Problem, say_once
from lightning_ltts.models.checkpoints import locate
from lightning_ltts.models.weights import read_pickle


def say_trained_on(reasoner: str | Path, problems: Sequence[Problem]) -> None:
    """Says once how many of the problems to mine the reasoner was trained on.

    An imported model does not tell, nor a checkpoint of an earlier version.
    """
    path = locate(reasoner)
    own = path.is_file() and path.suffix == ".ckpt"
    seen = training_problems(read_pickle(path)) if own else None
    if seen is None:
        return
    common = seen.among(problems)
    count = len(common.same_question) + len(common.same_computation)
    if count:
        say_once(
            f"the reasoner was trained on {count} of the {len(problems)} problems to mine "
            f"({len(common.same_question)} by their question, {len(common.same_computation)} by "
            "numbers and operations), and is right on them more often than on others; mine other "
            "problems, or a share of them (lightning_ltts.data.share.ProblemShare)"
        )
