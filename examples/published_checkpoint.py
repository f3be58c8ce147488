# %% [markdown]
# # Bring a published checkpoint
#
# `load_reasoner` reads the published formats, by their keys and without executing anything. Here a
# checkpoint in the format of Meta's COCONUT is made on this machine, so that no network is needed.
# With a network, the same lines take the names in `docs/checkpoints.md`.

# %%
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
)

from lightning_ltts import RolloutEngine, load_reasoner
from lightning_ltts.models.latent_lm import LatentReasoner, fingerprint, left_pad
from lightning_ltts.sampling import MCDropout

FOLDER = Path("published_checkpoint")
WIDTH = 64
QUESTION = "Ann has 7 pens. She buys 5 more. How many pens are left?"

# %% [markdown]
# ## A base model, and a checkpoint that was trained from it
#
# The base is a folder of Hugging Face. The checkpoint is a bare state dict with a prefix, and with
# three tokens more than the base has: start, end and thought.

# %%
FOLDER.mkdir(exist_ok=True)
raw = Tokenizer(models.BPE())
raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
raw.decoder = decoders.ByteLevel()
alphabet = pre_tokenizers.ByteLevel.alphabet()
raw.train_from_iterator(
    [QUESTION],
    trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet,
        show_progress=False,
    ),
)  # fmt: skip
tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|endoftext|>")
torch.manual_seed(0)
config = GPT2Config(
    vocab_size=len(tokenizer), n_layer=2, n_embd=WIDTH, n_head=4, n_positions=128,
    bos_token_id=tokenizer.eos_token_id, eos_token_id=tokenizer.eos_token_id,
)  # fmt: skip
base = GPT2LMHeadModel(config)
base.save_pretrained(FOLDER / "base")
tokenizer.save_pretrained(FOLDER / "base")

base.resize_token_embeddings(len(tokenizer) + 3)
state = {f"base_causallm.{name}": tensor for name, tensor in base.state_dict().items()}
torch.save(state, FOLDER / "checkpoint_22")

# %% [markdown]
# ## Load it
#
# What the file does not say (T, the prompt, which number is the answer) comes from the table of
# formats; any field can be set otherwise. Every key must be known, there, and of the right shape.

# %%
reasoner = load_reasoner(FOLDER / "checkpoint_22", base=FOLDER / "base", num_thoughts=3)
print(reasoner.spec.method, reasoner.spec.num_thoughts, repr(reasoner.spec.prompt_template))

# %% [markdown]
# ## Sample from it
#
# With dropout in the passes that make the thoughts, as in the paper.

# %%
ids, mask = left_pad([reasoner.encode_prompt(QUESTION)], reasoner.pad_id)
samples = RolloutEngine(reasoner, MCDropout(p=0.2)).rollout(ids, mask, num_samples=4)
print(samples.thoughts.shape, [reasoner.decode(answer)[:20] for answer in samples.answer_ids[0]])

# %% [markdown]
# ## Write it as a folder
#
# It loads bit by bit the same, here and (a COCONUT reasoner) in plain transformers, and has a model
# card. `push_to_hub` uploads it; `from_pretrained` takes the folder or its name on the Hub.

# %%
reasoner.save_pretrained(FOLDER / "folder")
again = LatentReasoner.from_pretrained(FOLDER / "folder")
assert fingerprint(again) == fingerprint(reasoner)
plain = AutoModelForCausalLM.from_pretrained(FOLDER / "folder")
assert len(AutoTokenizer.from_pretrained(FOLDER / "folder")) == plain.config.vocab_size
print((FOLDER / "folder/README.md").read_text().split("---")[2][:400])
# reasoner.push_to_hub("me/coconut", private=True)
