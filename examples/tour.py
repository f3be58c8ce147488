# %% [markdown]
# # A tour in ten minutes
#
# Load a reasoner and a LatentRM, sample thoughts, score them, vote, and search, without a command
# line and without a Trainer. It takes the models of the demo (`make demo`); any other reasoner with
# its LatentRM does as well.

# %%
import matplotlib.pyplot as plt
import torch

from lightning_ltts import RolloutEngine, load_latent_rm, load_reasoner
from lightning_ltts.data.answers import format_answer
from lightning_ltts.data.word_problems import WordProblems
from lightning_ltts.models.latent_lm import left_pad
from lightning_ltts.sampling import GaussianNoise
from lightning_ltts.sampling.keyed_random import question_keys
from lightning_ltts.search.beam import BeamSearch
from lightning_ltts.voting.selection import BestOfN, Majority, WeightedVote
from lightning_ltts.voting.votes import vote_numbers

torch.set_grad_enabled(False)  # nothing is trained here
REASONER = "logs/demo/reasoner/checkpoints/best.ckpt"
LATENT_RM = "logs/demo/latent_rm/checkpoints/best.ckpt"
PROBLEMS = 256
SAMPLES = 32

# %% [markdown]
# ## Load
#
# Both know by themselves what they are: method, number of thoughts, prompt template, answer rule.

# %%
reasoner = load_reasoner(REASONER)
latent_rm = load_latent_rm(LATENT_RM)
print(reasoner.spec.method, "with", reasoner.spec.num_thoughts, "thoughts")

problems = WordProblems("test", size=PROBLEMS).load()
print(problems[0].question, "->", problems[0].answer)

# %% [markdown]
# ## Greedy decoding
#
# One trajectory for each question, without noise. It is what all that follows is compared with.

# %%
ids, mask = left_pad([reasoner.encode_prompt(p.question) for p in problems], reasoner.pad_id)
names = [p.id for p in problems]  # randomness is keyed by them: any batch gives the same samples
greedy = RolloutEngine(reasoner).rollout(ids, mask, question_ids=names)
greedy_right = torch.tensor(
    [
        reasoner.read_answer(a[0]) == p.value
        for a, p in zip(greedy.answer_ids, problems, strict=True)
    ]
)
print(f"greedy decoding: {greedy_right.double().mean():.1%}")

# %% [markdown]
# ## Sample and score
#
# The prompt of a question is read once, for however many samples. `thoughts` are what was fed back.

# %%
engine = RolloutEngine(reasoner, GaussianNoise(std=0.6))
samples = engine.rollout(ids, mask, num_samples=SAMPLES, question_ids=names)
scores = latent_rm.judge(ids, mask, samples, reference=greedy)
print("thoughts", tuple(samples.thoughts.shape), "scores of thoughts", tuple(scores.steps.shape))

# %% [markdown]
# ## Vote
#
# A selection sees answers as numbers (equal ones are equal answers, -1 is none) and scores, and says
# which sample it takes.

# %%
answers = [[reasoner.read_answer(ids) for ids in row] for row in samples.answer_ids]
votes = torch.tensor([vote_numbers(row) for row in answers])
right = torch.tensor(
    [[int(a == p.value) for a in row] for row, p in zip(answers, problems, strict=True)]
)
score = scores.trajectory
for selection in (Majority(), WeightedVote(), BestOfN()):
    chosen = selection.choose(votes, score)
    answered = right.gather(1, chosen.clamp(min=0)[:, None])[:, 0] * (chosen >= 0)
    print(f"{selection.name}: {answered.double().mean():.1%}")
print(f"some sample is right: {right.amax(1).double().mean():.1%}")

# %% [markdown]
# ## Guided beam search
#
# From the same prompts, the LatentRM prunes after every thought.

# %%
search = BeamSearch(beams=8, candidates=4)
found = search.search(engine, latent_rm, ids, mask, question_keys(0, names), reference=greedy)
best = [reasoner.read_answer(answers[0]) for answers in found.answer_ids]
share = sum(a == p.value for a, p in zip(best, problems, strict=True)) / len(problems)
print(f"beam search: {share:.1%}; the first answer: {format_answer(best[0])}")

# %% [markdown]
# ## See it
#
# Accuracy against the number of samples, and whether right trajectories score higher than wrong
# ones.

# %%
sizes = [2**i for i in range(SAMPLES.bit_length()) if 2**i <= SAMPLES]
figure, (left, middle) = plt.subplots(1, 2, figsize=(10, 4))
for selection in (Majority(), WeightedVote(), BestOfN()):
    curve = []
    for n in sizes:
        chosen = selection.choose(votes[:, :n], score[:, :n])
        taken = right[:, :n].gather(1, chosen.clamp(min=0)[:, None])[:, 0] * (chosen >= 0)
        curve.append(float(taken.double().mean()))
    left.plot(sizes, curve, marker="o", label=selection.name)
left.axhline(float(greedy_right.double().mean()), color="black", linestyle=":", label="greedy")
left.set(xscale="log", xlabel="samples", ylabel="accuracy")
left.legend()
for value, name in ((1, "right"), (0, "wrong")):
    middle.hist(score[right == value].numpy(), bins=40, alpha=0.6, density=True, label=name)
middle.set(xlabel="score of a trajectory", ylabel="density")
middle.legend()
figure.tight_layout()
plt.show()
