# %% [markdown]
# # Train and search on your own problems
#
# From a file of questions and answers to a table with error bars, by Lightning alone: modules,
# DataModules and a Trainer, no command line. `ltts init` writes the same as YAML files.

# %%
import json
from pathlib import Path

import matplotlib.pyplot as plt
from lightning.pytorch.callbacks import ModelCheckpoint

from lightning_ltts import Curriculum, Start
from lightning_ltts.analysis.predictions import read_rows
from lightning_ltts.analysis.summary import summarize
from lightning_ltts.data.problem_data import ProblemData
from lightning_ltts.data.problems import ProblemFiles
from lightning_ltts.data.tokenization import BPETokenizer
from lightning_ltts.mining.data import MiningData
from lightning_ltts.prediction import LatentSearch, PredictionData, PredictionWriter
from lightning_ltts.sampling import GaussianNoise
from lightning_ltts.search.beam import BeamSearch
from lightning_ltts.trainer import Trainer
from lightning_ltts.training.coconut import CoconutModule
from lightning_ltts.training.latent_rm import LatentRMModule

FOLDER = Path("own_problems")
PROBLEMS = 4000
EPOCHS = 30
RM_EPOCHS = 6
SAMPLES = 16
WIDTH = 64
BATCH = 64

# %% [markdown]
# ## The problems
#
# A row has a question, steps and an answer. JSON Lines here; CSV and Parquet are read as well. These
# are sums that carry on from one step to the next. Each part has questions of its own.

# %%
FOLDER.mkdir(exist_ok=True)


def problem(number: int) -> dict:
    """The problem with this number; no two are the same."""
    a, b, c = number % 20, number // 20 % 20, number // 400 % 20
    steps = [f"{a}+{b}={a + b}", f"{a + b}+{c}={a + b + c}"]
    return {"question": f"What is {a} + {b} + {c}?", "steps": steps, "answer": a + b + c}


shares = {"train": range(0, 6), "mine": range(6, 8), "valid": range(8, 9), "test": range(9, 10)}
files = {}
for part, places in shares.items():
    rows = [problem(i * 7919 % 8000) for i in range(PROBLEMS) if i % 10 in places]
    files[part] = FOLDER / f"{part}.jsonl"
    files[part].write_text("".join(json.dumps(row) + "\n" for row in rows))
    print(part, len(rows))


def problems(part: str) -> ProblemFiles:
    """The source of a part."""
    return ProblemFiles([str(files[part])])


# %% [markdown]
# ## The reasoner
#
# COCONUT from random weights: first it writes its steps, then thoughts take their place. It is
# trained under the noise that it will be sampled with, so that samples are worth choosing among.

# %%
backbone = {"model_type": "gpt2", "n_layer": 3, "n_embd": WIDTH, "n_head": 4, "n_positions": 128}
third = max(EPOCHS // 3, 1)
reasoner = CoconutModule(
    Start(tokenizer=BPETokenizer([str(files["train"])], vocab_size=300), backbone=backbone),
    Curriculum(cot_epochs=third, stage_epochs=(third, third), thoughts_per_step=1),
    sampler=GaussianNoise(0.6),
    lr=3e-3,
)


def trainer(name: str, epochs: int, metric: str) -> Trainer:
    """Lightning's Trainer, which keeps the best checkpoint by a metric."""
    best = ModelCheckpoint(
        FOLDER / name, "best", monitor=metric, mode="max", enable_version_counter=False
    )
    return Trainer(
        max_epochs=epochs, callbacks=[best], logger=False, accelerator="cpu", devices=1,
        num_sanity_val_steps=0, enable_model_summary=False, enable_progress_bar=False,
    )  # fmt: skip


training = trainer("reasoner", 3 * third, "val/score")
training.fit(
    reasoner, datamodule=ProblemData(problems("train"), problems("valid"), batch_size=BATCH)
)
print(
    f"greedy accuracy on the validation problems: {training.callback_metrics['val/accuracy']:.1%}"
)

# %% [markdown]
# ## The LatentRM
#
# Its data is mined when training begins: trajectories of other problems, with a label for every
# thought.

# %%
REASONER = str(FOLDER / "reasoner/best.ckpt")
mined = MiningData(
    REASONER, GaussianNoise(0.6), problems("mine"), problems("valid"), str(FOLDER / "mined"),
    num_samples=8, num_rollouts=2, val_num_samples=SAMPLES, batch_size=min(BATCH, 16),
    keep_uninformative=True,
)  # fmt: skip
latent_rm = LatentRMModule(REASONER, reference=True, reads_answer=True, answer_prediction=1.0)
trainer("latent_rm", RM_EPOCHS, "val/weighted_vote").fit(latent_rm, datamodule=mined)

# %% [markdown]
# ## The search
#
# Greedy decoding, samples, votes and beam search over the test problems. Every sample is written to
# a file as it is made, from which all that follows is computed.

# %%
search = LatentSearch(
    REASONER, GaussianNoise(0.6), str(FOLDER / "latent_rm/best.ckpt"), num_samples=SAMPLES,
    beam=BeamSearch(beams=max(SAMPLES // 4, 1), candidates=4),
)  # fmt: skip
writer = PredictionWriter(str(FOLDER / "search"))
predicting = Trainer(
    callbacks=[writer], logger=False, accelerator="cpu", devices=1, enable_progress_bar=False
)
predicting.predict(search, datamodule=PredictionData(problems("test")), return_predictions=False)

# %% [markdown]
# ## What the extra compute bought

# %%
summary = summarize(read_rows(FOLDER / "search"))
print(summary.bought())
figure, axes = plt.subplots()
for name in ("coverage", "majority", "weighted_vote", "best_of_n"):
    curve = summary.curves[name]
    axes.plot(list(curve), list(curve.values()), marker="o", label=name)
axes.axhline(summary["greedy"], color="black", linestyle=":", label="greedy")
axes.set(xscale="log", xlabel="samples", ylabel="accuracy")
axes.legend()
plt.show()
