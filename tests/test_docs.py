"""The commands and code of the guide are run, with tiny stand-ins for what would be fetched."""

import re
import shlex
from pathlib import Path

import pytest
import torch

from lightning_ltts import cli
from lightning_ltts.models import checkpoints, published
from lightning_ltts.models.folders import save_folder
from lightning_ltts.models.latent_lm import LatentReasoner, new_reasoner
from lightning_ltts.models.latent_rm import LatentRM
from tests.conftest import BACKBONES
from tests.helpers import save_latent_rm, save_reasoner
from tests.models.test_published import codi_state, colar_checkpoint, make_base

GUIDE = Path(__file__).parent.parent / "docs/checkpoints.md"


@pytest.fixture
def fetched(tmp_path: Path, tokenizer, gpt2: LatentReasoner, latent_rm: LatentRM, monkeypatch) -> Path:
    """A working directory, with what the Hub would give for the names in the guide."""
    hub, here = tmp_path / "hub", tmp_path / "here"
    for folder in (hub, here):
        folder.mkdir()
    torch.manual_seed(0)
    for name, family, head in (
        ("coconut", "gpt2", {}),
        ("codi", "gpt2", {"hidden_size": 8}),
        ("colar", "llama", {"embedding_std": 0.018}),
    ):
        reasoner = new_reasoner(name, BACKBONES[family], tokenizer, 2, thought_head=head)
        save_folder(reasoner, hub / f"latent-tts-{name}")
    save_folder(latent_rm, hub / "latent-tts-rm")
    trained = make_base(hub / "gpt2", "gpt2", extra_rows=3)
    (hub / "coconut").mkdir()
    torch.save({f"base_causallm.{k}": v for k, v in trained.state_dict().items()}, hub / "coconut/checkpoint_22")
    (hub / "CODI-gpt2").mkdir()
    torch.save(codi_state(trained, "gpt2"), hub / "CODI-gpt2/pytorch_model.bin")
    (hub / "CoLaR").mkdir()
    colar_checkpoint(hub / "CoLaR")
    (hub / "CoLaR/base").rename(hub / "Llama-3.2-1B-Instruct")
    make_base(hub / "SmolLM2-135M-Instruct", "llama")

    def folder(repository: str, **_: object) -> str:
        return str(hub / repository.split("/")[1])

    def file(repository: str, path: str, **_: object) -> str:
        return str(hub / repository.split("/")[1] / Path(path).name)

    monkeypatch.setattr(checkpoints, "snapshot_download", folder)
    monkeypatch.setattr(checkpoints, "hf_hub_download", file)
    monkeypatch.setitem(published.EMBEDDING_STD, ("llama", 32), 0.018)  # the real base's is known
    monkeypatch.chdir(here)
    run = here / "logs/demo"
    for part in ("reasoner", "latent_rm"):
        (run / part / "checkpoints").mkdir(parents=True)
    save_reasoner(gpt2, run / "reasoner/checkpoints/best.ckpt")
    save_latent_rm(latent_rm, run / "latent_rm/checkpoints/best.ckpt")
    return here


def test_guide(fetched: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    text = GUIDE.read_text()
    commands = [line.strip() for line in text.splitlines() if re.match(r" {4}ltts (import|export) ", line)]
    assert len(commands) == 11
    for command in commands:
        if "$(" in command:  # needs the package; GGUF files have a test of their own
            continue
        monkeypatch.setattr("sys.argv", shlex.split(command))
        cli.main()
    assert {path.name for path in (fetched / "models").iterdir()} == {
        "coconut", "codi", "colar", "latent-rm", "meta-coconut", "codi-gpt2", "colar-raw", "smollm2", "demo", "demo-rm",
    }  # fmt: skip
    for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
        exec(compile(block, str(GUIDE), "exec"), {})
    assert "tensor([[3, 3, 3, 3]])" in capsys.readouterr().out
