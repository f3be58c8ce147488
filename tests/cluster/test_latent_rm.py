"""A LatentRM that two processes train says what a user needs, and nothing meant for programmers."""

import re
from pathlib import Path

import pytest

from tests.cluster.commands import LTTS, TWO, finish, start

pytestmark = pytest.mark.processes


def test_no_advice_of_libraries(mine_command: list[str], tmp_path: Path) -> None:
    """Lightning would ask for `sync_dist=True`, and warn of a hook that we mean to override."""
    options = ["trainer.max_epochs=1", "data.init_args.batch_size=8", "model.init_args.reads_answer=false",
               "model.init_args.answer_prediction=0"]  # fmt: skip
    said = finish(start(tmp_path, [*LTTS, "fit", *mine_command[1:], *TWO, *options]))
    assert re.search(r"best.ckpt, val/weighted_vote [\d.]+", said), said
    for advice in ("Warning", "warn(", "sync_dist", "on_after_batch_transfer"):
        assert advice not in said, said
