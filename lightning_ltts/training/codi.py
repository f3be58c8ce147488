"""Training a CODI reasoner: a student that thinks learns from itself as a teacher that writes (arXiv 2502.21074)."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import DynamicCache

from lightning_ltts.data.problems import Problem
from lightning_ltts.data.ranges import MAX_TOKENS, require_number, require_whole
from lightning_ltts.models.checkpoints import ENTRY
from lightning_ltts.models.latent_lm import SpecChanges, left_pad, position_ids
from lightning_ltts.training.reasoner import ReasonerModule
from lightning_ltts.training.sequences import IGNORED, AfterThoughts, Encoded, think
from lightning_ltts.training.start import Start
from lightning_ltts.training.step_supervision import StepDecoder, step_loss


class CodiModule(ReasonerModule):
    """A CODI reasoner, trained by self-distillation in one stage.

    The teacher reads question, steps and answer; the student question, thoughts and answer. Both
    have the same weights. At the token before the answer, the student's hidden states are drawn to
    the teacher's. The loss is (section 3 of the paper)

        CE(student's answer) + distill_factor x distillation
        + teacher_factor x CE(teacher's steps and answer).

    Args:
        start: a pretrained model, or a tokenizer and a backbone for random weights.
        num_thoughts: T, thoughts before the answer.
        max_answer_tokens: tokens decoded after the last thought.
        spec: further fields of the reasoner's specification, for instance
            `answer_marker: "The answer is:"`.
        thought_head: options of the projector.
        distill_factor: weight of the distillation (1 for GPT-2, 20 for Llama in the published
            recipes).
        teacher_factor: weight of the teacher's own loss.
        drop_last_step: leave the last step out of the teacher's text, since it gives the answer
            away.
        step_factor: weight of step supervision, one step from each thought, see `StepDecoder`; 0 is
            CODI's own recipe.
        end_steps: whether supervised steps end with the end-of-sequence token, as published; to
            read thoughts out with a tokenizer of words, they must.
        optimization: learning rate and so on, as `ReasonerModule` has them.

    Raises:
        ConfigError: an option that cannot be, or `spec` contradicts the others.
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
        step_factor: float = 0.0,
        end_steps: bool = False,
        **optimization: Any,
    ):
        require_whole("CodiModule", "num_thoughts", num_thoughts, 1, MAX_TOKENS)
        factors = {
            "distill_factor": distill_factor,
            "teacher_factor": teacher_factor,
            "step_factor": step_factor,
        }
        for name, factor in factors.items():
            require_number("CodiModule", name, factor)
        fixed: dict[str, Any] = {
            "num_thoughts": num_thoughts,
            "max_answer_tokens": max_answer_tokens,
            "thought_head": thought_head or {},
        }
        super().__init__(start.build("codi", fixed, spec), start, **optimization)
        self.distill_factor = distill_factor
        self.teacher_factor = teacher_factor
        self.drop_last_step = drop_last_step
        self.step_factor = step_factor
        self.step_decoder = StepDecoder(self.reasoner, 1, end_steps) if step_factor else None

    def on_fit_start(self) -> None:
        """Says what will be trained, and refuses problems without steps, from which no teacher can learn.

        Raises:
            DataError: such a problem.
        """
        super().on_fit_start()
        self.require_steps("for the teacher to write")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds what the step decoder is."""
        super().on_save_checkpoint(checkpoint)
        if self.step_decoder is not None:
            checkpoint[ENTRY]["step_decoder"] = self.step_decoder.settings()

    def longest_sequence(self, encoded: Encoded) -> int:
        """Positions of the longer of the student's and the teacher's sequence."""
        student = len(encoded.prompt) + 1 + self.num_thoughts + len(encoded.answer)
        return max(student, len(self._teacher(encoded)[0]))

    def loss_of(self, batch: list[Problem]) -> Tensor:
        """The losses, weighted."""
        parts = self.losses(batch)
        for name, part in parts.items():
            self.log(f"train/{name}", part, batch_size=len(batch))
        distilled = self.distill_factor * parts["distillation"]
        loss = parts["answer"] + distilled + self.teacher_factor * parts["teacher"]
        return loss + self.step_factor * parts["steps"] if "steps" in parts else loss

    def losses(self, problems: list[Problem]) -> dict[str, Tensor]:
        """The losses unweighted: `answer`, `distillation`, `teacher`, and `steps` if supervised."""
        encoded = [self.encode(problem) for problem in problems]
        prompts, texts = [e.prompt for e in encoded], [e.answer for e in encoded]
        after = think(self.reasoner, prompts, texts, self.num_thoughts, self.perturbation(problems))
        answer, student = self._student_pass(encoded, after)
        teacher, target = self._teacher_pass(encoded)
        parts = {
            "answer": answer,
            "distillation": distillation(student, target),
            "teacher": teacher,
        }
        if self.step_decoder is not None:
            parts["steps"] = step_loss(self.step_decoder, encoded, after.thoughts)
        return parts

    def _student_pass(self, encoded: list[Encoded], after: AfterThoughts) -> tuple[Tensor, Tensor]:
        """The student's cross-entropy of the answers, and its hidden states before them.

        The states (layers + 1, B, d) are those of all layers at the token before the answer.
        """
        with after.reading(self.reasoner):
            states = self._states(after.inputs, after.positions, after.mask, after.cache)
        # inputs are the last thought, the end token, the marker, the answer
        return after.loss(self.reasoner, states[-1]), states[:, :, 1 + len(encoded[0].marker)]

    def _teacher_pass(self, encoded: list[Encoded]) -> tuple[Tensor, Tensor]:
        """The teacher's cross-entropy of steps and answers, and its hidden states before the latter.

        The states (layers + 1, B, d) are those of all layers at the token before the answer.
        """
        reasoner, device = self.reasoner, self.device
        rows, counts = zip(*map(self._teacher, encoded), strict=True)
        ids, mask = (x.to(device) for x in left_pad(rows, reasoner.pad_id))
        states = self._states(reasoner.embed(ids), position_ids(mask), mask, None)
        width = ids.shape[1]
        written = (
            torch.arange(width, device=device)
            >= width - torch.tensor(counts, device=device)[:, None]
        )
        labels = ids.where(written, IGNORED)[:, 1:]
        logits = reasoner.logits(states[-1][:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten())
        # prompts are padded on the left, so that what follows the marker is counted from the end
        before = [width - len(e.answer) + len(e.marker) - 1 for e in encoded]
        everyone = torch.arange(len(encoded), device=device)
        return loss, states[:, everyone, torch.tensor(before, device=device)]

    def _teacher(self, encoded: Encoded) -> tuple[list[int], int]:
        """The teacher's sequence, and how many of its tokens it is to write."""
        text = encoded.text(last=-1 if self.drop_last_step else None)
        prompt = encoded.prompt if self.reasoner.start_id is None else encoded.prompt[:-1]
        return [*prompt, *text], len(text)

    def _states(
        self, inputs: Tensor, positions: Tensor, mask: Tensor, cache: DynamicCache | None
    ) -> Tensor:
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
    """Smooth L1 between hidden states (layers + 1, B, d), averaged over layers.

    In each layer the unit is the teacher's standard deviation. The teacher is not drawn to the
    student (section 3 of the paper).
    """
    teacher = teacher.detach().float()
    losses = F.smooth_l1_loss(student.float(), teacher, reduction="none").mean((1, 2))
    return (losses / teacher.std((1, 2)).clamp(min=1e-6)).mean()
