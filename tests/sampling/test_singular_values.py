"""Every row is compared with a model whose matrices are really perturbed, one model for each trajectory."""

import copy
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers import DynamicCache, PreTrainedTokenizerFast

from lightning_ltts.engine.rollout import RolloutEngine
from lightning_ltts.errors import ConfigError
from lightning_ltts.models.families import FAMILIES, Family
from lightning_ltts.models.latent_lm import LatentReasoner, left_pad
from lightning_ltts.sampling import Deterministic, SingularValueNoise
from lightning_ltts.sampling.keyed_random import fold, normal, question_keys, sample_keys
from lightning_ltts.sampling.singular_values import factors_of
from lightning_ltts.sampling.streams import Stream
from lightning_ltts.training.optimization import adamw
from lightning_ltts.training.start import Lora, Start
from tests.tiny import BACKBONES
from tests.training.helpers import make_coconut, make_data, make_trainer

TARGETS = ["q", "k", "v", "o", "mlp_up", "mlp_down"]
NAMES, SEED = ["a", "b", "c"], 4


def matrices(reasoner: LatentReasoner, target: str) -> Iterator[Tensor]:
    """The weights (in, out) of a target, block by block, by names that stand here once more."""
    for block in reasoner.blocks:
        if reasoner.family.model_type != "gpt2":
            path = {
                "q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj",
                "o": "self_attn.o_proj", "mlp_up": "mlp.up_proj", "mlp_down": "mlp.down_proj",
            }[target]  # fmt: skip
            yield block.get_submodule(path).weight.T
        elif target in "qkv":
            start = 32 * "qkv".index(target)
            yield block.attn.c_attn.weight[:, start : start + 32]
        else:
            yield {
                "o": block.attn.c_proj, "mlp_up": block.mlp.c_fc, "mlp_down": block.mlp.c_proj,
            }[target].weight  # fmt: skip


@torch.no_grad()
def perturbed(reasoner: LatentReasoner, target: str, alpha: float, key: Tensor) -> LatentReasoner:
    """A copy with the weights of one trajectory."""
    copied = copy.deepcopy(reasoner)
    for block, weight in enumerate(matrices(copied, target)):
        left, values, right = torch.linalg.svd(weight.double(), full_matrices=False)
        draws = normal(fold(key, Stream.SINGULAR_VALUES, block)[None], len(values))[0].double()
        weight.copy_(left @ torch.diag(values * (1 + alpha * draws)) @ right)
    return copied


@torch.no_grad()
def plain_rollout(
    clean: LatentReasoner, noisy: LatentReasoner, ids: list[int], prompt: bool, max_tokens: int
) -> tuple[Tensor, list[int]]:
    """Thoughts (T, d) and answer of one trajectory: the noisy model thinks, the clean one writes."""
    cache = DynamicCache(config=clean.backbone.config)

    def read(model: LatentReasoner, inputs: Tensor) -> Tensor:
        start = cache.get_seq_length()
        places = torch.arange(start, start + inputs.shape[1])[None]
        return model.read(inputs, places, cache)[:, -1:]

    embedded = clean.embed(torch.tensor([ids]))
    read(noisy if prompt else clean, embedded[:, :-1])
    pending, thoughts = embedded[:, -1:], []
    for _ in range(clean.spec.num_thoughts):
        pending = read(noisy, pending)
        thoughts.append(pending[0, 0])
    inputs = torch.cat([pending, clean.embed(torch.tensor([[clean.end_id]]))], 1)
    answer: list[int] = []
    while len(answer) < max_tokens:
        token = int(clean.logits(read(clean, inputs)).argmax())
        if token == clean.eos_id:
            break
        answer.append(token)
        inputs = clean.embed(torch.tensor([[token]]))
    return torch.stack(thoughts), answer


PROMPTS = [[7, 8, 9, 10, 3], [11, 12, 3], [14, 15, 16, 17, 18, 3]]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "prompt"),
    [*((target, True) for target in TARGETS), ("q", False), ("mlp_down", False)],
)
def test_equals_perturbed_weights(reasoner: LatentReasoner, target: str, prompt: bool) -> None:
    sampler = SingularValueNoise(0.6, target, prompt)
    rollouts = RolloutEngine(reasoner, sampler).rollout(
        *left_pad(PROMPTS, reasoner.pad_id), 2, NAMES, seed=SEED
    )
    greedy = RolloutEngine(reasoner).rollout(*left_pad(PROMPTS, reasoner.pad_id))
    keys = sample_keys(question_keys(SEED, NAMES), 2)
    for q, ids in enumerate(PROMPTS):
        for n in range(2):
            noisy = perturbed(reasoner, target, 0.6, keys[q, n])
            thoughts, answer = plain_rollout(reasoner, noisy, ids, prompt, 5)
            assert torch.allclose(rollouts.thoughts[q, n], thoughts, atol=2e-4)
            assert rollouts.answer_ids[q, n].tolist() == answer + [reasoner.pad_id] * (
                5 - len(answer)
            )
            assert not torch.allclose(greedy.thoughts[q, 0, 0], thoughts[0], atol=1e-2)


