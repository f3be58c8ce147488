"""What mining writes to TensorBoard: how it goes, its labels, and some of its thoughts."""

import torch
from torch.utils.tensorboard import SummaryWriter

from lightning_ltts.data.answers import format_answer
from lightning_ltts.data.problems import Problem
from lightning_ltts.mining.store import TrajectoryStore
from lightning_ltts.models.latent_lm import LatentReasoner
from lightning_ltts.models.latent_rm import thought_mask

MAX_THOUGHTS = 2000  # in the embedding projector, which the browser has to hold


def log_mining(writer: SummaryWriter, split: str, counts: dict[str, float]) -> None:
    """How mining goes, from the counts over all questions that were mined so far; the step is their number."""
    values = {
        "accuracy": counts["right"] / counts["trajectories"],
        "mixed_questions": counts["mixed"] / counts["questions"],
        "questions_per_second": counts["questions"] / counts["seconds"],
        "token_forward_ratio": counts["token_forwards"] / max(counts["tree_nodes"], 1),
    }
    for name, value in values.items():
        writer.add_scalar(f"mine/{split}/{name}", value, int(counts["questions"]))


def log_store(writer: SummaryWriter, split: str, store: TrajectoryStore) -> None:
    """Statistics and a histogram of the thought labels in a finished store, each thought that a trajectory has once."""
    writer.add_scalar(f"store/{split}/questions", len(store), 0)
    if not len(store):
        return
    examples = [store[i] for i in range(len(store))]
    labels = torch.cat([e.labels[thought_mask(e.thought_counts, e.labels.shape[1]) > 0] for e in examples])
    correct = torch.stack([e.labels[:, -1] for e in examples])
    values = {"mixed_questions": ((correct.amax(1) > 0) & (correct.amin(1) < 1)).float().mean()}
    if len(labels):
        values |= {"positive_labels": (labels == 1).float().mean(), "negative_labels": (labels == 0).float().mean()}
        values["mean_label"] = labels.mean()
        writer.add_histogram(f"store/{split}/labels", labels, 0)
    for name, value in values.items():
        writer.add_scalar(f"store/{split}/{name}", value, 0)
    writer.flush()


def log_thoughts(
    writer: SummaryWriter, split: str, store: TrajectoryStore, reasoner: LatentReasoner, problems: list[Problem]
) -> None:
    """Thoughts of evenly spaced questions for the embedding projector, `MAX_THOUGHTS` at most.

    Args:
        writer: where to.
        split: name of the store.
        store: the mined trajectories.
        reasoner: it reads the answers.
        problems: those the store was mined from, in their order.
    """
    if not len(store):
        return
    per_question = store[0].labels.numel()
    number = min(len(store), max(MAX_THOUGHTS // per_question, 1))
    vectors, metadata = [], []
    for i in [k * len(store) // number for k in range(number)]:
        example, question = store[i], problems[store.question_index(i)].id
        for sample, count in enumerate(example.thought_counts.tolist()):
            answer = format_answer(reasoner.read_answer(example.answers[sample]))
            right = "right" if example.labels[sample, -1] == 1 else "wrong"
            for step in range(count):
                vectors.append(example.thoughts[sample, step])
                # the file is tab-separated, a line for each thought
                metadata.append([" ".join(str(x).split()) for x in (question, step + 1, sample, answer, right)])
    if vectors:
        header = ["question", "step", "sample", "answer", "right or wrong"]
        writer.add_embedding(
            torch.stack(vectors[:MAX_THOUGHTS]), metadata[:MAX_THOUGHTS], tag=f"thoughts/{split}", metadata_header=header
        )
