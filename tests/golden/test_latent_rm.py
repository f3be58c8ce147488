"""LatentRM scores, losses, gradients and ranking metrics against recorded ones."""

import pytest
import torch
from torch import Tensor

from lightning_ltts import load_latent_rm, load_reasoner
from lightning_ltts.training.losses import bce_loss, contrastive_loss
from tests.golden.conftest import Reference, read, read_json


@pytest.mark.parametrize("method", ["coconut", "codi"])
class TestScores:
    def test_logits(self, golden: Reference, method: str) -> None:
        rm = load_latent_rm(golden / f"latentrm/{method}_rm").requires_grad_(False)
        recorded = read(golden / f"latentrm/{method}_trajectories.safetensors")
        run = read(golden / f"{method}/golden.safetensors", "noise.")
        thoughts = recorded["latent_embeds"].unflatten(0, (4, 3))
        scores = rm.score(run["input_ids"], run["attention_mask"], thoughts)
        assert (
            scores.flatten(0, 1) - recorded["latent_logits_position_ids_from_mask"]
        ).abs().max() < 1e-5
        assert (scores.sum(-1) - recorded["scores_position_ids_from_mask"]).abs().max() < 1e-5
        assert torch.equal(
            scores.sum(-1).argmax(1), recorded["top_indices_position_ids_from_mask"][:, 0]
        )

    def test_scores_do_not_depend_on_neighbours(self, golden: Reference, method: str) -> None:
        """In the published code positions count the pads, so a score depends on the batch (findings C2)."""
        rm = load_latent_rm(golden / f"latentrm/{method}_rm").requires_grad_(False)
        recorded = read(golden / f"latentrm/{method}_trajectories.safetensors")
        run = read(golden / f"{method}/golden.safetensors", "noise.")
        thoughts = recorded["latent_embeds"].unflatten(0, (4, 3))
        assert (
            recorded["scores"] - recorded["scores_position_ids_from_mask"]
        ).abs().max() > 1  # what the defect does
        effect = read_json(golden / "latentrm/meta.json")[method]["padding_effect"]
        for q in range(4):
            alone = run["input_ids"][q][run["attention_mask"][q].bool()][None]
            scores = rm.score(alone, torch.ones_like(alone), thoughts[q : q + 1]).sum(-1)[0]
            for n in range(3):
                assert float(scores[n]) == pytest.approx(effect[3 * q + n]["score_alone"], abs=2e-5)


def labelled(logits: Tensor, labels: Tensor, samples: int) -> tuple[Tensor, Tensor, Tensor]:
    """Recorded logits (rows, S, 1) and labels (rows, S) -> ours (Q, N, S), and a mask of the labelled positions."""
    shape = (-1, samples, labels.shape[1])
    mask = (labels != -100).float().view(shape)
    return (
        logits.detach().squeeze(-1).reshape(shape).requires_grad_(),
        labels.view(shape) * mask,
        mask,
    )


@pytest.mark.parametrize("case", ["a", "b"])
@pytest.mark.parametrize("kind", ["bce", "ce"])
def test_losses_and_gradients(golden: Reference, case: str, kind: str) -> None:
    recorded = read(golden / "latentrm/losses.safetensors", f"{case}.")
    scores, labels, mask = labelled(
        recorded["logits"], recorded["labels"], int(recorded["n_samples"])
    )
    steps = int((mask.amax(1) > 0).sum())
    if kind == "bce":
        loss = bce_loss(scores, labels, mask)
    else:  # the recorded mean is over all positions, prompts and padding included; see the next test
        loss = contrastive_loss(scores, labels, False, mask) * steps / mask[:, 0].numel()
    loss.backward()
    assert float(loss) == pytest.approx(float(recorded[f"{kind}_loss"]), abs=1e-6)
    assert scores.grad is not None
    assert (scores.grad.flatten() - recorded[f"{kind}_grad"].flatten()).abs().max() < 1e-6
    assert float(loss) == pytest.approx(float(recorded[f"{kind}_loss_f64"]), abs=1e-6)


@pytest.mark.parametrize("case", ["a", "b"])
def test_loss_does_not_scale_with_padding(golden: Reference, case: str) -> None:
    """The published contrastive loss falls to S/(S+10) with ten more ignored positions (findings C5); ours stays."""
    recorded = read(golden / "latentrm/losses.safetensors", f"{case}.")
    length = recorded["labels"].shape[1]
    fallen = recorded["ce_loss_10_more_ignored"] / recorded["ce_loss"]
    assert float(fallen) == pytest.approx(length / (length + 10), rel=1e-5)
    scores, labels, mask = labelled(
        recorded["logits"], recorded["labels"], int(recorded["n_samples"])
    )
    more = [torch.nn.functional.pad(x.detach(), (0, 10)) for x in (scores, labels, mask)]
    for normalize in (True, False):
        assert torch.allclose(
            contrastive_loss(scores, labels, normalize, mask),
            contrastive_loss(*more[:2], normalize, more[2]),
        )


def test_training_batch(golden: Reference) -> None:
    """One contrastive batch from mined data: logits, loss and gradients of the whole model."""
    recorded = read(golden / "latentrm/training_batch.safetensors")
    rm = load_latent_rm(golden / "latentrm/coconut_rm")
    ids, mask = recorded["input_ids"], recorded["attention_mask"]
    latent = load_reasoner(golden / "coconut/checkpoint").tokenizer.get_vocab()["<|latent|>"]
    prompts = [row[: int((row == latent).nonzero()[0])] for row in ids[::3]]
    width = max(map(len, prompts))
    prompt_ids = torch.stack(
        [torch.nn.functional.pad(p, (0, width - len(p))) for p in prompts]
    )  # padded on the right
    prompt_mask = torch.stack([(torch.arange(width) < len(p)).long() for p in prompts])
    scores = rm.score(prompt_ids, prompt_mask, recorded["latent_embeds"].unflatten(0, (9, 3)))
    where = ids == latent
    assert (scores.flatten() - recorded["logits"].squeeze(-1)[where]).abs().max() < 1e-5
    labels = recorded["labels"][where].view(9, 3, 6)
    loss = (
        contrastive_loss(scores, labels, normalize=False) * 6 / mask.shape[1]
    )  # their mean is over all positions
    loss.backward()
    assert float(loss) == pytest.approx(float(recorded["ce_loss"]), abs=1e-6)
    names = {
        "classifier.bias": rm.score_head.bias,
        "classifier.weight": rm.score_head.weight,
        "transformer.h.0.attn.c_attn.weight": rm.backbone.h[0].attn.c_attn.weight,
        "transformer.h.1.mlp.c_proj.bias": rm.backbone.h[1].mlp.c_proj.bias,
        "transformer.ln_f.weight": rm.backbone.ln_f.weight,
    }
    for name, parameter in names.items():
        assert (parameter.grad - recorded[f"grad.{name}"]).abs().max() < 1e-6, name
    norm = torch.stack([p.grad.norm() for p in rm.parameters() if p.grad is not None]).norm()
    assert float(norm) == pytest.approx(float(recorded["grad_norm_all"]), abs=1e-6)
