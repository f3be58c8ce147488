import json
from pathlib import Path
from types import SimpleNamespace

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor

from lightning_ltts.data.problems import ProblemFiles
from lightning_ltts.data.word_problems import WordProblems
from lightning_ltts.engine.grading import read_answers
from lightning_ltts.engine.rollout import RolloutEngine
from lightning_ltts.errors import ConfigError, DataError, StoreError
from lightning_ltts.mining.data import MiningData, _store_line
from lightning_ltts.mining.mine import mine
from lightning_ltts.mining.questions import MinedQuestions
from lightning_ltts.mining.shard_files import shard_name
from lightning_ltts.mining.store import StoreWriter, TrajectoryStore, collate
from lightning_ltts.mining.trained_on import LATENT_RM, say_trained_on
from lightning_ltts.models.latent_lm import LatentReasoner, left_pad
from lightning_ltts.sampling import (
    Deterministic,
    GaussianNoise,
    MCDropout,
    Sampler,
    SingularValueNoise,
    TokenSampling,
)
from lightning_ltts.sampling.keyed_random import fold, question_keys, sample_keys
from lightning_ltts.sampling.streams import Stream
from lightning_ltts.trainer import Trainer
from lightning_ltts.training.latent_rm import LatentRMModule
from lightning_ltts.voting.votes import vote_numbers
from tests.helpers import save_reasoner
from tests.tiny import learned_noise, make_reasoner

SAMPLERS = [
    GaussianNoise(1.5),
    MCDropout(0.3),
    MCDropout(0.3, prompt=True),
    SingularValueNoise(0.2),
    learned_noise(3.0),
]
# under which completions of one prefix end differently
STRONG = [*SAMPLERS[:3], SingularValueNoise(0.8), SAMPLERS[4]]
KEYS = sample_keys(question_keys(0, list(range(6))), 2)


def answers_of(reasoner: LatentReasoner, prompts: tuple[Tensor, Tensor], sampler: Sampler) -> list:
    """Right answers that some trajectories give, so that labels vary: each question's first sampled answer."""
    rollouts = RolloutEngine(reasoner, sampler).rollout(*prompts, 1, seed=0)
    return read_answers(reasoner, rollouts.answer_ids[:, 0])


@pytest.fixture
def answering(gpt2: LatentReasoner, monkeypatch: pytest.MonkeyPatch) -> LatentReasoner:
    """A random reasoner whose every answer can be read: the sum of its tokens."""
    monkeypatch.setattr(gpt2, "decode", lambda ids: str(int(ids.sum())))
    return gpt2


@pytest.mark.slow
@pytest.mark.parametrize("sampler", STRONG, ids=repr)
def test_labels_equal_completions_from_scratch(answering: LatentReasoner, sampler: Sampler) -> None:
    """Every completion again, one by one, without forking: the trajectory's keys up to step t, the rollout's after it.

    The problems are such that completions of the last question end differently under every sampler.
    """
    problems = WordProblems("train", 6, seed=1).load()
    prompts = left_pad(
        [answering.encode_prompt(problem.question) for problem in problems], answering.pad_id
    )
    truths = answers_of(answering, prompts, sampler)
    mined = mine(RolloutEngine(answering, sampler), *prompts, KEYS, truths, rollouts=3)
    assert mined.labels.shape == (6, 2, 3)
    mixed = (mined.labels > 0) & (mined.labels < 1)
    assert mixed[5].any(), "the test should see right and wrong completions of one prefix"
    ids, mask = prompts
    for q in (0, 5):
        for n in range(2):
            own = KEYS[q, n].view(1)
            for t in (1, 2):
                right = 0
                for m in range(3):
                    engine = RolloutEngine(answering, sampler)
                    rollout = fold(own, Stream.COMPLETION, t, m)
                    branches = engine.start(ids[q : q + 1], mask[q : q + 1], own[None], room=9)
                    for step in range(3):
                        branches = engine.step(branches, own if step < t else rollout)
                    right += read_answers(answering, engine.answer(branches, 5).ids)[0] == truths[q]
                assert float(mined.labels[q, n, t - 1]) == pytest.approx(right / 3)


