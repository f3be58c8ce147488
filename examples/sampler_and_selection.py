# %% [markdown]
# # Write your own sampler and selection
#
# A sampler makes the trajectories of one question differ; a selection chooses among them. Each is
# one class. `docs/extending.md` says how both become options of every command. This takes the
# models of the demo (`make demo`).

# %%
import matplotlib.pyplot as plt
import torch
from torch import Tensor

from lightning_ltts import RolloutEngine, load_latent_rm, load_reasoner
from lightning_ltts.data.word_problems import WordProblems
from lightning_ltts.models.latent_lm import left_pad
from lightning_ltts.sampling import GaussianNoise, Sampler
from lightning_ltts.sampling.keyed_random import fold, uniform
from lightning_ltts.sampling.streams import Stream
from lightning_ltts.voting.selection import Majority, Selection, WeightedVote
from lightning_ltts.voting.votes import vote_numbers

torch.set_grad_enabled(False)  # nothing is trained here
REASONER = "logs/demo/reasoner/checkpoints/best.ckpt"
LATENT_RM = "logs/demo/latent_rm/checkpoints/best.ckpt"
PROBLEMS = 256
SAMPLES = 16

# %% [markdown]
# ## A sampler: noise that fades
#
# `perturb` gets thoughts (R, d) after the thought head, the key of each row, and the step. Draw from
# the keys alone: then a trajectory is the same in any batch, order or process.


# %%
class FadingNoise(Sampler):
    """Uniform noise that is halved at every step.

    Args:
        width: half the width of the interval at the first step.
    """

    strengths = ("width",)  # what `ltts tune` scales

    def __init__(self, width: float = 1.0):
        self.width = width  # every option is kept under its name: stores are told apart by it

    def perturb(self, thought: Tensor, *, keys: Tensor, step: int) -> Tensor:
        """(R, d) -> (R, d)."""
        draws = uniform(fold(keys, Stream.NOISE, step), thought.shape[-1])  # in [0, 1)
        return thought + self.width * 0.5**step * (2 * draws - 1).to(thought.dtype)


# %% [markdown]
# ## A selection: a vote among the better half
#
# `choose` gets votes (Q, N), where equal numbers are equal answers and -1 is none, and scores (Q, N).
# It returns the chosen samples (Q,).


# %%
class TrimmedVote(Selection):
    """The majority among the better half of the samples, by their score."""

    name = "trimmed_vote"

    def choose(self, votes: Tensor, scores: Tensor) -> Tensor:
        """Votes and scores (Q, N) -> the chosen samples (Q,), -1 for none."""
        better = scores >= scores.median(dim=1, keepdim=True).values
        return Majority().choose(votes.where(better, -1), scores)


# %% [markdown]
# ## Compare them with what there is

# %%
reasoner, latent_rm = load_reasoner(REASONER), load_latent_rm(LATENT_RM)
problems = WordProblems("test", size=PROBLEMS).load()
ids, mask = left_pad([reasoner.encode_prompt(p.question) for p in problems], reasoner.pad_id)
names = [p.id for p in problems]
greedy = RolloutEngine(reasoner).rollout(ids, mask, question_ids=names)


def accuracies(sampler: Sampler) -> dict[str, float]:
    """Selection -> accuracy."""
    engine = RolloutEngine(reasoner, sampler)
    samples = engine.rollout(ids, mask, num_samples=SAMPLES, question_ids=names)
    scores = latent_rm.judge(ids, mask, samples, reference=greedy).trajectory
    answers = [[reasoner.read_answer(ids) for ids in row] for row in samples.answer_ids]
    votes = torch.tensor([vote_numbers(row) for row in answers])
    found = {}
    for selection in (Majority(), WeightedVote(), TrimmedVote()):
        chosen = selection.choose(votes, scores).tolist()
        right = [
            place >= 0 and row[place] == problem.value
            for place, row, problem in zip(chosen, answers, problems, strict=True)
        ]
        found[selection.name] = sum(right) / len(right)
    return found


results = {repr(s): accuracies(s) for s in (GaussianNoise(0.6), FadingNoise(1.0))}
for name, found in results.items():
    print(name, {selection: f"{accuracy:.1%}" for selection, accuracy in found.items()})

# %%
figure, axes = plt.subplots()
for i, (name, found) in enumerate(results.items()):
    axes.bar([x + 0.4 * i for x in range(len(found))], list(found.values()), 0.4, label=name)
axes.set_xticks([x + 0.2 for x in range(len(found))], list(found))
axes.set_ylabel("accuracy")
axes.legend()
plt.show()

# %% [markdown]
# ## The rule that keeps results comparable
#
# Two samples are the first two of eight, whatever else is in the batch:

# %%
engine = RolloutEngine(reasoner, FadingNoise())
eight, two = (engine.rollout(ids[:3], mask[:3], num_samples=n).thoughts for n in (8, 2))
assert torch.allclose(eight[:, :2], two, atol=1e-5)
