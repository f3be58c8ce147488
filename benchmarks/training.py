"""Throughput of a COCONUT training step against a direct transcription of the published loop, same weights and batch, one run.

    python benchmarks/training.py --shape gpt2_small --problems 8 --thoughts 6

The transcription re-reads the prefix for every thought, and keeps the inputs as Python lists of per-position tensors, in which
each thought replaces a placeholder, before they are stacked again. Both give the same loss; loss and gradients are timed.
"""

import argparse
import statistics
import time

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_ltts.data.problems import Problem
from lightning_ltts.data.tokenization import WordTokenizer
from lightning_ltts.data.word_problems import WordProblems
from lightning_ltts.models.latent_lm import left_pad, position_ids
from lightning_ltts.training.coconut import CoconutModule, text_of
from lightning_ltts.training.curriculum import Curriculum, Stage
from lightning_ltts.training.start import Start

NO_DROPOUT = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "n_positions": 256}
SHAPES = {
    "demo": {"model_type": "gpt2", "n_layer": 3, "n_embd": 64, "n_head": 4, **NO_DROPOUT},
    "gpt2_small": {"model_type": "gpt2", "n_layer": 12, "n_embd": 768, "n_head": 12, **NO_DROPOUT},
}


def published_loss(module: CoconutModule, problems: list[Problem], stage: Stage) -> Tensor:
    """The loss as the published loop makes it: as many passes over the prefix as there are thoughts, then one over all."""
    reasoner, device = module.reasoner, module.device
    encoded = [module.encode(problem) for problem in problems]
    ids, mask = (x.to(device) for x in left_pad([e.prompt for e in encoded], reasoner.pad_id))
    texts = [text_of(e, stage) for e in encoded]
    width, length = max(map(len, texts)), ids.shape[1]
    labels = torch.tensor([t + [-100] * (width - len(t)) for t in texts], device=device)
    after = torch.tensor(
        [[reasoner.end_id, *t[:-1], *[reasoner.pad_id] * (width - len(t))] for t in texts],
        device=device,
    )
    placeholders = torch.full((len(problems), stage.num_thoughts), reasoner.pad_id, device=device)
    mask = F.pad(mask, (0, stage.num_thoughts + width), value=1)
    embedded = reasoner.embed(torch.cat([ids, placeholders, after], dim=1))
    body = reasoner.backbone.base_model
    for t in range(stage.num_thoughts):
        rows = [[embedded[b, i] for i in range(embedded.shape[1])] for b in range(len(problems))]
        seen = mask[:, : length + t]
        hidden = body(
            inputs_embeds=embedded[:, : length + t],
            attention_mask=seen,
            position_ids=position_ids(seen),
        )
        for b, row in enumerate(rows):
            row[length + t] = hidden.last_hidden_state[b, -1]
        embedded = torch.stack([torch.stack(row) for row in rows])
    hidden = body(
        inputs_embeds=embedded, attention_mask=mask, position_ids=position_ids(mask)
    ).last_hidden_state
    return F.cross_entropy(
        reasoner.logits(hidden[:, -width:]).flatten(0, 1).float(), labels.flatten()
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", choices=list(SHAPES), default="demo")
    parser.add_argument("--problems", type=int, default=32)
    parser.add_argument("--thoughts", type=int, default=6)
    parser.add_argument(
        "--steps", type=int, default=4, help="reasoning steps of a problem: length of the prompt"
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.manual_seed(0)
    curriculum = Curriculum(0, (1,), thoughts_per_step=options.thoughts)
    module = CoconutModule(
        Start(tokenizer=WordTokenizer(30), backbone=SHAPES[options.shape]), curriculum
    ).to(options.device)
    problems, stage = (
        WordProblems("train", options.problems, 0, options.steps, 30).load(),
        curriculum.last,
    )
    losses, times = {}, {"ours": [], "published": []}
    functions = {"ours": module.loss, "published": lambda *given: published_loss(module, *given)}
    for _ in range(options.repeats + 1):  # the first is a warm-up
        for name, function in functions.items():
            module.zero_grad()
            began = time.perf_counter()
            losses[name] = function(problems, stage)
            losses[name].backward()
            if options.device != "cpu":
                torch.cuda.synchronize()
            times[name].append(time.perf_counter() - began)
    assert torch.allclose(losses["ours"], losses["published"], rtol=1e-4), losses
    ours, published = (statistics.median(times[name][1:]) for name in ("ours", "published"))
    ratios = sorted(b / a for a, b in zip(times["ours"][1:], times["published"][1:], strict=True))
    print(
        f"{options.shape}, {options.problems} problems, {options.thoughts} thoughts, prompts of about "
        f"{len(module.encode(problems[0]).prompt)} tokens: {published:.3f} s against {ours:.3f} s a step, "
        f"{published / ours:.2f} times ({ratios[0]:.2f} .. {ratios[-1]:.2f})"
    )


if __name__ == "__main__":
    main()