def test_families_say_where_all_matrices_are() -> None:
    assert all(list(family.matrices) == TARGETS for family in FAMILIES.values())


def test_a_family_without_the_matrix(gpt2: LatentReasoner) -> None:
    gpt2.family = Family("odd", "body", "h", "wte", {}, ())
    sampler = SingularValueNoise()
    with (
        pytest.raises(ConfigError, match="the odd family has no matrix 'v'; its entry names none"),
        sampler.active(gpt2, keys=torch.arange(2), step=0, phase="thought"),
    ):
        pass


def outputs(
    model: LatentReasoner, sampler: SingularValueNoise, phase: str, step: int = 0
) -> Tensor:
    """What the fused matrix of the first block gives for ones, two rows of three positions."""
    module = model.blocks[0].attn.c_attn
    with sampler.active(model, keys=torch.arange(2), step=step, phase=phase):
        return module(torch.ones(2, 3, 32))


def test_held_in_all_passes_and_off_in_the_answer(gpt2: LatentReasoner) -> None:
    """The same at every step and position, another for each row, and only in its own columns."""
    sampler = SingularValueNoise(0.6, "k")
    clean = gpt2.blocks[0].attn.c_attn(torch.ones(2, 3, 32))
    thought = outputs(gpt2, sampler, "thought")
    assert torch.equal(thought, outputs(gpt2, sampler, "thought", step=2))
    assert torch.equal(thought, outputs(gpt2, sampler, "prompt", step=-1))
    assert torch.allclose(thought, thought[:, :1].expand_as(thought), atol=1e-5)
    assert torch.equal(outputs(gpt2, sampler, "answer"), clean)
    assert torch.equal(outputs(gpt2, SingularValueNoise(0.6, "k", prompt=False), "prompt"), clean)
    changed = (thought - clean).abs()
    assert not changed[..., :32].any()
    assert not changed[..., 64:].any()
    assert (changed[..., 32:64] > 0).all()
    assert not torch.allclose(thought[0], thought[1])
    # nothing is left behind
    assert torch.equal(gpt2.blocks[0].attn.c_attn(torch.ones(2, 3, 32)), clean)


def test_strength_is_alpha(gpt2: LatentReasoner) -> None:
    """Twice the alpha is twice the change, of the same draws."""
    clean = gpt2.blocks[0].attn.c_attn(torch.ones(2, 3, 32))
    one, two = (outputs(gpt2, SingularValueNoise(alpha), "thought") for alpha in (0.3, 0.6))
    assert torch.allclose(2 * (one - clean), two - clean, atol=1e-4)


def optimizer_of(reasoner: LatentReasoner, lr: float) -> Optimizer:
    """The one that trainings use in full precision, which is fused."""
    module = SimpleNamespace(parameters=reasoner.parameters, lr=lr, weight_decay=0.0, warmup=0.0)
    module.trainer = SimpleNamespace(precision="32-true", estimated_stepping_batches=1)
    made: Optimizer = adamw(module, "constant")["optimizer"]
    assert made.param_groups[0]["fused"]
    return made


