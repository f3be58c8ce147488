"""Every shipped experiment is composed, and instantiated with tiny stand-ins for the checkpoints it starts from."""

import json
import sys
from pathlib import Path

import pytest

from lightning_ltts import cli
from lightning_ltts.models.latent_lm import LatentReasoner
from lightning_ltts.models.latent_rm import LatentRM
from tests.helpers import save_latent_rm, save_reasoner

FOLDER = cli.config_folder()
EXPERIMENTS = sorted(
    str(path.relative_to(FOLDER / "experiment").with_suffix("")) for path in FOLDER.rglob("experiment/**/*.yaml")
)
COMMANDS = {"reasoner": ["fit"], "latent_rm": ["mine", "fit"], "search": ["predict"]}


@pytest.fixture
def overrides(gpt2: LatentReasoner, latent_rm: LatentRM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    for split, names in (
        ("train", ["gsm8k_train_steps", "mawps_asdiv_train_steps"]),
        ("eval", ["gsm_valid", "multiarith"]),
    ):
        (tmp_path / split).mkdir()
        for name in names:
            rows = [{"question": f"{name} {i} and {i}?", "answer": str(2 * i)} for i in range(3)]
            (tmp_path / split / f"{name}.json").write_text(json.dumps(rows))
    save_reasoner(gpt2, tmp_path / "r.ckpt")
    save_latent_rm(latent_rm, tmp_path / "rm.ckpt")
    return ["reasoner=r.ckpt", "latent_rm=rm.ckpt", "problems_dir=.", "trainer.accelerator=cpu"]


@pytest.mark.parametrize("sampler", ["gaussian_noise", "mc_dropout", "deterministic"])
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_can_be_made(experiment: str, sampler: str, overrides: list[str], monkeypatch) -> None:
    ran = []
    for command in COMMANDS[Path(experiment).name]:
        monkeypatch.setattr(cli.Trainer, command, lambda self, model, datamodule=None, **kw: ran.append((model, datamodule)))
        monkeypatch.setattr(sys, "argv", ["ltts", command, f"experiment={experiment}", f"sampler={sampler}", *overrides])
        cli.main()
    assert len(ran) == len(COMMANDS[Path(experiment).name])
    model, data = ran[0]
    if "latent_rm" in experiment or "search" in experiment:
        used = data.sampler if hasattr(data, "sampler") else model.sampler
        assert type(used).__name__.lower() == sampler.replace("_", "")


def test_sampler_presets_are_the_papers(overrides: list[str], monkeypatch) -> None:
    """Section 1.2 of arXiv 2510.07745's settings for COCONUT: sigma = 0.6, p = 0.2."""
    import yaml

    noise, dropout = (
        yaml.safe_load((FOLDER / f"sampler/{name}.yaml").read_text()) for name in ("gaussian_noise", "mc_dropout")
    )
    assert noise["init_args"] == {"std": 0.6}
    assert dropout["init_args"]["p"] == 0.2
    assert dropout["init_args"]["sites"] == ["residual"]
