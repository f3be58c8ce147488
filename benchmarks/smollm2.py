"""The real run: SmolLM2-135M as a COCONUT reasoner, from the pretrained weights to the table of searches.

    python benchmarks/smollm2.py model_dir=SMOLLM2.gguf problems_dir=PATH        # a GPU; half an hour was the aim, not measured

Chain of thought, latent stages, mining and LatentRM, then 64 samples and every search on four test sets. What is finished is
kept, and what was begun goes on, so that the same command again resumes. Further overrides are given to every stage.
"""

import subprocess
import sys
from pathlib import Path

STAGES = (
    ("fit", "recipes/smollm2_cot", "recipes/smollm2_cot"),
    ("fit", "recipes/smollm2", "recipes/smollm2"),
    ("fit", "smollm2/latent_rm", "smollm2/latent_rm"),
)
TEST_SETS = ("gsm_test", "gsm_hard", "multiarith", "svamp_test")


def ltts(command: str, *overrides: str) -> None:
    print(f"$ ltts {command} {' '.join(overrides)}", flush=True)
    code = subprocess.run([sys.executable, "-m", "lightning_ltts", command, *overrides]).returncode
    if code:
        raise SystemExit(code)  # the command said why


def main() -> None:
    given = sys.argv[1:]
    if not {"model_dir", "problems_dir"} <= {argument.split("=")[0] for argument in given}:
        raise SystemExit(__doc__)
    folder = next(argument.split("=", 1)[1] for argument in given if argument.startswith("problems_dir="))
    for command, experiment, name in STAGES:
        run = Path("logs") / name
        if not (run / "done").exists():
            last = run / "checkpoints" / "last.ckpt"
            ltts(command, f"experiment={experiment}", *given, *([f"ckpt_path={last}"] if last.exists() else []))
            (run / "done").touch()
    for test_set in TEST_SETS:
        paths = f'data.init_args.problems.init_args.paths=["{folder}/eval/{test_set}.json"]'
        ltts("predict", "experiment=smollm2/search", f"name=smollm2/search/{test_set}", paths, *given)
    subprocess.run(
        [sys.executable, "-m", "lightning_ltts", "report", *(f"logs/smollm2/search/{x}" for x in TEST_SETS)], check=True
    )


if __name__ == "__main__":
    main()
