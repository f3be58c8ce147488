"""Training a CODI reasoner: a student that thinks learns from itself as a teacher that writes (arXiv 2502.21074)."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import DynamicCache

from lightning_ltts.data.problems import Problem
from lightning_ltts.errors import ConfigError, DataError
from lightning_ltts.models.latent_lm import SpecChanges, left_pad, position_ids
from lightning_ltts.training.reasoner import ReasonerModule
from lightning_ltts.training.sequences import Encoded
from lightning_ltts.training.start import Start


class CodiModule(ReasonerModule):
    """A CODI reasoner, trained by self-distillation in one stage.

    The teacher reads question, steps and answer; the student question, thoughts and answer. Both have the same weights. At the
    token before the answer, the student's hidden states are drawn to the teacher's. The loss is (section 3 of the paper)

        CE(student's answer) + distill_factor x distillation + teacher_factor x CE(teacher's steps and answer).

    Args:
        start: a pretrained model, or a tokenizer and a backbone for random weights.
        num_thoughts: T.
        max_answer_tokens: tokens decoded after the last thought.
        spec: further fields of the reasoner's specification, for instance `answer_marker: "The answer is:"`.
        thought_head: options of the projector.
        distill_factor: weight of the distillation (1 for GPT-2, 20 for Llama in the published recipes).
        teacher_factor: weight of the teacher's own loss.
        drop_last_step: leave the last step out of the teacher's text, since it gives the answer away.
        lr: peak learning rate of AdamW.
        weight_decay: of AdamW.
        warmup: share of all steps in which the learning rate rises.
        schedule: what it does after that.
    """

    def __init__(
        self,
        start: Start,
        num_thoughts: int = 6,
        max_answer_tokens: int = 8,
        spec: SpecChanges | None = None,
        thought_head: dict[str, float] | None = None,
        distill_factor: float = 1.0,
        teacher_factor: float = 1.0,
        drop_last_step: bool = True,
        lr: float = 2e-3,
        weight_decay: float = 0.01,
        warmup: float = 0.05,
        schedule: Literal["cosine", "constant"] = "cosine",
    ):
        if num_thoughts < 1:
            raise ConfigError(f"model.init_args.num_thoughts={num_thoughts} must be at least 1")
        options = {"num_thoughts": num_thoughts, "max_answer_tokens": max_answer_tokens, "thought_head": thought_head or {}}
        super().__init__(start.build("codi", {**options, **(spec or {})}), start, lr, weight_decay, warmup, schedule)
        self.save_hyperparameters()
        self.distill_factor = distill_factor
        self.teacher_factor = teacher_factor
        self.drop_last_step = drop_last_step

    def on_fit_start(self) -> None:
        """Says what will be trained, and refuses problems without steps, from which no teacher can learn.

        Raises:
            DataError: such a problem.
        """
        super().on_fit_start()
        problems: list[Problem] = self.trainer.datamodule.problems["train"]  # type: ignore[attr-defined]
        bare = [problem for problem in problems if not problem.steps]
        if bare:
            raise DataError(f"{bare[0].source} has no steps for the teacher to write ({len(bare)} problems have none)")

    def positions(self, encoded: Encoded) -> int:
        """Of the longer of the student's and the teacher's sequence."""
        student = len(encoded.prompt) + 1 + self.num_thoughts + len(encoded.answer)
        return max(student, len(self._teacher(encoded)[0]))

    def loss_of(self, batch: list[Problem]) -> Tensor:
        """The three losses, weighted."""
        parts = self.losses(batch)
        for name, part in parts.items():
            self.log(f"train/{name}", part, batch_size=len(batch))
        return parts["answer"] + self.distill_factor * parts["distillation"] + self.teacher_factor * parts["teacher"]

    def losses(self, problems: list[Problem]) -> dict[str, Tensor]:
        """`answer`, `distillation` and `teacher`, unweighted."""
        encoded = [self.encode(problem) for problem in problems]
        answer, student = self._student_pass(encoded)
        teacher, target = self._teacher_pass(encoded)
        return {"answer": answer, "distillation": distillation(student, target), "teacher": teacher}

    def _student_pass(self, encoded: list[Encoded]) -> tuple[Tensor, Tensor]:
        """Cross-entropy of the answers, and all layers' hidden states (layers + 1, B, d) at the token before them."""
        reasoner, device = self.reasoner, self.device
        ids, mask = (x.to(device) for x in left_pad([e.prompt for e in encoded], reasoner.pad_id))
        inputs, cache = reasoner.embed(ids), DynamicCache(config=reasoner.backbone.config)
        positions = position_ids(mask)
        for _ in range(self.num_thoughts):
            hidden = reasoner.read(inputs, positions, cache, mask)
            inputs = reasoner.thought_head(hidden[:, -1:])
            positions = positions[:, -1:] + 1
            mask = F.pad(mask, (0, 1), value=1)
        width = max(len(e.answer) for e in encoded)
        labels = torch.tensor([e.answer + [-100] * (width - len(e.answer)) for e in encoded], device=device)
        text = [[reasoner.end_id, *e.answer[:-1], *[reasoner.pad_id] * (width - len(e.answer))] for e in encoded]
        inputs = torch.cat([inputs, reasoner.embed(torch.tensor(text, device=device)).to(inputs.dtype)], dim=1)
        positions = torch.cat([positions, positions[:, -1:] + torch.arange(1, width + 1, device=device)], dim=1)
        states = self._states(inputs, positions, F.pad(mask, (0, width), value=1), cache)
        loss = F.cross_entropy(reasoner.logits(states[-1][:, -width:]).flatten(0, 1).float(), labels.flatten())
        # inputs are the last thought, the end token, the marker, the answer
        return loss, states[:, :, 1 + len(encoded[0].marker)]

    def _teacher_pass(self, encoded: list[Encoded]) -> tuple[Tensor, Tensor]:
        """Likewise for question, steps and answer; the cross-entropy is that of steps and answer."""
        reasoner, device = self.reasoner, self.device
        rows, counts = zip(*map(self._teacher, encoded), strict=True)
        ids, mask = (x.to(device) for x in left_pad(rows, reasoner.pad_id))
        states = self._states(reasoner.embed(ids), position_ids(mask), mask, None)
        width = ids.shape[1]
        written = torch.arange(width, device=device) >= width - torch.tensor(counts, device=device)[:, None]
        labels = ids.where(written, -100)[:, 1:]
        loss = F.cross_entropy(reasoner.logits(states[-1][:, :-1]).flatten(0, 1).float(), labels.flatten())
        # prompts are padded on the left, so that what follows the marker is counted from the end
        before = torch.tensor([width - len(e.answer) + len(e.marker) - 1 for e in encoded], device=device)
        return loss, states[:, torch.arange(len(encoded), device=device), before]

    def _teacher(self, encoded: Encoded) -> tuple[list[int], int]:
        """The teacher's sequence, and how many of its tokens it is to write."""
        steps = encoded.steps[:-1] if self.drop_last_step else encoded.steps
        text = [*(token for step in steps for token in step), *encoded.answer]
        prompt = encoded.prompt if self.reasoner.start_id is None else encoded.prompt[:-1]
        return [*prompt, *text], len(text)

    def _states(self, inputs: Tensor, positions: Tensor, mask: Tensor, cache: DynamicCache | None) -> Tensor:
        """Hidden states of all layers (layers + 1, B, L, d), the embeddings' first."""
        output = self.reasoner.backbone.base_model(
            inputs_embeds=inputs,
            position_ids=positions,
            attention_mask=mask,
            past_key_values=cache,
            use_cache=cache is not None,
            output_hidden_states=True,
        )
        return torch.stack(output.hidden_states)


def distillation(student: Tensor, teacher: Tensor) -> Tensor:
    """Smooth L1 between hidden states (layers + 1, B, d), in units of the teacher's standard deviation in each layer.

    The mean is over layers; the teacher is not drawn to the student (section 3 of the paper).
    """
    teacher = teacher.detach().float()
    losses = F.smooth_l1_loss(student.float(), teacher, reduction="none").mean((1, 2))
    return (losses / teacher.std((1, 2)).clamp(min=1e-6)).mean()
