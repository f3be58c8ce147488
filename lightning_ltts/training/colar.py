"""Training a CoLaR reasoner: thoughts are compressed steps, as long as the model wants (arXiv 2505.16552)."""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_ltts.data.problems import Problem
from lightning_ltts.data.ranges import MAX_SEED, MAX_TOKENS, require_number, require_whole
from lightning_ltts.data.tokenization import encode_template
from lightning_ltts.errors import ConfigError, DataError
from lightning_ltts.models.latent_lm import LatentReasoner, SpecChanges, left_pad
from lightning_ltts.models.thought_heads import ColarHead
from lightning_ltts.sampling.samplers import LearnedSpread, Sampler
from lightning_ltts.training.reasoner import ReasonerModule
from lightning_ltts.training.sequences import IGNORED, Encoded, GivenThoughts
from lightning_ltts.training.start import Start


class ColarModule(ReasonerModule):
    """A CoLaR reasoner, trained to predict compressed embeddings of its steps and when they end.

    In each batch a compression factor c is drawn; every c consecutive tokens of the steps become
    one thought, the sum of their embeddings over the square root of their number. The loss is
    (section 3 of the paper)

        token_weight x CE(next token) + latent_weight x |predicted - next thought|^2,

    where a thought's "next token" is one of the next group, drawn at random, or the end of
    thinking, and thoughts are measured in standard deviations of the embeddings.

    Args:
        start: a chain-of-thought checkpoint, a pretrained model, or a tokenizer and a backbone for
            random weights.
        num_thoughts: the most thoughts there can be.
        max_answer_tokens: tokens decoded after the end of thinking.
        max_compression: c is drawn from 1 .. this.
        compression: c at inference.
        prompt_template: with `{question}`, and `{speed}` where c is told.
        spec: further fields of the reasoner's specification.
        embedding_std: standard deviation of the embeddings; measured where it is not given.
        spread: learn a spread around the predicted thought, too.
        token_weight: weight of the cross-entropy.
        latent_weight: weight of the distance between thoughts.
        seed: seed of the compression factors and of the tokens drawn.
        lr: peak learning rate of AdamW.
        warmup: share of all steps in which the learning rate rises, from 0 to 1.
        schedule: course of the learning rate after that.
        optimization: what else `ReasonerModule` has of it. A sampler of passes must perturb all of
            them, since prompt, thoughts and text are read in one.

    Raises:
        ConfigError: an option that cannot be, or `spec` contradicts the others.
    """

    def __init__(
        self,
        start: Start,
        num_thoughts: int = 64,
        max_answer_tokens: int = 16,
        max_compression: int = 5,
        compression: int = 5,
        prompt_template: str = (
            "Question: {question} Let's think step by step:(Thinking speed: {speed})###"
        ),
        spec: SpecChanges | None = None,
        embedding_std: float | None = None,
        spread: bool = True,
        token_weight: float = 1.0,
        latent_weight: float = 1.0,
        seed: int = 0,
        lr: float = 1e-4,
        warmup: float = 0.0,
        schedule: Literal["cosine", "constant"] = "constant",
        **optimization: Any,
    ):
        owner = type(self).__name__
        require_whole(owner, "max_compression", max_compression, 1, MAX_TOKENS)
        require_whole(
            owner, "compression", compression, 1, max_compression, "raise max_compression for more"
        )
        require_whole(owner, "seed", seed, 0, MAX_SEED)
        require_number(owner, "token_weight", token_weight)
        require_number(owner, "latent_weight", latent_weight)
        if embedding_std is not None:
            require_number(owner, "embedding_std", embedding_std, open_ends=True)
        if isinstance(optimization.get("sampler"), LearnedSpread):
            raise ConfigError(
                "ColarModule learns the spread that LearnedSpread samples from by itself; leave "
                "model.init_args.sampler out, or give GaussianNoise"
            )
        _check_passes(optimization.get("sampler"))
        fixed = {
            "num_thoughts": num_thoughts,
            "max_answer_tokens": max_answer_tokens,
            "open_ended": True,
            "prompt_template": prompt_template.replace("{speed}", str(compression)),
            "thought_head": {
                "embedding_std": 1.0 if embedding_std is None else embedding_std,
                "spread": spread,
            },
        }
        reasoner = start.build("colar", fixed, spec)
        if embedding_std is None:
            _measure_embeddings(reasoner)
        super().__init__(reasoner, start, lr=lr, warmup=warmup, schedule=schedule, **optimization)
        self.max_compression = max_compression
        self.compression = compression
        self.prompt_template = prompt_template
        self.token_weight = token_weight
        self.latent_weight = latent_weight
        self.seed = seed

    def on_fit_start(self) -> None:
        """Says what will be trained, and refuses problems that this reasoner cannot think about.

        Raises:
            DataError: a problem without steps, or one whose compressed steps are more than
                `num_thoughts`.
        """
        super().on_fit_start()
        most = self.reasoner.spec.num_thoughts
        for problem in self.training_problems:
            thoughts = -(-sum(map(len, self.encode(problem).steps)) // self.compression)
            if not 1 <= thoughts <= most:
                raise DataError(
                    f"{problem.source} has steps for {thoughts} thoughts at compression "
                    f"{self.compression}, but it must be 1 to num_thoughts={most}; raise it or leave "
                    "the problem out"
                )

    def longest_sequence(self, encoded: Encoded) -> int:
        """Positions of prompt, all step tokens (compression 1), end token and answer."""
        return len(encoded.prompt) + sum(map(len, encoded.steps)) + 1 + len(encoded.answer)

    def loss_of(self, batch: list[Problem]) -> Tensor:
        """Both losses, weighted, at this batch's compression."""
        # a function of the batch's number, so that a resumed run draws as an uninterrupted one would
        number = self.batches_seen * self.trainer.world_size + self.global_rank
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
        compression = int(torch.randint(1, self.max_compression + 1, (), generator=generator))
        token, latent = self.losses(batch, compression, generator)
        self.log_dict({"train/token": token, "train/latent": latent}, batch_size=len(batch))
        return self.token_weight * token + self.latent_weight * latent

    def losses(
        self, problems: list[Problem], compression: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """The two losses of B problems, each a mean over its positions.

        Args:
            problems: problems with steps.
            compression: c, tokens in one thought.
            generator: what draws each thought's next token, and its noise.

        Returns the cross-entropy of the next token and the squared distance to the next thought.
        """
        reasoner = self.reasoner
        prompts = [self._prompt(problem, compression) for problem in problems]
        groups, texts, labels = [], [], []
        for prompt, problem in zip(prompts, map(self.encode, problems), strict=True):
            tokens = [token for step in problem.steps for token in step]
            cut = [tokens[i : i + compression] for i in range(0, len(tokens), compression)]
            drawn = [group[_below(len(group), generator)] for group in cut]
            groups.append(cut)
            texts.append([reasoner.end_id, *problem.answer[:-1]])
            # each position predicts what comes next, from the last of the prompt on
            before = [IGNORED] * (len(prompt) - 1)
            labels.append([*before, *drawn, reasoner.end_id, *problem.answer])

        counts = torch.tensor([len(cut) for cut in groups], device=self.device)
        compressed = self._compress(groups, compression)
        rows = GivenThoughts(
            reasoner, prompts, compressed, counts, texts, self.perturbation(problems)
        )
        hidden = rows.read()
        targets = left_pad(labels, IGNORED)[0].to(self.device)
        token = F.cross_entropy(
            reasoner.logits(hidden).flatten(0, 1).float(), targets.flatten(), ignore_index=IGNORED
        )
        thinks = rows.before_thought
        latent = self._distance(hidden[thinks], rows.next_thoughts[thinks].detach(), generator)
        return token, latent

    def _compress(self, groups: list[list[list[int]]], compression: int) -> Tensor:
        """The thoughts (B, T, d) that groups of token ids become, T being the most groups of a row.

        Each is the sum of the embeddings of its group over the square root of their number.
        """
        most, pad = max(map(len, groups)), self.reasoner.pad_id
        ids = [[[*group, *[-1] * (compression - len(group))] for group in cut] for cut in groups]
        ids = [[*cut, *[[-1] * compression] * (most - len(cut))] for cut in ids]
        tokens = torch.tensor(ids, device=self.device)
        has = (tokens >= 0)[..., None]
        embedded = self.reasoner.embed(tokens.where(tokens >= 0, pad)) * has
        return embedded.sum(2) / has.sum(2).clamp(min=1).sqrt()

    def _distance(self, hidden: Tensor, thoughts: Tensor, generator: torch.Generator) -> Tensor:
        """Mean squared distance of predicted thoughts from those that come, in embedding stds.

        Args:
            hidden: (P, d) hidden states before P thoughts, which are predicted from them with the
                learned spread.
            thoughts: (P, d) the thoughts that come.
            generator: what draws the noise.
        """
        head: ColarHead = self.reasoner.thought_head  # type: ignore[assignment]
        predicted = head(hidden)
        spread = head.spread(hidden)
        if spread is not None:
            predicted = predicted + spread * torch.randn(predicted.shape, generator=generator).to(
                predicted
            )
        return F.mse_loss(
            predicted.float() / head.embedding_std, thoughts.float() / head.embedding_std
        )

    def _prompt(self, problem: Problem, compression: int) -> list[int]:
        """The prompt that tells this compression."""
        if "{speed}" not in self.prompt_template or compression == self.compression:
            return self.encode(problem).prompt
        template = self.prompt_template.replace("{speed}", str(compression))
        reasoner = self.reasoner
        ids = encode_template(
            reasoner.tokenizer,
            template,
            problem.question,
            problem.source,
            reasoner.spec.add_special_tokens,
        )
        return ids if reasoner.start_id is None else [*ids, reasoner.start_id]


def _check_passes(sampler: Sampler | None) -> None:
    """Refuses a sampler of passes that leaves some of them as they are.

    Raises:
        ConfigError: in the one pass of CoLaR's training it would perturb those, too.
    """
    if sampler is None or not sampler.perturbs_forward:
        return
    if not (sampler.perturbs_prompt and getattr(sampler, "answer", False)):
        raise ConfigError(
            "ColarModule reads prompt, thoughts and answer in one pass, of which "
            f"{type(sampler).__name__} cannot perturb the thoughts alone; give GaussianNoise, or "
            "MCDropout with prompt=true and answer=true"
        )


def _measure_embeddings(reasoner: LatentReasoner) -> None:
    """Sets the head's unit to the standard deviation of the token embeddings."""
    head: ColarHead = reasoner.thought_head  # type: ignore[assignment]
    head.embedding_std = float(reasoner.embed(torch.arange(len(reasoner.tokenizer))).std())
    reasoner.spec.thought_head["embedding_std"] = head.embedding_std


def _below(limit: int, generator: torch.Generator) -> int:
    """A random whole number from 0 to below the limit."""
    return int(torch.randint(limit, (), generator=generator))
