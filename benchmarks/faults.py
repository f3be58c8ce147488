"""Hand-made faults, each of which a test has to notice.

    python benchmarks/faults.py                 # all, a line for each; ends with 1 where one is missed
    python benchmarks/faults.py dropout store   # those whose names hold one of the words

Every fault is made in a copy of the package, and the tests named with it are run against it.
"""

import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from forked import copy_to, run_tests


class Fault(NamedTuple):
    """One change of the code, and the tests that should fail with it."""

    name: str
    file: str  # in the package
    right: str  # what stands there, once
    wrong: str
    tests: str  # what pytest is given


RM, LOSSES = "training/latent_rm.py", "training/losses.py"
SAMPLERS, COLAR = "sampling/samplers.py", "training/colar.py"
REINFORCED, COLAR_GRPO, GRPO = (
    "training/reinforcement.py",
    "training/colar_grpo.py",
    "training/grpo.py",
)
TEST_RM, TEST_LOSSES = "tests/training/test_latent_rm.py", "tests/training/test_losses.py"
TEST_SAMPLERS, TEST_COLAR_GRPO = "tests/sampling", "tests/training/test_colar_grpo.py"
TEST_GRPO = "tests/training/test_grpo.py"
TEST_COLAR, TEST_STORE = "tests/training/test_colar.py", "tests/mining/test_store.py"
TEST_MINE, TEST_ATTENTION = "tests/mining/test_mine.py", "tests/models/test_shared_prefix.py"
FAULTS = (
    # training a LatentRM
    Fault("right answer of a wrong trajectory", LOSSES, "correct.argmax(1)[:, None, None]", "correct.argmin(1)[:, None, None]", TEST_LOSSES),
    Fault("answer asked for beyond its first wrong token", LOSSES, "return targets.long(), right_so_far & ", "return targets.long(), ", TEST_LOSSES),
    Fault("weight of the answer's prediction ignored", RM, "loss + self.answer_prediction * prediction", "loss + prediction", TEST_RM),
    Fault("answer predicted from the state after it", "models/latent_rm.py", "states = at(hidden, before.clamp", "states = at(hidden, (before + 1).clamp", "tests/models/test_latent_rm.py"),
    Fault("likelihood left out of the answer's score", "models/scores.py", "return self.answer + self.answer_likelihood", "return self.answer", "tests/models/test_latent_rm.py"),
    Fault("likelihood left out of predictions", "prediction/rows.py", "round(float(scores.whole_answer[q, n]), 5)", "round(float(scores.answer[q, n]), 5)", "tests/prediction/test_prediction.py -k written"),
    Fault("likelihood left out after a beam", "models/latent_rm.py", "return scores if likelihood is None else scores + likelihood", "return scores", "tests/models/test_latent_rm.py"),
    Fault("written steps labelled by the wrong question", "mining/mine.py", "written.answer_ids.flatten(0, 1)\n    right = _right(engine, ids, [truths[i // samples]", "written.answer_ids.flatten(0, 1)\n    right = _right(engine, ids, [truths[i % questions]", TEST_MINE),
    Fault("worst temperature taken", RM, "best = max(range(len(reached))", "best = min(range(len(reached))", TEST_RM),
    Fault("fitted parameters not saved", RM, "fitted=dict(self.fitted)", "fitted={}", TEST_RM),
    Fault("metrics not reset", RM, "            metric.reset()", "            pass", TEST_RM),
    Fault("answer's score not trained", RM, "loss = loss + self._loss(scores.answer", "loss = loss + 0 * self._loss(scores.answer", TEST_RM),
    Fault("scores beyond thoughts not masked", "models/latent_rm.py", "scores.view(shape) * trajectories.thought_mask", "scores.view(shape)", "tests/models/test_latent_rm.py"),
    # losses
    Fault("missing thoughts in the softmax", LOSSES, "logits.masked_fill(has == 0, -torch.inf)", "logits.masked_fill(has == 0, 0.0)", TEST_LOSSES),
    Fault("missing thoughts in the normaliser", LOSSES, "labels = labels * has", "labels = labels * 1", TEST_LOSSES),
    Fault("BCE without its mask", LOSSES, "return (losses * has).sum() / has.sum().clamp(min=1e-6)", "return losses.mean()", TEST_LOSSES),
    Fault("weight of hard negatives dropped", LOSSES, "scores.float() + weights.log()[..., None]", "scores.float() + 0 * weights.log()[..., None]", TEST_LOSSES),
    Fault("denominator of the unnormalised form", LOSSES, "(total > 0 if normalize else has.amax(dim=1) > 0)", "(total > 0)", TEST_LOSSES),
    # samplers
    Fault("dropout: one mask for all layers", SAMPLERS, "keys=fold(pass_keys, number)", "keys=fold(pass_keys, 0)", TEST_SAMPLERS),
    Fault("dropout: one mask for all positions", SAMPLERS, "position_keys = fold(keys[:, None], from_end)", "position_keys = fold(keys[:, None], 0 * from_end)", TEST_SAMPLERS),
    Fault("dropout: held masks not rescaled", SAMPLERS, "return output * held.to(output.dtype) / (1 - self.p)", "return output * held.to(output.dtype)", TEST_SAMPLERS),
    Fault("dropout: answers reuse thoughts' masks", SAMPLERS, 'Stream.ANSWER_DROPOUT if phase == "answer"', 'Stream.DROPOUT if phase == "answer"', TEST_SAMPLERS),
    Fault("dropout: wrong p below 0.15", SAMPLERS, "keep = keep_mask(position_keys, width, self.p)", "keep = keep_mask(position_keys, width, max(self.p, 0.15))", TEST_SAMPLERS),
    Fault("learned spread without its scale", SAMPLERS, "thought + self.scale * spread * noise", "thought + spread * noise", TEST_SAMPLERS),
    # reinforcement
    Fault("density without scale", COLAR_GRPO, "self.policy.scale * spread.float()", "spread.float()", TEST_COLAR_GRPO),
    Fault("density of the wrong thought", COLAR_GRPO, "policy.log_prob(rows.next_thoughts.float())", "policy.log_prob(rows.next_thoughts.float().roll(1, 1))", TEST_COLAR_GRPO),
    Fault("punish_length ignored", COLAR_GRPO, "if self.punish_length:", "if False:", TEST_COLAR_GRPO),
    Fault("ratio always 1", REINFORCED, "ratio = (new - old).exp()", "ratio = (new - new).exp()", TEST_GRPO),
    Fault("the same samples every epoch", REINFORCED, "1_000_003 + self.current_epoch", "1_000_003", TEST_COLAR_GRPO),
    Fault("replay under other names", GRPO, "Perturbation(self.policy.thoughts, groups.keys)", "Perturbation(self.policy.thoughts, groups.keys + 1)", TEST_GRPO),
    Fault("replay of clean thoughts", GRPO, "Perturbation(self.policy.thoughts, groups.keys)", "Perturbation(Deterministic(), groups.keys)", TEST_GRPO),
    Fault("temperature left out of the ratio", GRPO, " / self.policy.temperature).log_softmax", ").log_softmax", TEST_GRPO),
    Fault("advantage without the group's mean", GRPO, "better = reward - mean", "better = reward", TEST_GRPO),
    Fault("groups that cannot teach kept", GRPO, "mixed.float().argsort", "(~mixed).float().argsort", TEST_GRPO),
    Fault("divergence of the wrong sign", GRPO, "terms + self.kl_factor * divergence", "terms - self.kl_factor * divergence", TEST_GRPO),
    Fault("end of sequence not an action", GRPO, "else ids + ended for ids", "else ids for ids", TEST_GRPO),
    Fault("padding drawn in answers", GRPO, "never = {reasoner.pad_id, *reasoner.suppressed_ids}", "never = {*reasoner.suppressed_ids}", TEST_GRPO),
    Fault("the rest of a fused matrix trained", "training/trained_parts.py", "return gradient * kept.to(gradient.device)", "return gradient", TEST_GRPO),
    # CoLaR and COCONUT
    Fault("targets not detached", COLAR, "rows.next_thoughts[thinks].detach()", "rows.next_thoughts[thinks]", TEST_COLAR),
    Fault("CODI's teacher not detached", "training/codi.py", "teacher = teacher.detach().float()", "teacher = teacher.float()", "tests/training/test_codi.py"),
    Fault("largest compression never drawn", COLAR, "torch.randint(1, self.max_compression + 1", "torch.randint(1, self.max_compression", TEST_COLAR),
    Fault("reset_optimizer ignored", "training/coconut.py", "if self.reset_optimizer and", "if False and", "tests/training/test_reasoner.py -k optimizer"),
    # stores
    Fault("all-right questions kept", "voting/votes.py", "(correct.amax(1) > 0) & (correct.amin(1) < 1)", "correct.amax(1) > 0", f"{TEST_MINE} tests/voting"),
    Fault("settings of a store without seed", "mining/data.py", '            "seed": self.seed,\n', "", TEST_MINE),
    Fault("settings of a store without precision", "mining/data.py", ' | {"precision": str(trainer.precision)}', "", TEST_MINE),
    Fault("settings that one side lacks", "files.py", "sorted(theirs.keys() | ours.keys())", "sorted(theirs.keys() & ours.keys())", f"{TEST_STORE} tests/test_files.py"),
    Fault("shards not written atomically", "mining/store.py", "        with atomic(path) as temporary:\n            save_file(tensors, temporary", "        if True:\n            save_file(tensors, path", TEST_STORE),
    # attention and engine
    Fault("padding of a shared prompt read", "models/shared_prefix.py", "prefix_scores = prefix_scores + key.prefix_bias", "pass", "tests/models/test_shared_prefix.py tests/engine/test_rollout.py"),
    Fault("the module's own scaling ignored", "models/shared_prefix.py", "(width**-0.5 if scaling is None else scaling)", "(width**-0.5)", TEST_ATTENTION),
    Fault("suppressed tokens allowed", "engine/rollout.py", "logits[:, self._suppressed] = -torch.inf", "pass", "tests/engine/test_rollout.py"),
    # others
    Fault("headroom interval far too narrow", "analysis/statistics.py", "return interval_of(torch.stack([selected, majority, oracle], dim=1), shares)", "return interval_of(torch.stack([selected, majority, oracle], dim=1), shares, 0.2)", "tests/analysis"),
    Fault("what a beam trace kept", "search/beam.py", "led.view(len(keys), self.budget, -1), kept)", "led.view(len(keys), self.budget, -1), kept.flip(1) * 0)", "tests/search/test_beam.py"),
    Fault("beams under the names of samples", "sampling/streams.py", "BEAM = 2**40 + 4", "BEAM = 4", TEST_SAMPLERS),
    Fault("standardised by the whole pool", "analysis/methods.py", "pool.steps.rule == \"standardized\"", "False", "tests/analysis"),
)  # fmt: skip


