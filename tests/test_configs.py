"""Every shipped experiment is composed, and made with tiny stand-ins for what it starts from."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import hydra
import pytest
import torch
import yaml
from omegaconf import OmegaConf

from lightning_ltts import cli, load_reasoner
from lightning_ltts.cli.hydra_front import config_folder
from lightning_ltts.data.graph_problems import GraphProblems
from lightning_ltts.data.problems import HubProblems
from lightning_ltts.models import checkpoints
from lightning_ltts.models.folders import save_folder
from lightning_ltts.models.latent_lm import LatentReasoner, new_reasoner
from lightning_ltts.models.latent_rm import LatentRM
from lightning_ltts.prediction import LatentSearch
from lightning_ltts.trainer import Trainer
from lightning_ltts.training import start as training
from lightning_ltts.training.curriculum import Curriculum
from tests.helpers import save_latent_rm, save_reasoner
from tests.tiny import BACKBONES

pytestmark = pytest.mark.slow

FOLDER = config_folder()
FILES = {
    str(path.relative_to(FOLDER / "experiment").with_suffix("")): path
    for path in sorted(FOLDER.rglob("experiment/**/*.yaml"))
}


def header(experiment: str) -> list[str]:
    """The comment that an experiment's file opens with, line by line."""
    lines = FILES[experiment].read_text().splitlines()
    end = next(i for i, line in enumerate(lines) if not line.startswith("#"))
    return [line.removeprefix("#").strip() for line in lines[:end]]


def commands(experiment: str) -> list[list[str]]:
    """The commands in an experiment's header, as words."""
    return [line.split() for line in header(experiment) if line.startswith("ltts ")]


@pytest.mark.parametrize("experiment", FILES)
def test_header(experiment: str) -> None:
    """What it is, the commands that run it, its time, and what to expect."""
    package, about, *rest = header(experiment)
    assert package == "@package _global_"
    verbs, _, text = about.partition(": ")
    assert len(about) <= 80
    assert text
    given = commands(experiment)
    assert {words[1] for words in given} == set(verbs.split(" or "))
    assert {words[2] for words in given} == {f"experiment={experiment}"}
    assert any(line.startswith("Time: ") for line in rest)
    assert any(line.startswith("Expect: ") for line in rest)


