"""Which of some problems a model was trained on: what it says to them tells little of others."""

from collections.abc import Sequence
from pathlib import Path

from lightning_ltts.data.problem_data import training_problems
from lightning_ltts.data.problems import Problem, say_once
from lightning_ltts.models.checkpoints import locate
from lightning_ltts.models.weights import read_pickle

REASONER, LATENT_RM = "reasoner", "LatentRM"
_DATA = {
    REASONER: "ProblemData",
    LATENT_RM: "MiningData",
}  # where their training problems come from
_INSTEAD = {
    "mine": "mine other problems, or a share of them (lightning_ltts.data.share.ProblemShare)",
    "predict": "report on other problems",
}


def say_trained_on(
    model: str | Path, problems: Sequence[Problem], purpose: str, kind: str = REASONER
) -> None:
    """Says once how many problems a reasoner or LatentRM was trained on.

    An imported model does not tell, nor a checkpoint of an earlier version.

    Args:
        model: its checkpoint.
        problems: those that are to be mined or predicted.
        purpose: "mine" or "predict".
        kind: `REASONER` or `LATENT_RM`.
    """
    path = locate(model)
    own = path.is_file() and path.suffix == ".ckpt"
    seen = training_problems(read_pickle(path), _DATA[kind]) if own else None
    if seen is None:
        return
    common = seen.among(problems)
    count = len(common.same_question) + len(common.same_computation)
    if count:
        say_once(
            f"the {kind} was trained on {count} of the {len(problems)} problems to {purpose} "
            f"({len(common.same_question)} by their question, {len(common.same_computation)} by "
            f"numbers and operations), and is right on them more often than on others; "
            f"{_INSTEAD[purpose]}"
        )
