"""The real run: SmolLM2-135M as a COCONUT reasoner, from the pretrained weights to the table of searches.

    python benchmarks/smollm2.py model_dir=SMOLLM2.gguf problems_dir=PATH          # a GPU of 80 GB; not run in full
    python benchmarks/smollm2.py --small model_dir=SMOLLM2.gguf problems_dir=PATH  # two CPU cores; two hours

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
# what two cores can do, as it was measured: the short problems and few of GSM8K, fewer epochs,
# thoughts and questions, and no noise in training
_SMALL_FILES = "train_files=[${problems_dir}/train/mawps_asdiv_train_steps.json,${problems_dir}/train/gsm8k_train_steps.json]"
_SMALL_FIT = (
    "data=problem_files",
    "data.init_args.train.init_args.limit=3000",
    _SMALL_FILES,
    "trainer.limit_val_batches=4",
)
_SMALL_NOISE = "sampler.init_args.std=8"  # on gsm_valid: these thoughts vary by 2.4, and noise of 4 moves no answer
SMALL = {
    "recipes/smollm2_cot": (
        *_SMALL_FIT,
        "data.init_args.batch_size=16",
        "model.init_args.lr=2e-4",
        "model.init_args.curriculum.cot_epochs=1",
        "trainer.max_epochs=1",
    ),
    "recipes/smollm2": (
        *_SMALL_FIT,
        "data.init_args.batch_size=16",
        "model.init_args.lr=2e-4",
        "model.init_args.max_answer_tokens=10",
        "model.init_args.sampler=null",
        "model.init_args.step_factor=0",
        "model.init_args.end_steps=false",
        "model.init_args.uniform_prob=0",
        "model.init_args.reset_optimizer=true",
        "model.init_args.curriculum.stage_epochs=[1,1]",
        "model.init_args.curriculum.final_epochs=0",
        "trainer.max_epochs=2",
    ),
    "smollm2/latent_rm": (
        "data=mine_problem_files",
        "model.init_args.lr=1e-4",
        _SMALL_FILES,
        _SMALL_NOISE,
        "data.init_args.train.init_args.limit=600",
        "data.init_args.val.init_args.limit=64",
        "trainer.max_epochs=3",
    ),
    "smollm2/search": (_SMALL_NOISE, "data.init_args.problems.init_args.limit=100"),
}
TEST_SETS = ("gsm_test", "gsm_hard", "multiarith", "svamp_test")


def ltts(command: str, *overrides: str) -> None:
    print(f"$ ltts {command} {' '.join(overrides)}", flush=True)
    code = subprocess.run([sys.executable, "-m", "lightning_ltts", command, *overrides]).returncode
    if code:
        raise SystemExit(code)  # the command said why


def main() -> None:
    given = [argument for argument in sys.argv[1:] if argument != "--small"]
    small = SMALL if "--small" in sys.argv else {}
    if not {"model_dir", "problems_dir"} <= {argument.split("=")[0] for argument in given}:
        raise SystemExit(__doc__)
    folder = next(
        argument.split("=", 1)[1] for argument in given if argument.startswith("problems_dir=")
    )
    for command, experiment, name in STAGES:
        run = Path("logs") / name
        if not (run / "done").exists():
            last = run / "checkpoints" / "last.ckpt"
            ltts(
                command,
                f"experiment={experiment}",
                *small.get(experiment, ()),
                *given,
                *([f"ckpt_path={last}"] if last.exists() else []),
            )
            (run / "done").touch()
    for test_set in TEST_SETS:
        paths = f'data.init_args.problems.init_args.paths=["{folder}/eval/{test_set}.json"]'
        name = f"smollm2/search/{test_set}"
        ltts(
            "predict",
            "experiment=smollm2/search",
            f"name={name}",
            paths,
            *small.get("smollm2/search", ()),
            *given,
        )
    subprocess.run(
        [
            sys.executable,
            "-m",
            "lightning_ltts",
            "report",
            *(f"logs/smollm2/search/{x}" for x in TEST_SETS),
        ],
        check=True,
    )


if __name__ == "__main__":
    main()
