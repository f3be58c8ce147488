import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lightning_ltts import Curriculum, Lora, Start, load_latent_rm, load_reasoner
from lightning_ltts.errors import CheckpointError, ConfigError
from lightning_ltts.models.checkpoints import ENTRY, describe
from lightning_ltts.models.latent_lm import LatentReasoner, fingerprint
from lightning_ltts.models.latent_rm import LatentRM
from tests.helpers import save_latent_rm, save_reasoner


def test_round_trip(reasoner: LatentReasoner, tmp_path: Path) -> None:
    path = save_reasoner(reasoner, tmp_path / "r.ckpt")
    loaded = load_reasoner(path)
    assert fingerprint(loaded) == fingerprint(reasoner)
    assert loaded.encode_prompt("Ann has 3 pens.") == reasoner.encode_prompt("Ann has 3 pens.")
    assert not loaded.training


def test_latent_rm_round_trip(latent_rm: LatentRM, tmp_path: Path) -> None:
    assert fingerprint(
        load_latent_rm(save_latent_rm(latent_rm, tmp_path / "rm.ckpt"))
    ) == fingerprint(latent_rm)


def test_fingerprint_sees_one_weight(gpt2: LatentReasoner) -> None:
    before = fingerprint(gpt2)
    with torch.no_grad():
        gpt2.backbone.base_model.h[1].mlp.c_fc.bias[3] += 1e-6
    assert fingerprint(gpt2) != before


def test_wrong_kind(gpt2: LatentReasoner, latent_rm: LatentRM, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds a LatentRM, but a latent reasoner is needed"):
        load_reasoner(save_latent_rm(latent_rm, tmp_path / "rm.ckpt"))
    with pytest.raises(CheckpointError, match="holds a latent reasoner, but a LatentRM is needed"):
        load_latent_rm(save_reasoner(gpt2, tmp_path / "r.ckpt"))
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(CheckpointError, match="not a checkpoint of this package"):
        load_reasoner(tmp_path / "other.ckpt")


def test_missing_and_cut_off(gpt2: LatentReasoner, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        load_reasoner(tmp_path / "nope.ckpt")
    path = save_reasoner(gpt2, tmp_path / "r.ckpt")
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_reasoner(path)


def test_weights_that_do_not_fit(gpt2: LatentReasoner, tmp_path: Path) -> None:
    entry = describe("reasoner", gpt2)
    state = {f"reasoner.{k}": v for k, v in gpt2.state_dict().items()}
    state.pop("reasoner.backbone.transformer.wpe.weight")
    torch.save({ENTRY: entry, "state_dict": state}, tmp_path / "r.ckpt")
    with pytest.raises(CheckpointError, match="wpe"):
        load_reasoner(tmp_path / "r.ckpt")


def test_no_embeddings_beside_a_tied_head(gpt2: LatentReasoner, tmp_path: Path) -> None:
    """The head alone does not stand for both."""
    state = {f"reasoner.{k}": v for k, v in gpt2.state_dict().items() if "wte" not in k}
    assert "reasoner.backbone.lm_head.weight" in state
    torch.save({ENTRY: describe("reasoner", gpt2), "state_dict": state}, tmp_path / "r.ckpt")
    with pytest.raises(CheckpointError, match=r"lacks the key 'backbone.transformer.wte.weight'"):
        load_reasoner(tmp_path / "r.ckpt")


class Malicious:
    def __reduce__(self) -> tuple:
        return os.system, ("touch {}",)


def test_nothing_is_executed(tmp_path: Path) -> None:
    Malicious.__reduce__ = lambda self: (os.system, (f"touch {tmp_path / 'owned'}",))  # type: ignore[method-assign]
    torch.save({ENTRY: Malicious(), "state_dict": {}}, tmp_path / "bad.ckpt")
    with pytest.raises(CheckpointError, match=r"refused.*system"):
        load_reasoner(tmp_path / "bad.ckpt")
    assert not (tmp_path / "owned").exists()


def test_unsupported_backbone(gpt2: LatentReasoner) -> None:
    from dataclasses import replace

    with pytest.raises(ConfigError, match="model_type 'bert' is not supported"):
        LatentReasoner(replace(gpt2.spec, backbone={"model_type": "bert"}))
    with pytest.raises(ConfigError, match="method 'nope' is not known"):
        LatentReasoner(replace(gpt2.spec, method="nope"))
    with pytest.raises(ConfigError, match="num_thoughts=-1"):
        LatentReasoner(replace(gpt2.spec, num_thoughts=-1))


@pytest.mark.processes
def test_options_in_a_checkpoint_are_read_by_a_fresh_process(tmp_path: Path) -> None:
    """Their classes are admitted by whoever reads, not by what else was imported before."""
    curriculum, lora = Curriculum(), Lora(rank=3)
    torch.save({"curriculum": curriculum, "start": Start(lora=lora)}, tmp_path / "x.ckpt")
    code = (
        "import sys; from pathlib import Path; from lightning_ltts.models.weights import read_pickle;"
        "print(read_pickle(Path(sys.argv[1]))['start'].lora.rank)"
    )
    line = [sys.executable, "-c", code, str(tmp_path / "x.ckpt")]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.stdout == "3\n", done.stderr