def caught(fault: Fault, folder: Path) -> bool:
    """Whether a test fails on a fault that is made in the copy of the package in `folder`.

    Raises:
        SystemExit: the code has changed, so that the fault cannot be made any more.
    """
    path = folder / "lightning_ltts" / fault.file
    text = path.read_text(encoding="utf-8")
    if text.count(fault.right) != 1:
        raise SystemExit(f"{fault.name}: {fault.file} does not hold {fault.right!r} once")
    path.write_text(text.replace(fault.right, fault.wrong), encoding="utf-8")
    try:
        code = run_tests(folder, fault.tests.split(), seconds=1800)
    finally:
        path.write_text(text, encoding="utf-8")
    if code not in (0, 1, None):  # nothing was run
        raise SystemExit(f"{fault.name}: {(folder / 'output.txt').read_text()[-2000:]}")
    return code != 0  # a test that never ends notices, too


def main(words: list[str]) -> None:
    chosen = [f for f in FAULTS if not words or any(word in f.name for word in words)]
    missed = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        copy_to(folder)
        for fault in chosen:
            began = time.monotonic()
            found = caught(fault, folder)
            missed += [] if found else [fault.name]
            seconds = time.monotonic() - began
            print(f"{'caught' if found else 'MISSED'} {seconds:4.0f} s  {fault.name}", flush=True)
    print(f"{len(chosen) - len(missed)} of {len(chosen)} caught")
    if missed:
        raise SystemExit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
