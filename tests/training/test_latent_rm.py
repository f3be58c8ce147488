from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lightning_ltts import load_latent_rm, load_reasoner
from lightning_ltts.data.word_problems import WordProblems
from lightning_ltts.errors import CheckpointError, ConfigError
from lightning_ltts.mining.data import MiningData
from lightning_ltts.mining.questions import MinedQuestions
from lightning_ltts.models.checkpoints import ENTRY
from lightning_ltts.models.latent_lm import LatentReasoner, fingerprint, left_pad
from lightning_ltts.models.scores import Scores
from lightning_ltts.models.trajectories import Trajectories
from lightning_ltts.sampling import GaussianNoise
from lightning_ltts.trainer import Trainer
from lightning_ltts.training.latent_rm import LatentRMModule, hard_negative_weights
from tests.helpers import save_reasoner


@pytest.fixture
def checkpoint(reasoner_file: Path) -> str:
    return str(reasoner_file)


def learnable_batch(questions: int = 8) -> MinedQuestions:
    """Trajectories whose first component says whether they are right."""
    generator = torch.Generator().manual_seed(0)
    ids, mask = left_pad([[20 + q, 30, 3] for q in range(questions)], 0)
    labels = (torch.rand(questions, 4, 1, generator=generator) > 0.5).float()
    labels = labels.expand(-1, -1, 3).contiguous()
    thoughts = torch.randn(questions, 4, 3, 32, generator=generator)
    thoughts[..., 0] = 2 * labels - 1
    votes = labels[..., -1].long()
    counts = torch.full(votes.shape, thoughts.shape[2])
    answers = (20 + votes)[..., None].expand(-1, -1, 2)
    greedy_answers = torch.full((questions, 1, 2), 21)
    greedy = Trajectories(torch.zeros(questions, 1, 3, 32), counts[:, :1], greedy_answers)
    return MinedQuestions(
        input_ids=ids,
        attention_mask=mask,
        trajectories=Trajectories(thoughts, counts, answers, thoughts * 0.5),
        labels=labels,
        votes=votes,
        reference=greedy,
        question_index=torch.arange(questions),
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"loss": "contrastive_unnormalized"},
        {"loss": "bce"},
        {"loss": "pairwise"},
        {"reference": True},
        {"noise_free": True},
        {"reads_answer": True},
        {"reference": True, "reads_answer": True, "hard_negatives": 4.0},
        {"reads_answer": True, "answer_prediction": 1.0},
        {
            "backbone": {
                "model_type": "gpt2",
                "n_layer": 1,
                "n_embd": 16,
                "n_head": 2,
                "n_positions": 64,
            },
            "reads_answer": True,
        },
    ],
    ids=str,
)
def test_learns_what_can_be_learned(checkpoint: str, options: dict) -> None:
    module, batch = LatentRMModule(checkpoint, **options), learnable_batch()
    module.log = lambda *args, **kwargs: None  # type: ignore[method-assign]
    optimizer = torch.optim.AdamW(module.parameters(), lr=3e-3)
    for _ in range(40 if "backbone" not in options else 120):
        optimizer.zero_grad()
        module.training_step(batch, 0).backward()
        optimizer.step()
    scores = module.judge(batch).trajectory
    right = batch.correct.bool()
    mixed = right.any(1) & ~right.all(1)
    assert all(
        scores[q][right[q]].min() > scores[q][~right[q]].max() for q in mixed.nonzero().flatten()
    )


def test_starts_from_the_reasoner_and_leaves_it_out_of_the_checkpoint(
    checkpoint: str, gpt2: LatentReasoner
) -> None:
    module = LatentRMModule(checkpoint)
    weight = gpt2.backbone.base_model.h[0].mlp.c_fc.weight
    assert torch.equal(module.latent_rm.backbone.h[0].mlp.c_fc.weight, weight)
    assert all(name.startswith("latent_rm.") for name in module.state_dict())


