"""Sampling in bfloat16 against float32: what it costs, and whether the answers stay the same.

    python benchmarks/precision.py CHECKPOINT PROBLEMS.json
    python benchmarks/precision.py CHECKPOINT PROBLEMS.json --device cuda --questions 64

Both read the same problems under the same noise, one after the other, as often as asked; the
fastest of each counts. Run it on a processor that multiplies bfloat16 by itself (avx512_bf16 or
amx_bf16 among the flags of `lscpu`): others are slower than in float32.
"""

import argparse
import time

import torch

from lightning_ltts.data.problems import ProblemFiles
from lightning_ltts.engine.grading import read_answers
from lightning_ltts.engine.rollout import RolloutEngine
from lightning_ltts.models.checkpoints import load_reasoner
from lightning_ltts.models.latent_lm import left_pad
from lightning_ltts.sampling import GaussianNoise


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint")
    parser.add_argument("problems")
    parser.add_argument("--questions", type=int, default=8)
    parser.add_argument("--num-samples", type=int, default=64)
    parser.add_argument("--std", type=float, default=0.6, help="of the noise on the thoughts")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()

    problems = ProblemFiles([options.problems]).load()[: options.questions]
    answers, seconds = {}, {}
    for dtype in (torch.float32, torch.bfloat16):
        reasoner = load_reasoner(options.checkpoint, dtype=dtype).to(options.device).eval()
        prompts = [reasoner.encode_prompt(problem.question) for problem in problems]
        ids, mask = (x.to(options.device) for x in left_pad(prompts, reasoner.pad_id))
        engine = RolloutEngine(reasoner, GaussianNoise(options.std))
        times = []
        for _ in range(options.repeats):
            began = time.perf_counter()
            found = engine.rollout(ids, mask, options.num_samples).answer_ids.flatten(0, 1).cpu()
            times.append(time.perf_counter() - began)
        answers[dtype], seconds[dtype] = read_answers(reasoner, found), min(times)
        print(f"{dtype}: {seconds[dtype]:.2f} s", flush=True)
    pairs = list(zip(*answers.values(), strict=True))
    same = sum(a == b for a, b in pairs) / len(pairs)
    print(
        f"{options.device}, {torch.get_num_threads()} threads, N = {options.num_samples}: bfloat16 is "
        f"{seconds[torch.float32] / seconds[torch.bfloat16]:.2f} times as fast, "
        f"{same:.1%} of {len(pairs)} trajectories have the same answer"
    )


if __name__ == "__main__":
    main()
