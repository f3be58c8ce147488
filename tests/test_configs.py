"""Every shipped experiment is composed, and instantiated with tiny stand-ins for the checkpoints it starts from."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import hydra
import pytest
import torch

from lightning_ltts import cli, load_reasoner
from lightning_ltts.cli.hydra_front import config_folder
from lightning_ltts.data.problems import HubProblems
from lightning_ltts.models import checkpoints
from lightning_ltts.models.folders import save_folder
from lightning_ltts.models.latent_lm import LatentReasoner, new_reasoner
from lightning_ltts.models.latent_rm import LatentRM
from lightning_ltts.trainer import Trainer
from lightning_ltts.training import start as training
from lightning_ltts.training.curriculum import Curriculum
from tests.conftest import BACKBONES
from tests.helpers import save_latent_rm, save_reasoner

RULES = {"coconut": ("#", "only"), "codi": ("", "last"), "colar": ("Answer:", "only")}

FOLDER = config_folder()
EXPERIMENTS = sorted(
    str(path.relative_to(FOLDER / "experiment").with_suffix("")) for path in FOLDER.rglob("experiment/**/*.yaml")
)
FITTED = ("methods", "recipes")
COMMANDS = {"reasoner": ["fit"], "latent_rm": ["mine", "fit"], "search": ["predict"]}


@pytest.fixture
def overrides(gpt2: LatentReasoner, latent_rm: LatentRM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
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
        rows = [{"question": f"Is {path} {i} or not?", "steps": [], "answer": "It is."} for i in range(3)]
        (tmp_path / f"{path}.json").write_text(json.dumps(rows))
    save_reasoner(gpt2, tmp_path / "r.ckpt")
    save_latent_rm(latent_rm, tmp_path / "rm.ckpt")
    return ["reasoner=r.ckpt", "latent_rm=rm.ckpt", "problems_dir=.", "trainer.accelerator=cpu"]


@pytest.mark.parametrize("sampler", ["gaussian_noise", "mc_dropout", "deterministic"])
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_can_be_made(experiment: str, sampler: str, overrides: list[str], tokenizer, monkeypatch) -> None:
    ran = []

    def pretrained(path: str, base: str | None, dtype: torch.dtype, **spec) -> LatentReasoner:
        family = "llama" if "colar" in path or "colar" in experiment or "llama" in experiment else "gpt2"
        if "grpo" in experiment:
            spec |= {"num_thoughts": 4, "open_ended": True, "thought_head": {"embedding_std": 0.02, "spread": True}}
        return new_reasoner(spec.pop("method"), BACKBONES[family], tokenizer, **spec)

    monkeypatch.setattr(training, "load_reasoner", pretrained)
    monkeypatch.setattr(training, "_start_markers", lambda reasoner, token: None)
    fitted = Path(experiment).parts[0] in FITTED
    for command in ["fit"] if fitted else COMMANDS.get(Path(experiment).name, ["predict"]):
        monkeypatch.setattr(Trainer, command, lambda self, model, datamodule=None, **kw: ran.append((model, datamodule)))
        monkeypatch.setattr(sys, "argv", ["ltts", command, f"experiment={experiment}", f"sampler={sampler}", *overrides])
        cli.main()
    assert ran
    model, data = ran[0]
    if "latent_rm" in experiment or "search" in experiment:
        used = data.sampler if hasattr(data, "sampler") else model.sampler
        assert type(used).__name__.lower() == sampler.replace("_", "")


PAPER = {  # section 1.2 of the notes on arXiv 2510.07745's released scripts: p, sigma, T
    "coconut": (0.2, 0.6, 6, "{question}\n"),
    "codi": (0.2, 1.4, 6, "{question}"),
    "colar": (0.03, 0.01, 64, "Question: {question} Let's think step by step:(Thinking speed: 2)###"),
}


@pytest.mark.parametrize("method", list(PAPER))
@pytest.mark.parametrize("benchmark", ["gsm8k_test", "gsm_hard", "multiarith"])
@pytest.mark.parametrize("sampler", ["paper_dropout", "paper_noise"])
def test_presets_of_published_models(method: str, benchmark: str, sampler: str, tmp_path: Path, monkeypatch, tokenizer) -> None:
    """Each preset is composed and made with a tiny stand-in for the weights, in the layout that is published."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    head = {"coconut": {}, "codi": {"hidden_size": 8}, "colar": {"embedding_std": 0.018}}[method]
    family = "llama" if method == "colar" else "gpt2"
    standin = new_reasoner(method, BACKBONES[family], tokenizer, 1, thought_head=head, open_ended=method == "colar")
    save_folder(standin, tmp_path / "standin")
    rm = LatentRM.from_reasoner(standin)
    rm.spec = replace(rm.spec, reasoner=None)  # a published one does not say whose it is
    save_folder(rm, tmp_path / "rm")
    names = {"reasoner": f"ModalityDance/latent-tts-{method}", "latent_rm": "ModalityDance/latent-tts-rm"}
    fetched = []

    def fetch(repository: str, revision: str | None, allow_patterns: list[str]) -> str:
        fetched.append(repository)
        return str(tmp_path / ("rm" if repository.endswith("rm") else "standin"))

    monkeypatch.setattr(checkpoints, "snapshot_download", fetch)
    ran = []
    monkeypatch.setattr(Trainer, "predict", lambda self, model, datamodule=None, **kw: ran.append((model, datamodule)))
    arguments = [f"experiment=benchmark/{benchmark}", f"model=latent_tts_{method}", f"sampler={sampler}"]
    monkeypatch.setattr(sys, "argv", ["ltts", "predict", *arguments, "trainer.accelerator=cpu"])
    cli.main()
    p, sigma, thoughts, template = PAPER[method]
    model, data = ran[0]
    spec = model.reasoner.spec
    assert (spec.num_thoughts, spec.prompt_template, spec.open_ended) == (thoughts, template, method == "colar")
    assert (spec.answer_marker, spec.answer_which) == RULES[method]
    assert (model.sampler.p if sampler == "paper_dropout" else model.sampler.std) == (
        p if sampler == "paper_dropout" else sigma
    )
    if sampler == "paper_dropout":
        assert model.sampler.sites == (("mlp_output",) if method == "colar" else ("residual",))
        assert (model.sampler.prompt, model.sampler.answer) == (True, method == "colar")
    assert isinstance(data.source, HubProblems)
    assert fetched == [names["reasoner"], names["latent_rm"]][: 2 if method == "coconut" else 1]
    assert (model.latent_rm is not None) == (method == "coconut")