@pytest.mark.slow
@pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
def test_trajectories_are_those_of_sampling(
    answering: LatentReasoner, prompts: tuple[Tensor, Tensor], sampler: Sampler
) -> None:
    """Mining and prediction share one distribution; the last label is the trajectory's own correctness."""
    truths = answers_of(answering, prompts, sampler)
    mined = mine(RolloutEngine(answering, sampler), *prompts, KEYS, truths, rollouts=2)
    rollouts = RolloutEngine(answering, sampler).rollout(*prompts, 2, list(range(6)), seed=0)
    assert torch.allclose(mined.trajectories.thoughts, rollouts.thoughts, atol=1e-4)
    for q in range(6):
        answers = read_answers(answering, rollouts.answer_ids[q])
        assert mined.labels[q, :, -1].tolist() == [float(answer == truths[q]) for answer in answers]
        assert mined.votes[q].tolist() == vote_numbers(answers)


def test_no_rollouts_label_all_steps_by_the_outcome(
    answering: LatentReasoner, prompts: tuple[Tensor, Tensor]
) -> None:
    sampler = GaussianNoise(0.5)
    truths = answers_of(answering, prompts, sampler)
    mined = mine(RolloutEngine(answering, sampler), *prompts, KEYS, truths, rollouts=0)
    assert (mined.labels == mined.labels[..., -1:]).all()