@pytest.fixture
def overrides(
    gpt2: LatentReasoner, latent_rm: LatentRM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """An empty folder with problem files and checkpoints, and the options that name them."""
    monkeypatch.chdir(tmp_path)
    for split, names in (
        ("train", ["gsm8k_train_steps", "mawps_asdiv_train_steps"]),
        ("eval", ["gsm_valid", "gsm_test", "gsm_hard", "multiarith", "svamp_test"]),
    ):
        (tmp_path / split).mkdir()
        for name in names:
            rows = [{"question": f"{name} {i} and {i}?", "answer": str(2 * i)} for i in range(3)]
            (tmp_path / split / f"{name}.json").write_text(json.dumps(rows))
    for path in ("train/prosqa_train", "eval/prosqa_valid", "eval/prosqa_test"):
        rows = [
            {"question": f"Is {path} {i} or not?", "steps": [], "answer": "It is."}
            for i in range(3)
        ]
        (tmp_path / f"{path}.json").write_text(json.dumps(rows))
    save_reasoner(gpt2, tmp_path / "r.ckpt")
    save_latent_rm(latent_rm, tmp_path / "rm.ckpt")
    return ["reasoner=r.ckpt", "latent_rm=rm.ckpt", "problems_dir=.", "trainer.accelerator=cpu"]


LLAMA = {"recipes/codi_llama", "recipes/colar_cot", "recipes/colar", "recipes/colar_small"}
LEARNED_SPREAD = {  # what the reinforcement stage starts from
    "num_thoughts": 4, "open_ended": True, "thought_head": {"embedding_std": 0.02, "spread": True},
}  # fmt: skip


def run(
    experiment: str, arguments: list[str], tokenizer, monkeypatch: pytest.MonkeyPatch
) -> tuple[Any, Any]:
    """Model and data of an experiment's last command, which stops before it runs."""
    ran = []

    def pretrained(path: str, base: str | None, dtype: torch.dtype, **spec) -> LatentReasoner:
        """Stands in for GPT-2, Llama and the checkpoints of earlier stages."""
        family = "llama" if experiment in LLAMA or spec.get("method") == "colar" else "gpt2"
        if "colar_grpo" in experiment:
            spec |= LEARNED_SPREAD
        method = spec.pop("method", "coconut")
        spec.pop("tokens", None)  # a published model's are its own, but for those that are named
        return new_reasoner(method, BACKBONES[family], tokenizer, **{"num_thoughts": 3, **spec})

    def stop(self, model, datamodule=None, **options) -> None:
        ran.append((model, datamodule))

    monkeypatch.setattr(training, "load_reasoner", pretrained)
    monkeypatch.setattr(training, "_start_markers", lambda reasoner, token: None)
    verb = commands(experiment)[-1][1]  # one stands for all: they make the same model and data
    monkeypatch.setattr(Trainer, verb, stop)
    monkeypatch.setattr(sys, "argv", ["ltts", verb, f"experiment={experiment}", *arguments])
    cli.main()
    assert ran
    return ran[-1]


@pytest.mark.parametrize(
    "experiment", [name for name in FILES if not name.startswith("benchmark/")]
)
def test_every_experiment_can_be_made(
    experiment: str, overrides: list[str], tokenizer, monkeypatch
) -> None:
    """Those of published models have a test of their own."""
    _, data = run(experiment, overrides, tokenizer, monkeypatch)
    assert type(data).__name__ == {
        "latent_rm": "MiningData",
        "explicit_latent_rm": "MiningData",
        "prosqa_latent_rm": "MiningData",
        "search": "PredictionData",
        "explicit_search": "PredictionData",
        "tune": "PredictionData",
        "thoughts": "PredictionData",
    }.get(Path(experiment).name, "ProblemData")


def composed(experiment: str, *overrides: str) -> Any:
    """An experiment's composed tree."""
    with hydra.initialize_config_dir(str(FOLDER), version_base="1.3"):
        options = [f"experiment={experiment}", *overrides, "hydra.runtime.output_dir=x"]
        return hydra.compose("config", options, return_hydra_config=True)


def instance(tree: Any) -> Any:
    """What a class path and its arguments make."""
    return hydra.utils.get_class(tree.class_path)(**tree.get("init_args", {}))


@pytest.mark.parametrize("sampler", ["gaussian_noise", "mc_dropout", "deterministic"])
def test_one_sampler_for_mining_and_search(sampler: str) -> None:
    """As it is composed; the presets of published models choose theirs on whole command lines."""
    mining = composed("demo/latent_rm", f"sampler={sampler}").data.init_args.sampler
    search = composed("demo/search", f"sampler={sampler}").model.init_args.sampler
    assert mining == search
    assert type(instance(search)).__name__.lower() == sampler.replace("_", "")


PAPER = {  # arXiv 2510.07745's released scripts: p, sigma, T, template, marker, rule
    "coconut": (0.2, 0.6, 6, "{question}\n", "#", "only"),
    "codi": (0.2, 1.4, 6, "{question}", "", "last"),
    "colar": (
        0.03, 0.01, 64, "Question: {question} Let's think step by step:(Thinking speed: 2)###",
        "Answer:", "only",
    ),
}  # fmt: skip


@pytest.fixture
def published(tmp_path: Path, tokenizer, monkeypatch) -> list[str]:
    """A folder in the published layout for every name on the Hub; returns what was fetched."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    heads = {"coconut": {}, "codi": {"hidden_size": 8}, "colar": {"embedding_std": 0.018}}
    for method, head in heads.items():
        backbone = BACKBONES["llama" if method == "colar" else "gpt2"]
        options = {"thought_head": head, "open_ended": method == "colar"}
        reasoner = new_reasoner(method, backbone, tokenizer, 1, **options)
        save_folder(reasoner, tmp_path / f"latent-tts-{method}")
        if method == "coconut":
            rm = LatentRM.from_reasoner(reasoner)
            rm.spec = replace(rm.spec, reasoner=None)  # a published one does not say whose it is
            save_folder(rm, tmp_path / "latent-tts-rm")
    for ours in tmp_path.glob(f"*/{checkpoints.FOLDER_ENTRY}"):
        ours.unlink()  # published folders have no such file
    fetched = []

    def fetch(repository: str, revision: str | None, allow_patterns: list[str]) -> str:
        fetched.append(repository)
        return str(tmp_path / repository.removeprefix("ModalityDance/"))

    monkeypatch.setattr(checkpoints, "snapshot_download", fetch)
    return fetched


CHOICES = [
    (method, "gsm8k_test", sampler)
    for method in PAPER
    for sampler in ("paper_dropout", "paper_noise")
]
CHOICES += [(method, "math500", "paper_noise") for method in ("coconut", "codi")]


@pytest.mark.parametrize(("method", "benchmark", "sampler"), CHOICES)
def test_presets_of_published_models(
    method: str, benchmark: str, sampler: str, published: list[str], tokenizer, monkeypatch
) -> None:
    """Each preset is composed and made with a tiny stand-in for the weights."""
    if benchmark == "math500":
        pytest.importorskip("math_verify", reason="the extra 'math' is not installed")
    arguments = [f"model=latent_tts_{method}", f"sampler={sampler}", "trainer.accelerator=cpu"]
    model, data = run(f"benchmark/{benchmark}", arguments, tokenizer, monkeypatch)
    p, sigma, thoughts, template, marker, which = PAPER[method]
    which = "latex" if benchmark == "math500" else which
    spec = model.reasoner.spec
    assert (spec.method, spec.num_thoughts, spec.max_answer_tokens) == (method, thoughts, 64)
    assert (spec.prompt_template, spec.answer_marker, spec.answer_which) == (
        template, marker, which,
    )  # fmt: skip
    assert spec.open_ended == (method == "colar")
    if sampler == "paper_dropout":
        assert model.sampler.p == p
        assert model.sampler.sites == (("mlp_output",) if method == "colar" else ("residual",))
        assert (model.sampler.prompt, model.sampler.answer) == (True, method == "colar")
    else:
        assert model.sampler.std == sigma
    assert model.num_samples == 64
    assert isinstance(data.source, HubProblems)
    names = [f"ModalityDance/latent-tts-{method}", "ModalityDance/latent-tts-rm"]
    assert published == names[: 2 if method == "coconut" else 1]
    assert (model.latent_rm is not None) == (method == "coconut")
    assert (model.beam is not None) == (method == "coconut")


@pytest.mark.parametrize("name", ["gsm_hard", "multiarith", "svamp", "asdiv_a", "gsm_plus"])
def test_presets_that_differ_by_their_data(name: str) -> None:
    """All else is that of GSM8K's preset, which is made above."""
    one, other = composed(f"benchmark/{name}"), composed("benchmark/gsm8k_test")
    assert one.data.class_path == other.data.class_path
    assert one.data.init_args.keys() == other.data.init_args.keys()
    assert isinstance(instance(one.data.init_args.problems), HubProblems)
    assert one.data.init_args.problems != other.data.init_args.problems
    tree, plain = (OmegaConf.to_container(cfg) for cfg in (one, other))
    assert tree["name"].startswith(f"benchmark/{name}/")
    own = {key: tree[key] for key in ("data", "name", "hydra")}
    assert tree == plain | own


@pytest.mark.parametrize("method", list(PAPER))
def test_settings_of_published_models_come_with_their_format(
    method: str, published: list[str]
) -> None:
    """Spelt out or not, the settings make the same predictions, which resume each other."""
    _, _, thoughts, template, marker, which = PAPER[method]
    spec = {"num_thoughts": thoughts, "max_answer_tokens": 64, "prompt_template": template}
    spec |= {"answer_marker": marker, "answer_which": which}
    name = f"ModalityDance/latent-tts-{method}"
    sampler = hydra.utils.instantiate({"_target_": "lightning_ltts.sampling.Deterministic"})
    plain, given = (LatentSearch(name, sampler, spec=changes) for changes in (None, spec))
    assert plain.settings() == given.settings()


def test_sampler_presets_are_the_papers() -> None:
    """Noise and dropout for COCONUT (arXiv 2510.07745, section 1.2); SVP for COCONUT and CODI.

    That of SVP is github jihwan1205/Singular-Value-Perturbation: on the values, prompt included.
    """
    noise, dropout, values, codi = (
        composed("demo/search", f"sampler={name}").sampler.init_args
        for name in ("gaussian_noise", "mc_dropout", "singular_values", "singular_values_codi")
    )
    assert noise == {"std": 0.6}
    assert (dropout.p, dropout.sites) == (0.2, ["residual"])
    assert values == {"alpha": 0.6, "target": "v", "prompt": True}
    assert codi == {"alpha": 0.5, "target": "v", "prompt": True}


@pytest.mark.parametrize("method", ["grpo", "learned_noise"])
def test_rewards_on_the_graph_task(method: str) -> None:
    """Of problems that no other training has seen."""
    chosen = composed(f"methods/{method}", "data=graph_problems")
    train = instance(chosen.data.init_args.train)
    assert (type(train), train.split) == (GraphProblems, "mine")


def test_reinforcement_explores_by_noise() -> None:
    assert composed("methods/grpo").model.init_args.sampler.init_args == {"std": 0.6}


# published scripts: lr, weight decay, warm-up, schedule, batch x accumulation per device, epochs
RECIPES = {
    "coconut": (1e-4, 0.01, 0.0, "constant", 32, 22),  # on each of four devices
    "coconut_prosqa": (1e-4, 0.01, 0.0, "constant", 32, 50),
    "codi_gpt2": (3e-3, 0.1, 0.03, "cosine", 128, 40),
    "codi_llama": (8e-4, 0.1, 0.03, "cosine", 128, 10),
    "colar": (1e-4, 0.01, 0.0, "constant", 256, 50),
}


@pytest.mark.parametrize("recipe", list(RECIPES))
def test_recipes_are_the_papers(recipe: str) -> None:
    cfg = composed(f"recipes/{recipe}")
    model, trainer = cfg.model.init_args, cfg.trainer
    lr, decay, warmup, schedule, batch, epochs = RECIPES[recipe]
    assert (model.lr, model.warmup, model.get("schedule", "cosine")) == (lr, warmup, schedule)
    assert model.get("weight_decay", 0.01) == decay
    assert cfg.data.init_args.batch_size * trainer.get("accumulate_grad_batches", 1) == batch
    assert trainer.max_epochs == epochs
    assert trainer.gradient_clip_val == (2.0 if "codi" in recipe else None)
    if "coconut" in recipe:
        assert model.reset_optimizer == "epoch"
        stages = tuple(model.curriculum.stage_epochs)
        curriculum = Curriculum(**{**model.curriculum, "stage_epochs": stages})
        last = curriculum.last
        assert (curriculum.total_epochs, last.num_thoughts, last.skipped_steps) == (epochs, 6, None)
    else:
        assert (model.start.lora.rank, model.start.lora.alpha) == (128, 32)


@pytest.mark.parametrize("recipe", ["colar_cot", "colar", "colar_grpo"])
def test_adapters_of_colar(recipe: str) -> None:
    """Queries and values alone; the reinforcement stage trains without dropout."""
    lora = composed(f"recipes/{recipe}").model.init_args.start.lora
    dropout = 0.0 if recipe == "colar_grpo" else 0.1
    assert lora == {
        "rank": 128, "alpha": 32, "targets": ["q_proj", "v_proj"], "dropout": dropout,
    }  # fmt: skip
    if recipe == "colar_cot":  # the published end is a token that Llama has
        tokens = composed("recipes/colar_cot").model.init_args.spec.tokens
        assert tokens == {"start": None, "end": "###", "latent": None}


def test_every_reasoner_is_chosen_by_one_metric() -> None:
    """No experiment says again by which metric the best checkpoint is chosen."""
    repeated = [name for name, path in FILES.items() if "monitor" in path.read_text()]
    assert repeated == []
    assert composed("methods/codi").callbacks.checkpoint.init_args.monitor == "val/score"
    latent_rm = composed("files/latent_rm").callbacks
    assert latent_rm.checkpoint.init_args.monitor == "val/weighted_vote"
    assert "early_stopping" not in latent_rm  # noise would end a training before it learns


def test_data_files_say_what_they_are_for() -> None:
    """A name such as `multiarith` does not say whether it trains, mines or is searched over."""
    for path in (FOLDER / "data").glob("*.yaml"):
        about, text = path.read_text().split("\n", 1)
        kind = yaml.safe_load(text)["class_path"].rsplit(".", 1)[-1]
        assert about.startswith("# ")
        assert f"({kind})" in about, path


def test_small_recipes_run(tmp_path: Path, monkeypatch) -> None:
    """A few steps of each, one after the other: the others start from the chain of thought."""
    monkeypatch.chdir(tmp_path)
    few = ["data.init_args.train.init_args.size=32", "data.init_args.val.init_args.size=4"]
    few += ["data.init_args.batch_size=32", "trainer.accelerator=cpu"]
    few += ["trainer.enable_progress_bar=false", "callbacks.flat_accuracy=null"]
    recipes = (
        ("cot", "coconut"), ("coconut", "coconut"), ("codi", "codi"), ("colar", "colar"),
        ("colar_grpo", "colar"),
    )  # fmt: skip
    narrow = [f"model.init_args.start.backbone.{x}" for x in ("n_embd=16", "n_layer=2", "n_head=2")]
    own = {name: ["trainer.max_epochs=1"] for name in ("codi", "colar", "colar_grpo")}
    own["cot"] = narrow
    for recipe, kind in recipes:
        words = ["ltts", "fit", f"experiment=recipes/{recipe}_small", *few, *own.get(recipe, [])]
        monkeypatch.setattr(sys, "argv", words)
        cli.main()
        best = tmp_path / f"logs/recipes/{recipe}_small/checkpoints/best.ckpt"
        reasoner = load_reasoner(best)
        assert reasoner.spec.method == kind
        assert (reasoner.spec.num_thoughts == 0) == (recipe == "cot")
        assert not any("lora" in name for name, _ in reasoner.named_parameters())