def test_sampler_presets_are_the_papers(overrides: list[str], monkeypatch) -> None:
    """Section 1.2 of arXiv 2510.07745's settings for COCONUT: sigma = 0.6, p = 0.2."""
    import yaml

    noise, dropout = (
        yaml.safe_load((FOLDER / f"sampler/{name}.yaml").read_text()) for name in ("gaussian_noise", "mc_dropout")
    )
    assert noise["init_args"] == {"std": 0.6}
    assert dropout["init_args"]["p"] == 0.2
    assert dropout["init_args"]["sites"] == ["residual"]


RECIPES = {  # of the published scripts: lr, weight decay, warm-up, schedule, batch x accumulation on a device, epochs
    "coconut": (1e-4, 0.01, 0.0, "constant", 32, 22),  # on each of four devices
    "coconut_prosqa": (1e-4, 0.01, 0.0, "constant", 32, 50),
    "codi_gpt2": (3e-3, 0.1, 0.03, "cosine", 128, 40),
    "codi_llama": (8e-4, 0.1, 0.03, "cosine", 128, 10),
    "colar": (1e-4, 0.01, 0.0, "constant", 256, 50),
}


@pytest.mark.parametrize("recipe", list(RECIPES))
def test_recipes_are_the_papers(recipe: str) -> None:
    with hydra.initialize_config_dir(str(FOLDER), version_base="1.3"):
        cfg = hydra.compose("config", [f"experiment=recipes/{recipe}", "hydra.runtime.output_dir=x"], return_hydra_config=True)
    model, trainer = cfg.model.init_args, cfg.trainer
    lr, decay, warmup, schedule, batch, epochs = RECIPES[recipe]
    assert (model.lr, model.warmup, model.get("schedule", "cosine")) == (lr, warmup, schedule)
    assert model.get("weight_decay", 0.01) == decay
    assert cfg.data.init_args.batch_size * trainer.get("accumulate_grad_batches", 1) == batch
    assert trainer.max_epochs == epochs
    if "coconut" in recipe:
        curriculum = Curriculum(**{**model.curriculum, "stage_epochs": tuple(model.curriculum.stage_epochs)})
        assert (curriculum.total_epochs, curriculum.last.num_thoughts, curriculum.last.skipped_steps) == (epochs, 6, None)
    else:
        assert (model.start.lora.rank, model.start.lora.alpha) == (128, 32)


def test_small_recipes_run(tmp_path: Path, monkeypatch) -> None:
    """A few steps of each, one after the other: the chain of thought is what the others start from."""
    monkeypatch.chdir(tmp_path)
    few = ["data.init_args.train.init_args.size=64", "data.init_args.val.init_args.size=8", "data.init_args.batch_size=32"]
    few += ["trainer.accelerator=cpu", "trainer.enable_progress_bar=false", "callbacks.flat_accuracy=null"]
    recipes = (("cot", "coconut"), ("coconut", "coconut"), ("codi", "codi"), ("colar", "colar"), ("colar_grpo", "colar"))
    for recipe, kind in recipes:
        monkeypatch.setattr(sys, "argv", ["ltts", "fit", f"experiment=recipes/{recipe}_small", *few])
        cli.main()
        reasoner = load_reasoner(tmp_path / f"logs/recipes/{recipe}_small/checkpoints/best.ckpt")
        assert reasoner.spec.method == kind
        assert (reasoner.spec.num_thoughts == 0) == (recipe == "cot")
        assert not any("lora" in name for name, _ in reasoner.named_parameters())