def test_written_steps_are_labelled_by_the_outcome(
    tokenizer, prompts: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without thoughts: the samples are those of sampling, the reference is greedy decoding's."""
    reasoner = make_reasoner("gpt2", tokenizer, num_thoughts=0)
    monkeypatch.setattr(reasoner, "decode", lambda ids: str(int(ids.sum())))
    sampler = TokenSampling(1.0)
    truths = answers_of(reasoner, prompts, sampler)
    mined = mine(RolloutEngine(reasoner, sampler), *prompts, KEYS, truths, rollouts=3)
    sampled = RolloutEngine(reasoner, sampler).rollout(*prompts, 2, seed=0)
    greedy = RolloutEngine(reasoner).rollout(*prompts)
    assert torch.equal(mined.trajectories.answer_ids, sampled.answer_ids)
    assert torch.equal(mined.reference.answer_ids, greedy.answer_ids)
    assert mined.trajectories.thoughts.shape == (6, 2, 0, 32)
    assert mined.labels.shape == (6, 2, 1)
    assert mined.correct[:, 0].all(), "each question's first sample is its truth"
    assert not mined.correct.all()


@pytest.mark.parametrize("sampler", [*SAMPLERS[:2], SAMPLERS[-1]], ids=repr)
def test_no_prefix_is_read_twice(
    answering: LatentReasoner, problems: list, sampler: Sampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Q = 4 prompts of 14 tokens, N = 2, M = 3, T = 3, answers of A tokens of which the last that fits is not read.

    Noise: Q*14 prompt; per trajectory h_1, h_2 (shared with the rollouts), h_3 and the end; per rollout from step 1 h_2, h_3
    and the end, from step 2 h_3 and the end. Dropout: Q*13 prompt and the last token per trajectory; the pass that reads h_t
    differs between a trajectory and its rollouts, so each has its own. The deterministic trajectory has h_1, h_2, h_3 and the
    end, and with dropout the prompt's last token.
    """
    reads = []
    handle = answering.backbone.base_model.register_forward_hook(
        lambda module, args, kwargs, output: reads.append(
            output.last_hidden_state.shape[:2].numel()
        ),
        with_kwargs=True,
    )
    ids, mask = left_pad(
        [answering.encode_prompt(p.question)[:14] for p in problems[:4]], answering.pad_id
    )
    engine = RolloutEngine(answering, sampler)
    answer_rows = []
    decode = RolloutEngine.answer
    monkeypatch.setattr(
        RolloutEngine, "answer", lambda *a: answer_rows.append(decode(*a)) or answer_rows[-1]
    )
    keys = sample_keys(question_keys(0, list(range(4))), 2)
    with engine.counting() as cost:
        mine(engine, ids, mask, keys, [0] * 4, rollouts=3)
    handle.remove()
    rows = 4 * 2
    fed = sum(int((a.ids != answering.pad_id).sum(-1).clamp(max=4).sum()) for a in answer_rows)
    shared = not sampler.perturbs_forward
    trajectory, rollouts = 3 + 1, 3 * ((2 + 1) + (1 + 1)) if shared else 3 * ((3 + 1) + (2 + 1))
    prompt = 4 * 14 if shared else 4 * 13 + rows
    reference = 4 * (4 if shared else 5)
    expected = prompt + rows * (trajectory + rollouts) + reference + fed
    assert (sum(reads), cost.token_forwards, cost.tree_nodes) == (expected,) * 3


@pytest.mark.slow
@pytest.mark.parametrize("samples", [1, 2])
@pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
def test_reference_is_the_greedy_trajectory(
    answering: LatentReasoner, prompts: tuple[Tensor, Tensor], sampler: Sampler, samples: int
) -> None:
    keys = KEYS[:, :samples]
    mined = mine(RolloutEngine(answering, sampler), *prompts, keys, [0] * 6, rollouts=1)
    greedy = RolloutEngine(answering).rollout(*prompts)
    assert torch.allclose(mined.reference.thoughts, greedy.thoughts, atol=1e-4)
    assert torch.equal(mined.reference.answer_ids, greedy.answer_ids)
    assert torch.equal(mined.reference.thought_counts, greedy.thought_counts)
    sampled = RolloutEngine(answering, sampler).rollout(*prompts, samples, list(range(6)), seed=0)
    assert torch.equal(mined.trajectories.answer_ids, sampled.answer_ids)


# -- the DataModule


def make_data(folder: Path, reasoner: Path, **options) -> MiningData:
    defaults = {
        "sampler": GaussianNoise(0.8),
        "train": WordProblems("train", 20),
        "val": WordProblems("valid", 6),
        "num_samples": 3,
        "num_rollouts": 2,
        "val_num_samples": 4,
        "shard_size": 8,
        "batch_size": 2,
        "keep_uninformative": True,
    }
    return MiningData(str(reasoner), store=str(folder), **defaults | options)


def run(data: MiningData, **options) -> MiningData:
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, **options)
    trainer.mine(LatentRMModule(data.reasoner_path), data)
    return data


@pytest.fixture
def checkpoint(reasoner_file: Path) -> Path:
    return reasoner_file


def trajectories(folder: Path) -> dict[tuple, tuple]:
    store = TrajectoryStore(folder)
    return {
        tuple(one.prompts[0]): (one.trajectories.thoughts, one.labels.tolist(), one.votes.tolist())
        for one in map(store.__getitem__, range(len(store)))
    }


def same(one: dict, two: dict) -> bool:
    return one.keys() == two.keys() and all(
        torch.allclose(one[k][0], two[k][0], atol=1e-4) and one[k][1:] == two[k][1:] for k in one
    )


@pytest.mark.slow
def test_chunks_and_shards_do_not_matter(checkpoint: Path, tmp_path: Path) -> None:
    run(make_data(tmp_path / "a", checkpoint))
    run(make_data(tmp_path / "b", checkpoint, token_budget=200, shard_size=3))
    for split in ("train", "val"):
        assert same(trajectories(tmp_path / "a" / split), trajectories(tmp_path / "b" / split))
    manifest = TrajectoryStore(tmp_path / "a" / "train").manifest
    assert manifest["counts"]["questions"] == 20
    assert manifest["counts"]["trajectories"] == 60
    assert manifest["settings"]["num_rollouts"] == 2
    assert manifest["versions"].keys() >= {"torch", "lightning", "transformers"}


@pytest.mark.slow
def test_resume_after_a_kill(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(make_data(tmp_path / "whole", checkpoint))
    from lightning_ltts.mining.store import StoreWriter

    write, written = StoreWriter.write, []

    def dies_at_the_third(self, number, shard, counts) -> None:
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(number)
        write(self, number, shard, counts)

    monkeypatch.setattr(StoreWriter, "write", dies_at_the_third)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        run(make_data(tmp_path / "killed", checkpoint))
    assert [(tmp_path / "killed/train" / shard_name(n)).exists() for n in range(3)] == [
        True,
        True,
        False,
    ]
    again: list[int] = []
    monkeypatch.setattr(StoreWriter, "write", lambda *a: (again.append(a[1]), write(*a)))
    run(make_data(tmp_path / "killed", checkpoint))
    assert again == [2, 0]  # the missing training shard, and the validation store
    for split in ("train", "val"):
        assert same(
            trajectories(tmp_path / "whole" / split), trajectories(tmp_path / "killed" / split)
        )


@pytest.mark.slow
def test_reuse_and_refusal(
    checkpoint: Path, gpt2: LatentReasoner, tmp_path: Path, monkeypatch
) -> None:
    run(make_data(tmp_path / "s", checkpoint))
    with monkeypatch.context() as patched:
        patched.setattr(
            "lightning_ltts.mining.shards.mine", None
        )  # would fail if anything were mined
        run(make_data(tmp_path / "s", checkpoint))
    with pytest.raises(StoreError, match="num_samples=3, but this run has 5"):
        run(make_data(tmp_path / "s", checkpoint, num_samples=5))
    with pytest.raises(StoreError, match="was made with sampler="):
        run(make_data(tmp_path / "s", checkpoint, sampler=MCDropout(0.2)))
    with pytest.raises(StoreError, match="was made with seed=0, but this run has 7"):
        run(make_data(tmp_path / "s", checkpoint, seed=7))
    with pytest.raises(StoreError, match="precision='32-true', but this run has 'bf16-mixed'"):
        run(make_data(tmp_path / "s", checkpoint), precision="bf16-mixed")
    with torch.no_grad():
        gpt2.backbone.base_model.ln_f.weight.mul_(2)
    other = save_reasoner(gpt2, tmp_path / "other.ckpt")
    with pytest.raises(StoreError, match="was made with reasoner="):
        run(make_data(tmp_path / "s", other))


@pytest.mark.slow
def test_mining_again_checks_all_that_is_there_and_training_what_it_reads(
    checkpoint: Path, tmp_path: Path
) -> None:
    run(make_data(tmp_path, checkpoint))
    path = tmp_path / "train" / shard_name(2)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"shard-00002.* does not match its checksum"):
        run(make_data(tmp_path, checkpoint))
    module, data = LatentRMModule(str(checkpoint)), make_data(tmp_path, checkpoint)
    options = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False}
    Trainer(**options, max_steps=0, limit_val_batches=0).fit(module, datamodule=data)
    assert len(data.stores["train"]) == 20
    with pytest.raises(StoreError, match=r"shard-00002.* does not match its checksum"):
        Trainer(**options, max_epochs=1).fit(module, datamodule=make_data(tmp_path, checkpoint))


@pytest.mark.slow
def test_questions_without_contrast_are_counted_and_left_out(
    checkpoint: Path, tmp_path: Path
) -> None:
    """A deterministic sampler gives every question equal trajectories; validation keeps them all the same."""
    run(make_data(tmp_path / "s", checkpoint, sampler=Deterministic(), keep_uninformative=False))
    train, val = (TrajectoryStore(tmp_path / "s" / split) for split in ("train", "val"))
    assert (
        len(train),
        train.manifest["counts"]["mixed"],
        train.manifest["counts"]["questions"],
    ) == (0, 0, 20)
    assert len(val) == 6
    data = make_data(tmp_path / "s", checkpoint, sampler=Deterministic(), keep_uninformative=False)
    run(data)
    assert "; nothing can be learned from it, because " in data.describe()[0]
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, max_epochs=1)
    with pytest.raises(
        ConfigError, match="holds 0 questions with both right and wrong trajectories"
    ):
        trainer.fit(LatentRMModule(str(checkpoint)), datamodule=data)


@pytest.mark.parametrize(
    ("right", "mixed", "expected"),
    [
        (0, 0, "nothing can be learned from it, because no trajectory is right"),
        (12, 0, "nothing can be learned from it, because every trajectory is right"),
        (6, 0, "nothing can be learned from it, because a question's trajectories are all alike"),
        (6, 2, ""),
    ],
)
def test_what_teaches_nothing_is_said(right: int, mixed: int, expected: str) -> None:
    counts = {"questions": 3, "trajectories": 12, "right": right, "mixed": mixed, "kept": 3}
    counts |= {"label_sum": right, "labels": 12, "seconds": 1, "token_forwards": 9, "tree_nodes": 9}
    store = SimpleNamespace(folder="s", manifest={"counts": counts, "settings": {}})
    line = _store_line("train", store)  # type: ignore[arg-type]
    end = line.partition("token-forward ratio 1.000")[2]
    assert end.startswith(f"; {expected}: ") if expected else end == ""


@pytest.mark.slow
def test_collate_pads_prompts_on_the_left(checkpoint: Path, tmp_path: Path) -> None:
    data = run(make_data(tmp_path / "s", checkpoint))
    items = [data.stores["train"][i] for i in range(3)]
    batch = MinedQuestions.from_tensors(collate(items))
    assert batch.trajectories.thoughts.shape == (3, 3, 3, 32)
    assert batch.prompts == [item.prompts[0] for item in items]
    assert batch.attention_mask[:, -1].tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    "options",
    [
        {"num_samples": 0},
        {"num_samples": 1},
        {"num_rollouts": -1},
        {"token_budget": 0},
        {"batch_size": 0},
    ],
    ids=str,
)
def test_options_that_make_no_sense(options: dict, checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        make_data(tmp_path, checkpoint, **options)


def test_mine_needs_a_mining_datamodule(checkpoint: Path) -> None:
    with pytest.raises(ConfigError, match="MiningData"):
        Trainer(accelerator="cpu", logger=False).mine(
            LatentRMModule(str(checkpoint)), pl.LightningDataModule()
        )


@pytest.mark.slow
@pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
def test_informative_questions_alone_are_completed(
    answering: LatentReasoner, prompts: tuple[torch.Tensor, torch.Tensor], sampler: Sampler
) -> None:
    """Their labels are those that they would have; the others' are their own answers, and cost nothing."""
    engine = RolloutEngine(answering, sampler)
    truths = answers_of(answering, prompts, sampler)
    with engine.counting() as dear:
        everything = mine(engine, *prompts, KEYS, truths, rollouts=3)
    with engine.counting() as cheap:
        informative = mine(engine, *prompts, KEYS, truths, rollouts=3, informative_only=True)
    mixed = everything.mixed
    assert 0 < int(mixed.sum()) < len(mixed), "the test should see both kinds"
    assert torch.equal(informative.mixed, mixed)
    assert torch.equal(informative.labels[mixed], everything.labels[mixed])
    own = informative.correct[~mixed][..., None]
    assert torch.equal(informative.labels[~mixed], own.expand_as(informative.labels[~mixed]))
    assert cheap.token_forwards < dear.token_forwards
    padding = dear.token_forwards - dear.tree_nodes  # of the prompts
    assert cheap.token_forwards - cheap.tree_nodes == padding


class TestInformative:
    """Mining until enough questions have a contrast."""

    @pytest.fixture(autouse=True)
    def _half_are_right(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A random reasoner's answers are right where their token ids add up to an odd number."""
        monkeypatch.setattr(
            "lightning_ltts.mining.mine._right",
            lambda engine, answers, truths: (answers.sum(-1) % 2).float(),
        )

    def test_a_latent_rm_keeps_what_it_was_trained_on(
        self, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Of 20 problems those that are in the store, and no other, whichever were mined first."""
        data = run(make_data(tmp_path / "a", checkpoint, keep_uninformative=False))
        trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, max_steps=1)
        trainer.fit(LatentRMModule(str(checkpoint)), datamodule=data)
        trainer.save_checkpoint(tmp_path / "rm.ckpt")
        said: list[str] = []
        monkeypatch.setattr("lightning_ltts.mining.trained_on.say_once", said.append)
        kept = set(data.stores["train"].question_indices(20).tolist())
        assert 0 < len(kept) < 20
        for i, problem in enumerate(data.sources["train"].load()):
            said.clear()
            say_trained_on(tmp_path / "rm.ckpt", [problem], "predict", LATENT_RM)
            assert bool(said) == (i in kept), problem.question
            assert all(line.startswith("the LatentRM was trained on 1 of the 1") for line in said)

    def counts(self, folder: Path) -> dict[str, float]:
        return TrajectoryStore(folder / "train").manifest["counts"]

    @pytest.mark.slow
    def test_goes_on_until_there_are_enough(self, checkpoint: Path, tmp_path: Path) -> None:
        options = {"keep_uninformative": False, "shard_size": 2}
        run(make_data(tmp_path / "all", checkpoint, **options))
        kept = int(self.counts(tmp_path / "all")["kept"])
        assert kept > 2, "the test needs some"
        data = run(make_data(tmp_path / "some", checkpoint, informative=2, **options))
        counts = self.counts(tmp_path / "some")
        assert 2 <= counts["kept"] < kept
        assert counts["questions"] < 20
        assert "2 asked for" in data.describe()[0]
        some, every = (trajectories(tmp_path / name / "train") for name in ("some", "all"))
        assert same(some, {prompt: every[prompt] for prompt in some})

    @pytest.mark.slow
    def test_says_where_there_are_too_few(self, checkpoint: Path, tmp_path: Path) -> None:
        data = run(make_data(tmp_path, checkpoint, informative=500, keep_uninformative=False))
        assert self.counts(tmp_path)["questions"] == 20
        assert "fewer than the 500 asked for" in data.describe()[0]

    @pytest.mark.slow
    def test_shards_beyond_what_is_needed_are_no_part_of_the_store(
        self, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Another process may have mined more than was needed; the store is the same."""
        options = {"keep_uninformative": False, "shard_size": 2, "informative": 2}
        data = run(make_data(tmp_path / "one", checkpoint, **options))
        needed = StoreWriter.shards_with
        answers = iter([None] * 10)  # while the ten shards are mined
        monkeypatch.setattr(
            StoreWriter, "shards_with", lambda self, enough: next(answers, needed(self, enough))
        )
        run(make_data(tmp_path / "two", checkpoint, **options))
        shards = data.stores["train"].manifest["shards"]
        assert len(shards) < 10
        assert {p.name for p in (tmp_path / "two/train").glob("*.safetensors")} == set(shards)
        assert same(trajectories(tmp_path / "one/train"), trajectories(tmp_path / "two/train"))


def test_all_problems_are_looked_at_before_any_is_mined(checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "val.json"
    path.write_text(json.dumps([{"question": "Ann has 7 pens. " * 14, "answer": "7"}]))
    data = make_data(tmp_path / "s", checkpoint, val=ProblemFiles([str(path)]))
    with pytest.raises(DataError, match=r"val\.json, row 1: the prompt takes"):
        run(data)
    assert not (tmp_path / "s").exists()


@pytest.mark.slow
def test_validation_questions_that_are_mined_for_training(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr("lightning_ltts.data.overlap.say_once", said.append)
    options = {"train": WordProblems("train", 8), "val": WordProblems("train", 4)}
    with pytest.raises(DataError, match="this validation question is among the training problems"):
        run(make_data(tmp_path / "s", checkpoint, **options))
    assert not (tmp_path / "s").exists()
    run(make_data(tmp_path / "s", checkpoint, **options, allow_overlap=True))
    assert said[0] == "4 of 4 validation questions are among the training problems"
