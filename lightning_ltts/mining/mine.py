"""Mining a batch of questions: trajectories with step-wise thought labels (arXiv 2510.07745, section 4)."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lightning_ltts.data.answers import Answer
from lightning_ltts.engine.grading import read_answers
from lightning_ltts.engine.rollout import RolloutEngine, join_rows, set_aside_ended
from lightning_ltts.models.latent_rm import Reference
from lightning_ltts.sampling.keyed_random import fold
from lightning_ltts.sampling.samplers import Deterministic
from lightning_ltts.sampling.streams import Stream
from lightning_ltts.voting.votes import vote_numbers


@dataclass(frozen=True)
class Mined:
    """Trajectories of a batch of questions and the thought labels of their prefixes."""

    thoughts: Tensor  # (Q, N, T, d), zeros beyond a trajectory's own
    clean: Tensor  # (Q, N, T, d), before noise was added
    thought_counts: Tensor  # (Q, N)
    labels: Tensor  # (Q, N, T), share of right completions; from the last thought on, the trajectory's own correctness
    votes: Tensor  # (Q, N), see `vote_numbers`
    answer_ids: Tensor  # (Q, N, A), padded
    reference: Reference  # the deterministic trajectories, on the CPU


@torch.no_grad()
def mine(
    engine: RolloutEngine,
    input_ids: Tensor,
    attention_mask: Tensor,
    keys: Tensor,
    truths: list[Answer],
    rollouts: int,
) -> Mined:
    """Samples trajectories and labels every prefix h_1..h_t by `rollouts` completions of it.

    The completions fork from the trajectory's cache, so no prefix is read again. A trajectory's last step needs none: its
    label is whether the trajectory itself is right. With no rollouts, that label stands for all steps (the paper's ablation).

    Args:
        engine: with the sampler to mine with.
        input_ids: (Q, L) prompts, left padded.
        attention_mask: (Q, L).
        keys: (Q, N) int64 names of the trajectories.
        truths: Q right answers.
        rollouts: M, completions per prefix.
    """
    questions, samples = keys.shape
    trajectories, device = keys.numel(), keys.device
    steps, max_tokens = engine.reasoner.spec.num_thoughts, engine.reasoner.spec.max_answer_tokens
    branches = engine.start(input_ids, attention_mask, keys, steps + 1 + max_tokens)
    alone, plain = branches, RolloutEngine(engine.reasoner, Deterministic(), engine.budget)
    branches = engine.step(branches, keys.flatten())
    if engine.sampler.perturbs_prompt:
        alone = plain.start(input_ids, attention_mask, keys[:, :1], steps + 1 + max_tokens)
    elif engine.sampler.perturbs_forward:
        alone = alone.take(torch.arange(questions))
    else:  # the deterministic trajectory has made its first thought, too, in the same pass
        alone = branches.take(torch.arange(questions) * samples)
        assert alone.clean is not None
        alone = replace(alone, pending=alone.clean)
    without, alone = plain.think(alone, keys[:, 0], steps)
    reference = Reference(without.fed.float().cpu(), without.counts.cpu(), plain.answer(alone, max_tokens).cpu())
    engine.cost += plain.cost
    copies = torch.arange(rollouts, device=device)
    thoughts = branches.pending.new_zeros(trajectories, steps, engine.reasoner.hidden_size)
    clean = torch.zeros_like(thoughts)
    counts = torch.full((trajectories,), steps)
    # All rows step together: trajectories, and the completions of their prefixes, which have as many thoughts at any time.
    # Row `live[i]` of the results belongs to trajectory `owner[live[i]]`; completions are of its first `prefix` thoughts.
    owner, prefix = torch.arange(trajectories), torch.zeros(trajectories, dtype=torch.int64)
    live, ready, answers_of = owner, [], []
    for t in range(1, steps + 1):
        live, branches, ended = set_aside_ended(live, branches)
        if ended is not None:
            counts[ended[0][ended[0] < trajectories]] = t - 1
            ready.append(ended)
        if not len(live):
            break
        own = (live < trajectories).nonzero().squeeze(-1)
        index = own.to(device)
        assert branches.clean is not None
        for into, made in ((thoughts, branches.pending), (clean, branches.clean)):
            into[live[own].to(device), t - 1] = made[index].to(thoughts.dtype)
        if t == steps:
            ready.append((live, engine.close(branches)))
            break
        names = fold(branches.keys[index, None], Stream.COMPLETION, t, copies).flatten()
        rows = torch.cat([torch.arange(len(live)), own.repeat_interleave(rollouts)])
        new = torch.arange(len(names)) + len(owner)
        owner = torch.cat([owner, live[own].repeat_interleave(rollouts)])
        prefix = torch.cat([prefix, torch.full_like(new, t)])
        branches, live = engine.step(branches, torch.cat([branches.keys, names]), rows), torch.cat([live, new])
        if branches.token is not None and rollouts and len(own):
            # a trajectory that ends its thinking here needs no completions: its own answer is the label
            kept = torch.ones_like(live, dtype=torch.bool)
            kept[-len(names) :] = (branches.token.cpu()[own] < 0).repeat_interleave(rollouts)
            live, branches = live[kept], branches.take(kept.nonzero().squeeze(-1))
        if len(live) * (steps + 2 + max_tokens) > engine.budget:  # too many to hold: the completions are finished first
            side, main = (live >= trajectories).nonzero().squeeze(-1), (live < trajectories).nonzero().squeeze(-1)
            _, finished = engine.think(branches.take(side), branches.keys[side.to(device)], steps)
            answers_of.append((live[side], engine.answer(finished, max_tokens)))
            live, branches = live[main], branches.take(main)
    answers_of.append((torch.cat([rows for rows, _ in ready]).sort().values, engine.answer(join_rows(ready), max_tokens)))
    answered = torch.cat([rows for rows, _ in answers_of])
    answer_ids = torch.full((len(owner), max_tokens), engine.reasoner.pad_id)
    answer_ids[answered] = torch.cat([tokens for _, tokens in answers_of]).cpu()
    right = _right(engine, answer_ids, truths, owner // samples)
    done = torch.zeros(len(owner)).index_fill(0, answered, 1.0)
    where = (owner * steps + prefix - 1)[trajectories:]
    sums, number = (
        torch.zeros(trajectories * steps).index_add(0, where, x[trajectories:]).view(-1, steps) for x in (right * done, done)
    )
    labels, correct = sums / number.clamp(min=1), right[:trajectories]
    labels = labels.where(number > 0, correct[:, None])
    answers = read_answers(engine.reasoner, answer_ids[:trajectories])
    votes = [vote_numbers(answers[q * samples : (q + 1) * samples]) for q in range(questions)]
    return Mined(
        thoughts.unflatten(0, keys.shape).float().cpu(),
        clean.unflatten(0, keys.shape).float().cpu(),
        counts.view(keys.shape),
        labels.unflatten(0, keys.shape),
        torch.tensor(votes),
        answer_ids[:trajectories].unflatten(0, keys.shape),
        reference,
    )


def _right(engine: RolloutEngine, answer_ids: Tensor, truths: list[Answer], owner: Tensor) -> Tensor:
    """(R, A) answers of rows of these questions (R,) -> (R,) 1 where right, else 0."""
    answers = read_answers(engine.reasoner, answer_ids)
    return torch.tensor([answer == truths[q] for q, answer in zip(owner.tolist(), answers, strict=True)], dtype=torch.float)
