"""Writes `subset/`, the part of the reference data that is shipped, from the whole of it.

    LTTS_GOLDEN=FOLDER python tests/golden/make_subset.py

The data are numbers that the public reference implementation of "Parallel Test-Time Scaling for
Latent Reasoning Models" (arXiv 2510.07745, github.com/ModalityDance/LatentTTS) gave on tiny models
with random weights: a COCONUT reasoner without sampling, with noise and with dropout; losses of a
LatentRM; metrics. Recorded with torch 2.13.0 on a CPU and transformers 4.52.4. What is left out:
CODI, CoLaR, annotation and trained LatentRMs, and tensors that no test reads.
"""

import os
import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file

SUBSET = Path(__file__).with_name("subset")
KEPT = (
    *("coconut/checkpoint", "coconut/meta.json", "coconut/dropout.safetensors"),
    *("latentrm/losses.safetensors", "metrics"),
)
UNREAD = ("sequences_embeds", "step_logits", "position_ids")


def main(whole: Path) -> None:
    shutil.rmtree(SUBSET, ignore_errors=True)
    for name in KEPT:
        target = SUBSET / name
        target.parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (whole / name).is_dir() else shutil.copyfile
        copy(whole / name, target)
    tensors = load_file(whole / "coconut/golden.safetensors")
    read = {name: x for name, x in tensors.items() if not name.endswith(UNREAD)}
    save_file(read, SUBSET / "coconut/golden.safetensors")


if __name__ == "__main__":
    main(Path(os.environ["LTTS_GOLDEN"]))