def test_decomposed_once_and_again_when_weights_change(
    gpt2: LatentReasoner, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, svd = [], torch.linalg.svd
    monkeypatch.setattr(torch.linalg, "svd", lambda *a, **k: made.append(1) or svd(*a, **k))
    engine = RolloutEngine(gpt2, SingularValueNoise())
    ids, mask = left_pad(PROMPTS, gpt2.pad_id)
    first = engine.rollout(ids, mask, 2, NAMES).thoughts
    assert len(made) == len(gpt2.blocks)
    RolloutEngine(gpt2, SingularValueNoise(0.1)).rollout(ids, mask, 2, NAMES)
    assert len(made) == len(gpt2.blocks)  # of the same weights
    weight = gpt2.blocks[0].attn.c_attn.weight
    optimizer = optimizer_of(gpt2, lr=0.3)
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    changed = engine.rollout(ids, mask, 2, NAMES).thoughts
    assert len(made) == len(gpt2.blocks) + 1
    fresh = RolloutEngine(copy.deepcopy(gpt2), SingularValueNoise()).rollout(ids, mask, 2, NAMES)
    assert torch.equal(changed, fresh.thoughts)
    assert not torch.allclose(changed, first, atol=1e-2)
    made.clear()
    gpt2.load_state_dict(copy.deepcopy(gpt2).state_dict())
    gpt2.double()
    with SingularValueNoise().active(gpt2, keys=torch.arange(2), step=0, phase="thought"):
        assert gpt2.blocks[0].attn.c_attn(torch.ones(2, 1, 32).double()).dtype == torch.float64
    assert len(made) == 1


@pytest.mark.slow
def test_a_training_perturbs_the_weights_that_it_has(tmp_path: Path) -> None:
    """Each step of a training under it decomposes the weights that the step before has left."""
    module = make_coconut(sampler=SingularValueNoise(0.4))
    reasoner, used = module.reasoner, []
    matrix, transposed = reasoner.family.matrix("v"), reasoner.family.transposed

    class Compared(Callback):
        def on_train_batch_end(self, *_: object) -> None:
            modules = [block.get_submodule(matrix.path) for block in reasoner.blocks]
            used.append([factors_of(one, matrix, transposed) for one in modules])
            for factors, weight in zip(used[-1], matrices(reasoner, "v"), strict=True):
                made = (factors.left * factors.values) @ factors.right.T
                assert torch.allclose(made, weight, atol=1e-5)

    make_trainer(tmp_path, callbacks=[Compared()]).fit(module, datamodule=make_data(32))
    assert len(used) == 6
    first, last = used[0][0].values, used[-1][0].values
    assert not torch.allclose(first, last, atol=1e-3), "the weights should have changed"


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_adapters_are_part_of_the_matrix(family: str, tokenizer: PreTrainedTokenizerFast) -> None:
    """As if they were merged."""

    class Known:
        def build(self) -> PreTrainedTokenizerFast:
            return tokenizer

    start = Start(tokenizer=Known(), backbone=BACKBONES[family], lora=Lora(rank=2, dropout=0.0))
    adapted = start.build("coconut", {"num_thoughts": 2}).eval()
    matrix, transposed = adapted.family.matrix("v"), adapted.family.transposed
    module = adapted.blocks[0].get_submodule(matrix.path)
    for name, parameter in module.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter)
    factors = factors_of(module, matrix, transposed)
    eye = torch.eye(32)[None]
    bias = 0 if module.bias is None else module.bias
    acting = (module(eye)[0] - bias)[:, -factors.right.shape[0] :]
    assert torch.allclose((factors.left * factors.values) @ factors.right.T, acting, atol=1e-4)


def test_found_in_a_search_and_trained_with(gpt2: LatentReasoner) -> None:
    """What inference mode leaves behind can be saved for gradients, which do not reach U, s and V."""
    with torch.inference_mode():
        outputs(gpt2, SingularValueNoise(), "thought")
    outputs(gpt2, SingularValueNoise(), "thought").sum().backward()
    gradient = gpt2.blocks[0].attn.c_attn.weight.grad
    assert torch.allclose(gradient, torch.full_like(gradient, 6.0))  # that of x W alone


def test_deterministic_keys(gpt2: LatentReasoner) -> None:
    """What a trajectory draws depends on its key alone, and stays the same in later versions."""
    keys = fold(torch.tensor([7]), Stream.SINGULAR_VALUES, 0)
    assert keys.item() == fold(7, 11, 0).item()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"alpha": 0.0}, "use Deterministic"),
        ({"alpha": float("nan")}, "nan"),
        ({"target": "w"}, "use one of q, k, v, o, mlp_up, mlp_down"),
    ],
)
def test_options_that_make_no_sense(options: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        SingularValueNoise(**options)


def test_settings_and_strength() -> None:
    sampler = SingularValueNoise(0.5, "o", prompt=False)
    expected = {"class": "SingularValueNoise", "alpha": 0.5, "target": "o", "prompt": False}
    assert sampler.settings() == expected
    assert sampler.scaled(0.5).settings() == expected | {"alpha": 0.25}
    assert repr(sampler) == "SingularValueNoise(alpha=0.5, target='o', prompt=False)"
    assert (sampler.perturbs_prompt, SingularValueNoise().perturbs_prompt) == (False, True)


def test_its_arithmetic_is_counted(gpt2: LatentReasoner) -> None:
    """x U and the product with V^T, in two blocks; nothing where it does not act."""
    noise, quiet = SingularValueNoise(), SingularValueNoise(prompt=False)
    assert noise.flops(gpt2, "thought") == noise.flops(gpt2, "prompt") == 2 * 2 * 32 * (32 + 32)
    assert quiet.flops(gpt2, "prompt") == noise.flops(gpt2, "answer") == 0
    wide = SingularValueNoise(target="mlp_up")
    assert wide.flops(gpt2, "thought") == 2 * 2 * 32 * (32 + 128)
    assert Deterministic().flops(gpt2, "thought") == 0


@pytest.mark.parametrize("mixed", [True, False])
def test_half_precision(reasoner: LatentReasoner, mixed: bool) -> None:
    """The change is that of full precision, to the eight bits of bfloat16."""
    module = reasoner.blocks[0].get_submodule(reasoner.family.matrix("v").path)
    x, keys, sampler = torch.randn(2, 3, 32), torch.arange(2), SingularValueNoise(0.6)
    with torch.no_grad(), sampler.active(reasoner, keys=keys, step=0, phase="thought"):
        whole = module(x)
        half = x if mixed else x.bfloat16()
        if not mixed:
            reasoner.bfloat16()
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            low = module(half)
    assert low.dtype == torch.bfloat16
    assert torch.allclose(low.float(), whole, atol=0.05 * float(whole.abs().max()))
