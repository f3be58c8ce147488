"""Models to the Hugging Face Hub and back, against a stand-in on this machine."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lightning_ltts import load_reasoner
from lightning_ltts.errors import CheckpointError
from lightning_ltts.models.hub import push_folder
from lightning_ltts.models.latent_lm import LatentReasoner, fingerprint
from lightning_ltts.models.latent_rm import LatentRM
from tests.hub_stand_in import TOKEN, stand_in

# the library reads its address when it is imported: so in a process of its own
PUSH_AND_FETCH = """
import sys
from lightning_ltts.cli import main
from lightning_ltts.models.latent_lm import LatentReasoner, fingerprint
from lightning_ltts.models.latent_rm import LatentRM
sys.argv = ["ltts", "push", "reasoner", "me/demo", "--private", "--message", "The first"]
main()
LatentRM.from_pretrained("rm").push_to_hub("me/demo-rm", revision="main")
print(fingerprint(LatentReasoner.from_pretrained("me/demo", num_thoughts=3)))
print(fingerprint(LatentRM.from_pretrained("me/demo-rm", revision="main")))
sys.argv = ["ltts", "import", "me/demo", "fetched"]
main()
"""


@pytest.mark.processes
def test_to_the_hub_and_back(gpt2: LatentReasoner, latent_rm: LatentRM, tmp_path: Path) -> None:
    gpt2.save_pretrained(tmp_path / "reasoner")
    latent_rm.save_pretrained(tmp_path / "rm")
    with stand_in() as (address, hub):
        environment = {"HF_ENDPOINT": address, "HF_TOKEN": TOKEN, "HF_HOME": str(tmp_path / "hf")}
        done = subprocess.run(
            [sys.executable, "-c", PUSH_AND_FETCH],
            cwd=tmp_path,
            env=os.environ
            | environment
            | {"PYTHONPATH": str(Path.cwd()), "HF_HUB_DISABLE_XET": "1"},
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stderr
    assert f"reasoner: pushed to {address}/me/demo\n" in done.stdout
    assert f"{fingerprint(gpt2)}\n{fingerprint(latent_rm)}\n" in done.stdout
    made, first = hub.said[:2]
    assert (made["name"], made["visibility"]) == ("demo", "private")
    assert (first["summary"], first["revision"]) == ("The first", "main")
    local = {path.name: path.read_bytes() for path in (tmp_path / "reasoner").iterdir()}
    assert hub.repositories["me/demo"] == local
    facts = json.loads((tmp_path / "fetched/provenance.json").read_text())
    assert facts["source"] == "me/demo"
    assert fingerprint(load_reasoner(tmp_path / "fetched")) == fingerprint(gpt2)


def test_save_and_load_as_transformers_do(
    gpt2: LatentReasoner, latent_rm: LatentRM, tmp_path: Path
) -> None:
    folder = gpt2.save_pretrained(tmp_path / "r")
    loaded = LatentReasoner.from_pretrained(folder, num_thoughts=2, dtype=torch.bfloat16)
    assert (loaded.spec.num_thoughts, loaded.backbone.dtype) == (2, torch.bfloat16)
    assert fingerprint(load_reasoner(folder)) == fingerprint(gpt2)
    again = LatentRM.from_pretrained(latent_rm.save_pretrained(tmp_path / "rm"))
    assert fingerprint(again) == fingerprint(latent_rm)
    with pytest.raises(CheckpointError, match="holds a latent reasoner, but a LatentRM is needed"):
        LatentRM.from_pretrained(folder)


@pytest.mark.slow
def test_what_cannot_be_pushed(gpt2: LatentReasoner, tmp_path: Path, monkeypatch) -> None:
    with pytest.raises(CheckpointError, match="is not the folder of a model"):
        push_folder(tmp_path, "me/demo")
    folder = gpt2.save_pretrained(tmp_path / "r")
    with pytest.raises(CheckpointError, match="give owner/name, for instance me/r"):
        push_folder(folder, "demo")
    with stand_in() as (address, hub):
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
        with pytest.raises(
            CheckpointError, match=r"could not be pushed to me/demo \(.*401.*log in"
        ):
            push_folder(folder, "me/demo", token="hf_another")
    assert hub.repositories == {}
