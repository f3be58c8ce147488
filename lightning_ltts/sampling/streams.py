"""The number of every random stream, so that no two uses of randomness can draw the same words."""

from enum import IntEnum


class Stream(IntEnum):
    """What a draw is for; the first coordinate that is folded into a key, see `keyed_random.fold`.

    The numbers are part of every stored trajectory: changing one changes the trajectories. A new
    use of randomness takes the next free number. Streams that are folded into the key of a question
    lie beyond the numbers of samples, which are folded into it, too.
    """

    NOISE = 1  # added to a thought, by trajectory and step
    DROPOUT = 2  # masks of a pass that reads the prompt or makes a thought, by trajectory and step
    COMPLETION = 3  # names of mining's completions, by trajectory, step and copy
    BEAM = 2**40 + 4  # names of beam search's candidates, by question, step and slot
    ANSWER_DROPOUT = 5  # masks of a pass that decodes the answer, by trajectory and position
    HELD_DROPOUT = 6  # masks that a trajectory holds throughout, by trajectory
    TRAINING_STAGE = 7  # which stage of COCONUT's curriculum a batch is trained in, by step
    TRAINING = 2**40 + 8  # names of trajectories in a reasoner's training, by problem and epoch
    TOKEN = 10  # which token of an answer is drawn, by trajectory and position
    TRAINING_SHARE = 9  # which batches a reasoner trains on under its sampler, by step
    SINGULAR_VALUES = 11  # factors that singular values are scaled by, by trajectory and block
    REPLACEMENT = (
        2**40 + 12
    )  # what a thought is replaced by, by question (and step, where it is noise)
