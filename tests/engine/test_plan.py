"""What a plan says is what the engine counts."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lightning_ltts.cluster.engine import Place
from lightning_ltts.data.problems import Problem
from lightning_ltts.engine.plan import SHAPES, Shape, Task, plan
from lightning_ltts.mining.shard_files import shard_name
from lightning_ltts.mining.shards import Shard, ShardMiner
from lightning_ltts.mining.store import StoreWriter
from lightning_ltts.models.cost import flops_per_position
from lightning_ltts.models.latent_lm import LatentReasoner
from lightning_ltts.prediction.module import LatentSearch
from lightning_ltts.sampling import GaussianNoise, MCDropout, Sampler
from lightning_ltts.search.beam import BeamSearch

SAMPLERS = [GaussianNoise(0.8), MCDropout(0.2)]


def written(answers: torch.Tensor, pad: int) -> float:
    """Tokens of an answer, on average."""
    return float((answers != pad).sum(-1).float().mean())


def shape_of(reasoner: LatentReasoner) -> Shape:
    weights = flops_per_position(reasoner.backbone.base_model) // 2
    return Shape(weights, reasoner.backbone.config.vocab_size, 32, 2, 32, 4)


@pytest.mark.parametrize("clean", [False, True])
@pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
def test_mining(
    sampler: Sampler, clean: bool, gpt2: LatentReasoner, problems: list[Problem], tmp_path: Path
) -> None:
    """Positions, FLOPs and the bytes of the shard, with the answers as long as they became, within a fifth."""
    miner = ShardMiner(gpt2, sampler, 3, 2, 0, True, clean, token_budget=4000)
    miner.settle(Place.alone("cpu", "32-true"))
    with miner._engine.counting() as cost:
        mined, counts = miner.do(Shard(list(range(len(problems))), problems))
    prompts = [len(gpt2.encode_prompt(problem.question)) for problem in problems]
    answer = written(mined.trajectories.answer_ids, gpt2.pad_id)
    task = Task(
        sum(prompts) / len(prompts), 3, answer, 3, 2, keep_clean=clean,
        own_passes=sampler.perturbs_forward, own_prompts=sampler.perturbs_prompt,
    )  # fmt: skip
    found, shape = plan(task), shape_of(gpt2)
    assert found.read * len(problems) == pytest.approx(counts["tree_nodes"], rel=0.2)
    assert found.flops(shape) * len(problems) == pytest.approx(cost.flops, rel=0.2)
    writer = StoreWriter(tmp_path, {}, 1)
    writer.open()
    writer.write(0, mined, counts)
    size = (tmp_path / shard_name(0)).stat().st_size - header_of(tmp_path / shard_name(0))
    assert found.store_bytes(shape) * len(problems) == pytest.approx(size, rel=0.2)


def header_of(path: Path) -> int:
    """Bytes of a shard's header, which do not grow with its questions."""
    return 8 + int.from_bytes(path.read_bytes()[:8], "little")


@pytest.mark.slow
@pytest.mark.parametrize(
    "beam", [None, BeamSearch(4, 2), BeamSearch(2, 4)], ids=["none", "4x2", "2x4"]
)
def test_prediction(
    beam: BeamSearch | None,
    reasoner_file: Path,
    latent_rm_file: Path,
    gpt2: LatentReasoner,
    problems: list[Problem],
) -> None:
    search = LatentSearch(
        str(reasoner_file), GaussianNoise(0.5), str(latent_rm_file), 8, beam, token_budget=4000
    )
    rows = search.predict_step(problems, 0)
    counted = sum(part["tree_nodes"] for row in rows for part in row["cost"].values())
    flops = sum(part["flops"] for row in rows for part in row["cost"].values())
    prompts = [row["prompt_tokens"] for row in rows]
    answer = written(rows[0].samples.answer_ids, gpt2.pad_id)
    for row in rows[1:]:
        answer += written(row.samples.answer_ids, gpt2.pad_id)
    assert search.latent_rm is not None
    task = Task(
        sum(prompts) / len(prompts), 3, answer / len(rows), 8, scored=True,
        reference=search.latent_rm.spec.reference, reads_answer=search.latent_rm.spec.reads_answer,
        budget=beam.budget if beam else 0, beams=beam.beams if beam else 0,
    )  # fmt: skip
    found = plan(task)
    assert found.read * len(rows) == pytest.approx(counted, rel=0.2)
    assert found.flops(shape_of(gpt2)) * len(rows) == pytest.approx(flops, rel=0.2)
    if beam is not None:  # by itself, since it is a small part of all
        own = found.read - plan(replace(task, budget=0, beams=0)).read
        searched = sum(row["cost"][beam.name]["tree_nodes"] for row in rows)
        assert own * len(rows) == pytest.approx(searched, rel=0.2)


