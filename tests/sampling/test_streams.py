from lightning_ltts.sampling.streams import Stream


def test_numbers_are_those_of_stored_trajectories() -> None:
    """A number that changes changes every trajectory drawn with it; two equal ones share draws."""
    assert {stream.name: stream.value for stream in Stream} == {
        "NOISE": 1,
        "DROPOUT": 2,
        "COMPLETION": 3,
        "BEAM": 4,
        "ANSWER_DROPOUT": 5,
        "HELD_DROPOUT": 6,
        "TRAINING_STAGE": 7,
    }
    assert len(Stream) == len(Stream.__members__)  # an alias would be a number taken twice
