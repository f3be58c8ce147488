"""Mined questions: what mining makes, a store keeps and LatentRM training reads."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_ltts.models.trajectories import Trajectories
from lightning_ltts.voting.votes import mixed_questions


@dataclass(frozen=True)
class MinedQuestions:
    """Q questions with N labelled trajectories of each, and their greedy trajectories."""

    input_ids: Tensor  # (Q, L): prompts, left padded
    attention_mask: Tensor  # (Q, L)
    trajectories: Trajectories  # (Q, N, ...)
    labels: (
        Tensor  # (Q, N, T): thought labels; from the last thought on, whether the answer is right
    )
    votes: Tensor  # (Q, N): equal where samples of a question gave the same answer; -1 gave none
    reference: Trajectories  # (Q, 1, ...): the greedy ones
    question_index: Tensor  # (Q,): index in the list of problems that was mined

    def __len__(self) -> int:
        return len(self.votes)

    @property
    def correct(self) -> Tensor:
        """(Q, N): 1 where a trajectory's answer is right, else 0."""
        return self.labels[..., -1]

    @property
    def mixed(self) -> Tensor:
        """(Q,) bool: questions with both right and wrong trajectories, the ones with a contrast."""
        return mixed_questions(self.correct)

    @property
    def prompts(self) -> list[list[int]]:
        """The prompts' token ids without padding."""
        masked = zip(self.input_ids, self.attention_mask.bool(), strict=True)
        return [ids[real].tolist() for ids, real in masked]

    def select(self, which: Tensor) -> "MinedQuestions":
        """The questions where `which` (Q,) is true."""
        return MinedQuestions(
            self.input_ids[which],
            self.attention_mask[which],
            self.trajectories.questions(which),
            self.labels[which],
            self.votes[which],
            self.reference.questions(which),
            self.question_index[which],
        )

    @classmethod
    def join(cls, parts: "Sequence[MinedQuestions]") -> "MinedQuestions":
        """The questions of all parts, one after the other; prompts are padded anew, with 0."""
        width = max(part.input_ids.shape[1] for part in parts)

        def padded(tensors: list[Tensor]) -> Tensor:
            return torch.cat([F.pad(x, (width - x.shape[1], 0)) for x in tensors])

        return cls(
            padded([part.input_ids for part in parts]),
            padded([part.attention_mask for part in parts]),
            Trajectories.join([part.trajectories for part in parts]),
            torch.cat([part.labels for part in parts]),
            torch.cat([part.votes for part in parts]),
            Trajectories.join([part.reference for part in parts]),
            torch.cat([part.question_index for part in parts]),
        )

    def without_clean_thoughts(self) -> "MinedQuestions":
        """The same without thoughts as they were before noise, which double the size."""
        return replace(self, trajectories=replace(self.trajectories, clean_thoughts=None))

    def tensors(self) -> dict[str, Tensor]:
        """The same as a dictionary of tensors, which Lightning can move and convert.

        Stores hold all but the prompts by the same names. Where thoughts before noise are not
        kept, `clean` is (Q, N, 0, d).
        """
        samples, greedy = self.trajectories, self.reference.map(lambda x: x[:, 0])
        clean = samples.clean_thoughts
        return {
            "input_ids": self.input_ids,
            "attention_mask": self.attention_mask,
            "question_index": self.question_index,
            "thoughts": samples.thoughts,
            "clean": samples.thoughts[:, :, :0] if clean is None else clean,
            "thought_counts": samples.thought_counts,
            "labels": self.labels,
            "votes": self.votes,
            "answers": samples.answer_ids,
            "reference": greedy.thoughts,
            "reference_counts": greedy.thought_counts,
            "reference_answers": greedy.answer_ids,
        }

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> "MinedQuestions":
        """What `tensors` made."""
        clean = tensors["clean"]
        samples = Trajectories(
            tensors["thoughts"],
            tensors["thought_counts"],
            tensors["answers"],
            clean if clean.shape[2] else None,
        )
        greedy = Trajectories(
            tensors["reference"], tensors["reference_counts"], tensors["reference_answers"]
        )
        return cls(
            tensors["input_ids"],
            tensors["attention_mask"],
            samples,
            tensors["labels"],
            tensors["votes"],
            greedy.map(lambda x: x[:, None]),
            tensors["question_index"],
        )