def test_worked_out_by_hand() -> None:
    """T = 3, A = 2: a trajectory reads 6; completions of one thought 5, of two 4."""
    found = plan(Task(prompt=10, thoughts=3, answer=2, samples=4, rollouts=2))
    assert found.positions == {
        "prompt": 10, "greedy": 6, "trajectories": 4 * 6, "completions": 4 * 2 * (5 + 4),
    }  # fmt: skip
    assert found.chosen == (1 + 4 + 4 * 2 * 2) * 3
    assert found.rows == 4 * (1 + 2 * 3)
    shape = Shape(weights=100, vocabulary=50, hidden=8, layers=2, key_width=8, bytes=2)
    assert found.flops(shape) == 2 * ((10 + 6 + 24 + 72) * 100 + 63 * 50 * 8)
    assert shape.cache_bytes == 2 * 2 * 8 * 2
    assert found.cache_bytes(shape) == (10 + 28 * 7) * 64
    other = plan(Task(prompt=10, thoughts=3, answer=5, samples=4, rollouts=2))
    assert other.cache_bytes(shape) == (10 + 28 * 10) * 64
    # of 4 samples and the greedy one 3 thoughts of 8 numbers; of each sample 3 labels, 5 tokens of
    # its answer and 4 numbers more; the greedy answer, the prompt, and three numbers of 8 bytes of
    # the question: 4 bytes each
    rest = 4 * (3 + 5 + 4) + 5 + 10 + 6
    assert other.store_bytes(shape) == 4 * (5 * 3 * 8 + rest)
    clean = replace(other.task, keep_clean=True)
    assert plan(clean).store_bytes(shape) == 4 * (9 * 3 * 8 + rest)
    hours = found.flops(shape) * 1000 / (0.4 * 1e6) / 3600
    assert found.device_hours(shape, 1000, 1e6) == pytest.approx(hours)


def test_passes_that_are_not_shared() -> None:
    """Four samples read the prompt's last token themselves, or all of the prompt's ten."""
    task = Task(prompt=10, thoughts=3, answer=2, samples=4, rollouts=2)
    passes = plan(replace(task, own_passes=True)).positions
    assert passes["prompt"] == 10 + 4
    # a fork reads its thought again: completions of one thought 6, of two 5
    assert passes["completions"] == 4 * 2 * (6 + 5)
    prompts = plan(replace(task, own_passes=True, own_prompts=True)).positions
    assert prompts["prompt"] == 10 + 4 * 10


def test_published_shapes() -> None:
    """Weights without embeddings, counted in a model of GPT-2's configuration without its memory."""
    from transformers import GPT2Config, GPT2Model, LlamaConfig, LlamaModel

    def llama(width: int, inner: int, layers: int) -> LlamaConfig:
        sizes = {"hidden_size": width, "intermediate_size": inner, "num_hidden_layers": layers}
        heads = {"num_attention_heads": 32, "num_key_value_heads": 8}
        return LlamaConfig(vocab_size=128_256, **sizes, **heads)

    with torch.device("meta"):
        models = {
            "gpt2": GPT2Model(GPT2Config()),
            "llama-1b": LlamaModel(llama(2048, 8192, 16)),
            "llama-8b": LlamaModel(llama(4096, 14_336, 32)),
        }
    for name, model in models.items():
        shape, config = SHAPES[name], model.config
        heads = getattr(config, "num_key_value_heads", config.num_attention_heads)
        width = heads * (config.hidden_size // config.num_attention_heads)
        assert shape.weights == flops_per_position(model) // 2, name
        assert (shape.vocabulary, shape.hidden) == (config.vocab_size, config.hidden_size), name
        assert (shape.layers, shape.key_width) == (config.num_hidden_layers, width), name
