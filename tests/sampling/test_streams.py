from lightning_ltts.sampling.streams import Stream


def test_numbers_are_those_of_stored_trajectories() -> None:
    """A number that changes changes every trajectory drawn with it; two equal ones share draws."""
    assert {stream.name: stream.value for stream in Stream} == {
        "NOISE": 1,
        "DROPOUT": 2,
        "COMPLETION": 3,
        "BEAM": 2**40 + 4,
        "ANSWER_DROPOUT": 5,
        "HELD_DROPOUT": 6,
        "TRAINING_STAGE": 7,
        "TRAINING": 2**40 + 8,
        "TRAINING_SHARE": 9,
        "TOKEN": 10,
        "SINGULAR_VALUES": 11,
        "REPLACEMENT": 2**40 + 12,
    }
    assert len(Stream) == len(Stream.__members__)  # an alias would be a number taken twice


def test_streams_of_a_question_are_no_number_of_a_sample() -> None:
    """A sample's number is folded into its question's key where such a stream is: they must differ."""
    for stream in (Stream.BEAM, Stream.TRAINING, Stream.REPLACEMENT):
        assert stream > 2**32
