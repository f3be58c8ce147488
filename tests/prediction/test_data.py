"""Which problems are left."""

import numpy as np

from lightning_ltts.data.problems import key_of
from lightning_ltts.data.word_problems import WordProblems
from lightning_ltts.prediction.data import PredictionData


def test_what_was_predicted_before_is_left_out() -> None:
    """Passes stay those of one process that predicts all; what it makes again is not written."""
    data = PredictionData(WordProblems("test", 9))
    data.setup("predict")
    whole = list(data.passes(3))
    assert [len(some) for some in whole] == [3, 3, 3]
    assert not any(map(data.is_finished, data.problems))
    finished = [*whole[0], whole[1][2]]
    data.leave_out(np.sort(np.array([key_of(p.id) for p in finished], np.uint64)))
    assert [p for p in data.problems if data.is_finished(p)] == [
        p for p in data.problems if p in finished
    ]
    assert list(data.passes(3)) == whole[1:]
    data.setup("predict")
    assert list(data.passes(3)) == whole
