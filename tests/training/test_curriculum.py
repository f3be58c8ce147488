import pytest

from lightning_ltts.errors import ConfigError
from lightning_ltts.training.curriculum import Curriculum


def test_schedule_table() -> None:
    curriculum = Curriculum(cot_epochs=2, stage_epochs=(1, 2), thoughts_per_step=2)
    table = [(s.index, s.num_thoughts, s.skipped_steps) for s in map(curriculum.stage_at, range(6))]
    assert table == [(0, 0, 0), (0, 0, 0), (1, 2, 1), (2, 4, None), (2, 4, None), (2, 4, None)]
    assert curriculum.total_epochs == 5
    assert curriculum.last.num_thoughts == 4


def test_last_stage_can_keep_steps() -> None:
    assert Curriculum(0, (1, 1), drop_all_steps=False).stage_at(9).skipped_steps == 2
    assert Curriculum(0, (1,)).stage_at(0).index == 1


def test_published_schedule() -> None:
    """c = 2, three epochs a stage, resumed after the chain of thought; then 6 thoughts with all steps gone."""
    curriculum = Curriculum(0, (3, 3, 3), thoughts_per_step=2, final_epochs=13)
    table = [
        (s.index, s.num_thoughts, s.skipped_steps)
        for s in map(curriculum.stage_at, range(0, 13, 3))
    ]
    assert table == [(1, 2, 1), (2, 4, 2), (3, 6, 3), (4, 6, None), (4, 6, None)]
    assert curriculum.total_epochs == 22
    assert curriculum.last == curriculum.stage_at(9)


def test_without_thoughts() -> None:
    """Explicit chain of thought, and an answer at once: the baselines."""
    explicit, none = (Curriculum(3, (), drop_all_steps=drop).last for drop in (False, True))
    assert (explicit.num_thoughts, explicit.skipped_steps) == (0, 0)
    assert (none.num_thoughts, none.skipped_steps) == (0, None)


@pytest.mark.parametrize(
    "options",
    [
        {"cot_epochs": -1},
        {"cot_epochs": 0, "stage_epochs": ()},
        {"stage_epochs": (0,)},
        {"thoughts_per_step": 0},
    ],
)
def test_schedules_that_make_no_sense(options: dict) -> None:
    with pytest.raises(ConfigError, match=r"(?i)curriculum"):
        Curriculum(**options)
