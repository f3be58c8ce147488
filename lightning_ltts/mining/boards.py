"""What mining writes to loggers: how it goes, its labels, and some of its thoughts."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lightning_ltts.data.answers import format_answer
from lightning_ltts.data.problems import Problem
from lightning_ltts.mining.store import TrajectoryStore
from lightning_ltts.models.latent_lm import LatentReasoner
from lightning_ltts.monitoring.boards import Board
from lightning_ltts.voting.votes import mixed_questions

MAX_THOUGHTS = 2000  # in the embedding projector, which the browser has to hold


def log_mining(board: Board, split: str, counts: dict[str, float]) -> None:
    """How mining goes, from counts over all questions mined so far; the step is their number."""
    values = {
        "accuracy": counts["right"] / counts["trajectories"],
        "mixed_questions": counts["mixed"] / counts["questions"],
        "questions_per_second": counts["questions"] / counts["seconds"],
        "token_forward_ratio": counts["token_forwards"] / max(counts["tree_nodes"], 1),
    }
    tagged = {f"mine/{split}/{name}": value for name, value in values.items()}
    board.scalars(tagged, int(counts["questions"]))


def log_store(board: Board, split: str, store: TrajectoryStore) -> None:
    """Statistics and a histogram of the thought labels in a finished store.

    Every thought that a trajectory has counts once.
    """
    values = {"questions": float(len(store))}
    if not len(store):
        board.table(f"store/{split}", {f"store/{split}/questions": 0.0})
        return
    parts = list(map(_labels_of, store.columns("labels", "thought_counts")))
    labels, mixed = (torch.cat([part[i] for part in parts]) for i in range(2))
    values["mixed_questions"] = float(mixed.float().mean())
    if len(labels):
        values |= {
            "positive_labels": float((labels == 1).float().mean()),
            "negative_labels": float((labels == 0).float().mean()),
            "mean_label": float(labels.mean()),
        }
        board.histogram(f"store/{split}/labels", labels)
    tagged = {f"store/{split}/{name}": value for name, value in values.items()}
    board.table(f"store/{split}", tagged)
    board.flush()


def _labels_of(shard: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The labels of the thoughts that there are, and which questions (Q,) have a contrast."""
    labels, counts = shard["labels"], shard["thought_counts"]
    there = torch.arange(labels.shape[-1]) < counts[..., None]
    return labels[there], mixed_questions(labels[..., -1])


def log_thoughts(
    board: Board,
    split: str,
    store: TrajectoryStore,
    reasoner: LatentReasoner,
    problems: Sequence[Problem],
) -> None:
    """Thoughts of evenly spaced questions for the embedding projector, `MAX_THOUGHTS` at most.

    Args:
        board: where to.
        split: name of the store.
        store: the mined trajectories.
        reasoner: it reads the answers.
        problems: those the store was mined from, in their order.
    """
    if not len(store):
        return
    number = min(len(store), max(MAX_THOUGHTS // store[0].labels.numel(), 1))
    vectors, metadata = [], []
    for mined in store.in_order(k * len(store) // number for k in range(number)):
        question, samples = problems[int(mined.question_index)].id, mined.trajectories
        for sample, count in enumerate(samples.thought_counts[0].tolist()):
            answer = format_answer(reasoner.read_answer(samples.answer_ids[0, sample]))
            right = "right" if mined.correct[0, sample] == 1 else "wrong"
            for step in range(count):
                vectors.append(samples.thoughts[0, sample, step].clone())
                row = (question, step + 1, sample, answer, right)
                # the file is tab-separated, a line for each thought
                metadata.append([" ".join(str(x).split()) for x in row])
    if vectors:
        columns = ["question", "step", "sample", "answer", "right or wrong"]
        some = torch.stack(vectors[:MAX_THOUGHTS])
        board.embedding(f"thoughts/{split}", some, metadata[:MAX_THOUGHTS], columns)