def test_validation_metrics_by_hand(checkpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two mixed questions, one hit by the best score, and one all wrong: recall@1 = 1/2, best-of-N = 1/3, majority 2/3."""
    module = LatentRMModule(checkpoint)
    batch = learnable_batch(3)
    correct = torch.tensor([[1.0, 0, 0, 1], [1, 1, 1, 0], [0, 0, 0, 0]])
    votes = torch.tensor([[0, 1, 2, 0], [0, 0, 0, 1], [0, 0, 0, 0]])
    batch = replace(batch, labels=correct[..., None].expand(-1, -1, 3), votes=votes)
    totals = torch.tensor([[9.0, 0, 0, 0], [0, 0, 0, 9], [1, 0, 0, 0]])
    scores = Scores(totals[..., None].expand(-1, -1, 3) / 3)
    monkeypatch.setattr(module.latent_rm, "judge", lambda *args: scores)
    logged: dict = {}
    module.log_dict = lambda values, **kwargs: logged.update(values)  # type: ignore[method-assign]
    module.validation_step(batch, 0)
    module.on_validation_epoch_end()
    assert float(logged["val/recall@1"]) == pytest.approx(1 / 2)
    assert float(logged["val/best_of_n"]) == pytest.approx(1 / 3)
    assert float(logged["val/majority"]) == pytest.approx(2 / 3)


@pytest.mark.slow
def test_fit_mines_trains_and_loads(checkpoint: str, tmp_path: Path) -> None:
    data = MiningData(
        checkpoint,
        GaussianNoise(0.8),
        WordProblems("train", 12),
        WordProblems("valid", 6),
        str(tmp_path / "store"),
        num_samples=3,
        num_rollouts=2,
        val_num_samples=4,
        batch_size=4,
        keep_uninformative=True,
        keep_clean=True,
    )
    module = LatentRMModule(checkpoint, noise_free=True)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=2,
        default_root_dir=tmp_path,
        logger=False,
        enable_progress_bar=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(module, datamodule=data)
    names = {
        "train/loss",
        "train/reward_margin",
        "val/recall@1",
        "val/majority",
        "val/weighted_vote",
        "val/best_of_n",
    }
    assert names <= trainer.callback_metrics.keys()
    path = trainer.checkpoint_callback.best_model_path  # type: ignore[union-attr]
    loaded = load_latent_rm(path)
    assert all(
        torch.equal(a, b)
        for a, b in zip(loaded.parameters(), module.latent_rm.parameters(), strict=True)
    )


@pytest.mark.slow
def test_probe_trains_the_head_alone(checkpoint: str) -> None:
    module = LatentRMModule(checkpoint, trained="head")
    trainable = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    assert trainable == {"latent_rm.score_head.weight", "latent_rm.score_head.bias"}


def test_hard_negatives_by_hand() -> None:
    """The majority of question 1 is wrong: its two samples count 3 times. That of question 2 is right, of 3 there is none."""
    votes = torch.tensor([[0, 0, 1], [0, 0, 1], [-1, -1, -1]])
    correct = torch.tensor([[0.0, 0, 1], [1, 1, 0], [0, 0, 0]])
    assert hard_negative_weights(votes, correct, 3.0).tolist() == [[3, 3, 1], [1, 1, 1], [1, 1, 1]]
    with pytest.raises(ConfigError, match=r"hard_negatives=0\.5"):
        LatentRMModule("", hard_negatives=0.5)


@pytest.mark.slow
def test_store_of_another_reasoner(checkpoint: str, gpt2: LatentReasoner, tmp_path: Path) -> None:
    with torch.no_grad():
        gpt2.backbone.base_model.ln_f.weight.mul_(2)
    other = str(save_reasoner(gpt2, tmp_path / "other.ckpt"))
    sources = (WordProblems("train", 4), WordProblems("valid", 4))
    options = {"num_samples": 2, "val_num_samples": 2, "batch_size": 2, "keep_uninformative": True}
    data = MiningData(other, GaussianNoise(0.8), *sources, str(tmp_path / "store"), **options)
    with pytest.raises(ConfigError, match="mined with another reasoner"):
        Trainer(accelerator="cpu", max_epochs=1, logger=False).fit(
            LatentRMModule(checkpoint), datamodule=data
        )


def test_checkpoint_for_another_reasoner(
    checkpoint: str, gpt2: LatentReasoner, tmp_path: Path
) -> None:
    saved: dict = {}
    LatentRMModule(checkpoint).on_save_checkpoint(saved)
    with torch.no_grad():
        gpt2.backbone.base_model.ln_f.weight.mul_(2)
    other = LatentRMModule(str(save_reasoner(gpt2, tmp_path / "other.ckpt")))
    with pytest.raises(CheckpointError, match="for another reasoner"):
        other.on_load_checkpoint(saved)
    with pytest.raises(CheckpointError, match="not a LatentRM's"):
        other.on_load_checkpoint({})


def test_reasoner_without_thoughts(tokenizer, tmp_path: Path) -> None:
    from tests.tiny import make_reasoner

    path = save_reasoner(make_reasoner("gpt2", tokenizer, num_thoughts=0), tmp_path / "cot.ckpt")
    with pytest.raises(ConfigError, match="without thoughts"):
        LatentRMModule(str(path))


def fitted_on(
    module: LatentRMModule, correct: torch.Tensor, votes: torch.Tensor, totals: torch.Tensor
) -> dict:
    """What one validation epoch logs, for questions whose trajectories have these scores (Q, N)."""
    batch = learnable_batch(len(correct))
    batch = replace(batch, labels=correct[..., None].expand(-1, -1, 3), votes=votes)
    logged: dict = {}
    module.log_dict = lambda values, **kwargs: logged.update(values)  # type: ignore[method-assign]
    module.log = lambda name, value, **kwargs: logged.update({name: value})  # type: ignore[method-assign]
    scores = Scores(totals[..., None].expand(-1, -1, 3) / 3)
    module.latent_rm.judge = lambda *args: scores  # type: ignore[method-assign]
    module.validation_step(batch, 0)
    module.on_validation_epoch_end()
    return logged


def test_the_best_temperature_is_taken_and_saved(checkpoint: str) -> None:
    """Right has the score 1 once, wrong 0 three times: e^(1/t) > 3 where t < 0.91, and not above."""
    module = LatentRMModule(checkpoint)
    correct, votes = torch.tensor([[1.0, 0, 0, 0]] * 2), torch.tensor([[0, 1, 1, 1]] * 2)
    logged = fitted_on(module, correct, votes, torch.tensor([[1.0, 0, 0, 0]] * 2))
    assert logged["val/weighted_vote"] == 1.0
    assert logged["val/temperature"] < 0.91
    saved: dict = {}
    module.on_save_checkpoint(saved)
    assert saved[ENTRY]["spec"]["fitted"] == module.fitted
    assert module.fitted["temperature"] == logged["val/temperature"]
    # the other way round, the majority has to be heard: the next epoch fits anew, from its own alone
    logged = fitted_on(module, 1 - correct, votes, torch.tensor([[1.0, 0, 0, 0]] * 2))
    assert logged["val/temperature"] > 0.91
    assert (logged["val/weighted_vote"], logged["val/majority"]) == (1.0, 1.0)
    assert float(logged["val/recall@1"]) == 0.0


def test_the_answers_score_is_trained(checkpoint: str) -> None:
    """By the loss of the answer alone: from the thoughts' it gets no gradient."""
    module = LatentRMModule(checkpoint, reads_answer=True)
    module.log = lambda *args, **kwargs: None  # type: ignore[method-assign]
    module.training_step(learnable_batch(), 0).backward()
    assert module.latent_rm.answer_head is not None
    gradient = module.latent_rm.answer_head.weight.grad
    assert gradient is not None
    assert gradient.abs().max() > 0


def test_the_right_answers_prediction_is_its_cross_entropy(checkpoint: str) -> None:
    """The loss with weight 2 is the one without plus twice the mean of -log p(right token)."""
    batch, losses = learnable_batch(), []
    for weight in (0.0, 2.0):
        torch.manual_seed(0)
        module = LatentRMModule(checkpoint, reads_answer=True, answer_prediction=weight).eval()
        module.log = lambda *args, **kwargs: None  # type: ignore[method-assign]
        losses.append(float(module.training_step(batch, 0).detach()))
        assert module.latent_rm.spec.answer_likelihood == (weight > 0)
    states = module.judge(batch).answer_states
    assert states is not None
    embedding = module.latent_rm.backbone.get_input_embeddings().weight
    terms = []
    for q in range(len(batch)):
        right = batch.correct[q].nonzero().flatten()
        for n in range(4) if len(right) else ():
            truth, given = (batch.trajectories.answer_ids[q, i] for i in (right[0], n))
            for token in range(2 if truth[0] == given[0] else 1):
                log_p = (embedding @ states[q, n, token]).log_softmax(-1)
                terms.append(-float(log_p[truth[token]].detach()))
    assert losses[1] == pytest.approx(losses[0] + 2 * sum(terms) / len(terms), rel=1e-4)


def test_a_batch_without_a_right_trajectory_can_be_learned_from(checkpoint: str) -> None:
    module = LatentRMModule(checkpoint, reads_answer=True, answer_prediction=1.0)
    module.log = lambda *args, **kwargs: None  # type: ignore[method-assign]
    batch = learnable_batch()
    loss = module.training_step(replace(batch, labels=torch.zeros_like(batch.labels)), 0)
    loss.backward()
    assert float(loss) == 0.0


def test_an_answer_is_predicted_where_it_is_read(checkpoint: str) -> None:
    with pytest.raises(ConfigError, match=r"answer_prediction=1\.0 needs reads_answer=true"):
        LatentRMModule(checkpoint, answer_prediction=1.0)
    with pytest.raises(ConfigError, match="answer_prediction=-1"):
        LatentRMModule(checkpoint, reads_answer=True, answer_prediction=-1)


def test_weights_are_trained_whole(gpt2: LatentReasoner, tmp_path: Path) -> None:
    """A reasoner that is stored in half precision, whose small steps would change nothing."""
    path = tmp_path / "half.ckpt"
    save_reasoner(gpt2.to(torch.bfloat16), path)
    assert load_reasoner(path).backbone.dtype == torch.bfloat16
    module = LatentRMModule(str(path), extra_layers=1)
    assert {p.dtype for p in module.latent_rm.parameters()} == {torch.float32}
    assert module.latent_rm.spec.reasoner == fingerprint(load_reasoner(path))
