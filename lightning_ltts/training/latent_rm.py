"""Training a LatentRM on mined trajectories (arXiv 2510.07745, section 4)."""

from typing import Any, Literal

import lightning.pytorch as pl
import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import MeanMetric

from lightning_ltts.data.ranges import require_number
from lightning_ltts.errors import CheckpointError, ConfigError
from lightning_ltts.mining.questions import MinedQuestions
from lightning_ltts.models.checkpoints import ENTRY, describe, load_reasoner
from lightning_ltts.models.latent_rm import LatentRM
from lightning_ltts.models.scores import Scores
from lightning_ltts.training.attention import without_cudnn_attention
from lightning_ltts.training.losses import (
    bce_loss,
    contrastive_loss,
    pairwise_loss,
    right_answer_targets,
)
from lightning_ltts.training.optimization import adamw, check_rates, keep_given_rates
from lightning_ltts.voting import selection
from lightning_ltts.voting.per_question import SelectedAccuracy
from lightning_ltts.voting.selection import Majority, fitted_in
from lightning_ltts.voting.signals import Signal


class LatentRMModule(pl.LightningModule):
    """A LatentRM that starts from the reasoner, trained with a loss over a question's samples.

    Args:
        reasoner: checkpoint of the reasoner that the trajectories were mined with.
        loss: `contrastive` (normalised labels), `contrastive_unnormalized` (the paper's released
            code), `bce` or `pairwise`, in each step.
        reference: read the reasoner's greedy trajectory too, for comparison.
        reads_answer: also score the decoded answer; a trajectory's score is then the sum over its
            thoughts plus that of its answer.
        answer_prediction: weight of a further loss for a LatentRM that reads answers: to predict
            the right answer's tokens after each trajectory. A verifier that is also trained to
            solve learns sooner what to look for (Cobbe et al. 2021, arXiv 2110.14168, section 4.2).
            The score of an answer then includes the log-probability that it gives to its tokens.
        noise_free: read every thought also as it was before noise; needs a store mined with
            `keep_clean`.
        extra_layers: layers on top of the reasoner's.
        backbone: instead of the reasoner's, a Hugging Face configuration of any supported family
            and size, from random weights.
        trained: `all`, or `head` for a probe, a linear head on what the reasoner itself computes.
        hard_negatives: how many times a wrong trajectory counts that agrees with a wrong majority,
            and its question.
        lr: peak learning rate of AdamW.
        weight_decay: weight decay of AdamW.
        warmup: share of all steps in which the learning rate rises; it falls as a cosine after
            that.

    Raises:
        ConfigError: a number is out of range, the reasoner has no thoughts and its answers are not
            read, or an answer is to be predicted that is not read.
    """

    def __init__(
        self,
        reasoner: str,
        loss: Literal["contrastive", "contrastive_unnormalized", "bce", "pairwise"] = "contrastive",
        reference: bool = False,
        reads_answer: bool = False,
        answer_prediction: float = 0.0,
        noise_free: bool = False,
        extra_layers: int = 0,
        backbone: dict[str, Any] | None = None,
        trained: Literal["all", "head"] = "all",
        hard_negatives: float = 1.0,
        lr: float = 1e-3,
        weight_decay: float = 0.01,
        warmup: float = 0.1,
    ):
        super().__init__()
        self.save_hyperparameters()
        owner = type(self).__name__
        check_rates(owner, lr, weight_decay, warmup)
        require_number(owner, "hard_negatives", hard_negatives, 1)
        require_number(owner, "answer_prediction", answer_prediction, 0)
        if answer_prediction and not reads_answer:
            raise ConfigError(
                f"answer_prediction={answer_prediction} needs reads_answer=true: the right answer "
                "is predicted where an answer is read"
            )
        self.answer_prediction = answer_prediction
        self.loss_name = loss
        self.hard_negatives = hard_negatives
        self.lr = lr
        self.weight_decay = weight_decay
        self.warmup = warmup
        source = load_reasoner(reasoner)
        if source.spec.num_thoughts == 0 and not reads_answer:
            raise ConfigError(
                f"{reasoner} is of stage 0, without thoughts for a LatentRM to score; train it "
                "further, or score what it writes: reads_answer=true"
            )
        self.latent_rm = LatentRM.from_reasoner(
            source,
            extra_layers,
            backbone,
            reference,
            reads_answer,
            noise_free,
            answer_likelihood=answer_prediction > 0,
        ).float()  # a reasoner may be stored in half precision, where small steps change nothing
        self.latent_rm.backbone.requires_grad_(trained == "all")
        self.recall = MeanMetric(nan_strategy="ignore")
        # one metric for each selection, or for each candidate of the parameter that is fitted on validation
        self._kinds = selection.kinds_for((Signal.SCORE,))
        self.selected = torch.nn.ModuleList(
            [SelectedAccuracy(s) for kind in self._kinds for s in kind.variants()]
        )
        self.fitted: dict[str, float] = {}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Writes the LatentRM's description, with its reasoner and the fitted parameters."""
        checkpoint[ENTRY] = describe("latent_rm", self.latent_rm, fitted=dict(self.fitted))

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuses a checkpoint of another kind or reasoner.

        Raises:
            CheckpointError: saying which.
        """
        entry = checkpoint.get(ENTRY, {})
        if entry.get("kind") != "latent_rm":
            raise CheckpointError("the checkpoint given as ckpt_path is not a LatentRM's")
        if entry["spec"]["reasoner"] != self.latent_rm.spec.reasoner:
            raise CheckpointError(
                "the checkpoint given as ckpt_path was trained for another reasoner than this run's"
            )
        self.fitted = fitted_in(entry["spec"])  # until the next validation fits them again
        keep_given_rates(self, checkpoint)

    def configure_model(self) -> None:
        """Leaves all as it is; a strategy by which `ltts mine` divides the reasoner asks for it."""

    def on_fit_start(self) -> None:
        """Refuses trajectories of another reasoner than the one this LatentRM starts from.

        Raises:
            ConfigError: model and data name different reasoners.
        """
        without_cudnn_attention()
        for store in getattr(self.trainer.datamodule, "stores", {}).values():  # type: ignore[attr-defined]
            if store.manifest["settings"]["reasoner"] != self.latent_rm.spec.reasoner:
                raise ConfigError(
                    f"the store {store.folder} was mined with another reasoner than model.init_args.reasoner"
                )

    def on_after_batch_transfer(
        self, batch: dict[str, Tensor], dataloader_idx: int
    ) -> MinedQuestions:
        """Mined questions, from the tensors that Lightning has moved and converted."""
        return MinedQuestions.from_tensors(batch)

    def training_step(self, batch: MinedQuestions, batch_idx: int) -> Tensor:
        """The loss, and the margin between the mean scores of right and wrong trajectories."""
        scores, labels, correct = self.judge(batch), batch.labels.float(), batch.correct.float()
        weights = None
        if self.hard_negatives > 1:
            weights = hard_negative_weights(batch.votes, correct, self.hard_negatives)
        loss = 0.0 * scores.steps.sum()
        if scores.steps.shape[-1]:  # a reasoner that writes its steps has no thoughts
            loss = self._loss(scores.steps, labels, batch.trajectories.thought_mask, weights)
        if scores.answer is not None:
            loss = loss + self._loss(scores.answer[..., None], correct[..., None], None, weights)
        if self.answer_prediction:
            prediction = self._prediction_loss(scores, batch)
            self.log("train/answer_prediction", prediction, batch_size=len(batch))
            loss = loss + self.answer_prediction * prediction
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch))
        totals = scores.trajectory.detach().float()
        right = (totals * correct).sum() / correct.sum().clamp(min=1)
        wrong = (totals * (1 - correct)).sum() / (1 - correct).sum().clamp(min=1)
        self.log("train/reward_margin", right - wrong, batch_size=len(batch))
        return loss

    def _loss(
        self, scores: Tensor, labels: Tensor, mask: Tensor | None, weights: Tensor | None
    ) -> Tensor:
        if self.loss_name == "bce":
            return bce_loss(scores, labels, mask, weights)
        if self.loss_name == "pairwise":
            return pairwise_loss(scores, labels, mask, weights)
        return contrastive_loss(scores, labels, self.loss_name == "contrastive", mask, weights)

    def _prediction_loss(self, scores: Scores, batch: MinedQuestions) -> Tensor:
        """Mean cross-entropy over the tokens of right answers; 0 where no question has one."""
        assert scores.answer_states is not None, "a LatentRM that reads answers"
        answer_ids, pad_id = batch.trajectories.answer_ids, self.latent_rm.spec.pad_id
        targets, counted = right_answer_targets(answer_ids, batch.correct, pad_id)
        # a batch can be without a right trajectory, and every weight has to take part in it
        logits = self.latent_rm.token_logits(scores.answer_states[counted]).float()
        total = F.cross_entropy(logits, targets[counted], reduction="sum")
        return total / counted.sum().clamp(min=1)

    def judge(self, batch: MinedQuestions) -> Scores:
        """What the LatentRM says of a batch's trajectories."""
        return self.latent_rm.judge(
            batch.input_ids, batch.attention_mask, batch.trajectories, batch.reference
        )

    def validation_step(self, batch: MinedQuestions, batch_idx: int) -> None:
        """Recall@1 among mixed questions, and what each selection gets among all."""
        correct = batch.correct.float()
        # a device that has no question left takes part in the last step without one
        scores = self.judge(batch).trajectory.float() if len(batch) else correct
        best = correct.gather(1, scores.argmax(1, keepdim=True)).squeeze(1)
        self.recall.update(best, batch.mixed.float())
        for metric in self._selection_metrics():
            metric.update(batch.votes, correct, scores)

    def on_validation_epoch_end(self) -> None:
        """Logs and resets the metrics, and fits the parameters of those selections that have one."""
        values: dict[str, Any] = {}
        for kind in self._kinds:
            reached = [
                float(metric.compute())
                for metric in self._selection_metrics()
                if type(metric.selection) is kind
            ]
            best = max(range(len(reached)), key=reached.__getitem__)
            values[f"val/{kind.name}"] = reached[best]
            if kind.parameter is not None:
                self.fitted[kind.parameter] = kind.candidates[best]
                self.log(f"val/{kind.parameter}", kind.candidates[best], sync_dist=True)
        shown = {
            "val/weighted_vote": values.pop("val/weighted_vote"),
            "val/recall@1": self.recall.compute(),
        }
        self.log_dict(values, sync_dist=True)
        self.log_dict(shown, sync_dist=True, prog_bar=True)
        for metric in (self.recall, *self._selection_metrics()):
            metric.reset()

    def _selection_metrics(self) -> list[SelectedAccuracy]:
        return list(self.selected)  # type: ignore[arg-type]  # a ModuleList does not know what it holds

    def configure_optimizers(self) -> Any:
        """AdamW with a linear warm-up and a cosine over all steps."""
        return adamw(self)


def hard_negative_weights(votes: Tensor, correct: Tensor, weight: float) -> Tensor:
    """How often each trajectory counts (Q, N), for votes (Q, N) and which are correct (Q, N).

    It is `weight` for wrong ones that gave their question's most frequent answer, 1 for others.
    """
    chosen = Majority().choose(votes, torch.zeros_like(correct))
    agrees = (votes == votes.gather(1, chosen.clamp(min=0)[:, None])) & (chosen >= 0)[:, None]
    return torch.where(agrees & (correct == 0), weight, 1.0)
