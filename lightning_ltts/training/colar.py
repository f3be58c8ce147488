"""Training a CoLaR reasoner: thoughts are compressed steps, as long as the model wants (arXiv 2505.16552)."""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_ltts.data.problems import Problem
from lightning_ltts.data.tokenization import encode_text
from lightning_ltts.errors import ConfigError, DataError
from lightning_ltts.models.latent_lm import SpecChanges, left_pad, position_ids
from lightning_ltts.models.thought_heads import ColarHead
from lightning_ltts.training.reasoner import ReasonerModule
from lightning_ltts.training.sequences import Encoded
from lightning_ltts.training.start import Start


class ColarModule(ReasonerModule):
    """A CoLaR reasoner, trained to predict compressed embeddings of its steps and when they end.

    In each batch a compression factor c is drawn; every c consecutive tokens of the steps become one thought, the sum of their
    embeddings over the square root of their number. The loss is (section 3 of the paper)

        token_weight x CE(next token) + latent_weight x |predicted - next thought|^2,

    where a thought's "next token" is one of the next group, drawn at random, or the end of thinking, and thoughts are measured
    in standard deviations of the embeddings.

    Args:
        start: a chain-of-thought checkpoint, a pretrained model, or a tokenizer and a backbone for random weights.
        num_thoughts: the most thoughts there can be.
        max_answer_tokens: tokens decoded after the end of thinking.
        max_compression: c is drawn from 1 .. this.
        compression: c at inference.
        prompt_template: with `{question}`, and `{speed}` where c is told.
        spec: further fields of the reasoner's specification.
        embedding_std: standard deviation of the embeddings; measured where it is not given.
        spread: learn a spread around the predicted thought, too.
        token_weight: of the cross-entropy.
        latent_weight: of the distance between thoughts.
        seed: of the compression factors and of the tokens drawn.
        lr: peak learning rate of AdamW.
        weight_decay: of AdamW.
        warmup: share of all steps in which the learning rate rises.
        schedule: what it does after that.
    """

    def __init__(
        self,
        start: Start,
        num_thoughts: int = 64,
        max_answer_tokens: int = 16,
        max_compression: int = 5,
        compression: int = 5,
        prompt_template: str = "Question: {question} Let's think step by step:(Thinking speed: {speed})###",
        spec: SpecChanges | None = None,
        embedding_std: float | None = None,
        spread: bool = True,
        token_weight: float = 1.0,
        latent_weight: float = 1.0,
        seed: int = 0,
        lr: float = 1e-4,
        weight_decay: float = 0.01,
        warmup: float = 0.0,
        schedule: Literal["cosine", "constant"] = "constant",
    ):
        if not 1 <= compression <= max_compression:
            raise ConfigError(f"compression={compression} must be between 1 and max_compression={max_compression}")
        options: dict[str, Any] = {"num_thoughts": num_thoughts, "max_answer_tokens": max_answer_tokens, "open_ended": True}
        options["prompt_template"] = prompt_template.replace("{speed}", str(compression))
        options["thought_head"] = {"embedding_std": embedding_std or 1.0, "spread": spread}
        reasoner = start.build("colar", {**options, **(spec or {})})
        if embedding_std is None:
            head: ColarHead = reasoner.thought_head  # type: ignore[assignment]
            head.embedding_std = float(reasoner.embed(torch.arange(len(reasoner.tokenizer))).std())
            reasoner.spec.thought_head["embedding_std"] = head.embedding_std
        super().__init__(reasoner, start, lr, weight_decay, warmup, schedule)
        self.save_hyperparameters()
        self.max_compression = max_compression
        self.compression = compression
        self.prompt_template = prompt_template
        self.token_weight = token_weight
        self.latent_weight = latent_weight
        self.seed = seed

    def on_fit_start(self) -> None:
        """Says what will be trained, and refuses problems that this reasoner cannot think about.

        Raises:
            DataError: a problem without steps, or one whose compressed steps are more than `num_thoughts`.
        """
        super().on_fit_start()
        for problem in self.trainer.datamodule.problems["train"]:  # type: ignore[attr-defined]
            thoughts = -(-sum(map(len, self.encode(problem).steps)) // self.compression)
            if not 1 <= thoughts <= self.reasoner.spec.num_thoughts:
                raise DataError(
                    f"{problem.source} has steps for {thoughts} thoughts at compression {self.compression}, but it must be 1 "
                    f"to num_thoughts={self.reasoner.spec.num_thoughts}; raise it or leave the problem out"
                )

    def positions(self, encoded: Encoded) -> int:
        """Of prompt, all step tokens (compression 1) and answer."""
        return len(encoded.prompt) + sum(map(len, encoded.steps)) + 1 + len(encoded.answer)

    def loss_of(self, batch: list[Problem]) -> Tensor:
        """Both losses, weighted, at this batch's compression."""
        step = self.global_step * self.trainer.world_size + self.global_rank
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)  # the same after a resume
        compression = int(torch.randint(1, self.max_compression + 1, (), generator=generator))
        token, latent = self.losses(batch, compression, generator)
        self.log_dict({"train/token": token, "train/latent": latent}, batch_size=len(batch))
        return self.token_weight * token + self.latent_weight * latent

    def losses(self, problems: list[Problem], compression: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Cross-entropy of the next token, and squared distance to the next thought, each a mean over its positions."""
        reasoner, device = self.reasoner, self.device
        prompts = [self._prompt(problem, compression) for problem in problems]
        encoded = [self.encode(problem) for problem in problems]
        rows, labels, groups = [], [], []
        for prompt, problem in zip(prompts, encoded, strict=True):
            steps = [token for step in problem.steps for token in step]
            cut = [steps[i : i + compression] for i in range(0, len(steps), compression)]
            drawn = [group[int(torch.randint(len(group), (), generator=generator))] for group in cut]
            groups.append(cut)
            # thoughts are written as padding here, and put in below
            rows.append([*prompt, *[reasoner.pad_id] * len(cut), reasoner.end_id, *problem.answer[:-1]])
            labels.append([*[-100] * (len(prompt) - 1), *drawn, reasoner.end_id, *problem.answer])
        ids, mask = (x.to(device) for x in left_pad(rows, reasoner.pad_id))
        targets, _ = left_pad(labels, -100)
        compressed = self._compress(groups, compression)  # (B, groups, d)
        width = ids.shape[1]
        first = torch.tensor([width - len(r) + len(p) for r, p in zip(rows, prompts, strict=True)], device=device)
        index = torch.arange(width, device=device) - first[:, None]  # which thought a position holds
        counts = torch.tensor([len(cut) for cut in groups], device=device)[:, None]
        at = index.clamp(0, compressed.shape[1] - 1)[..., None].expand(-1, -1, compressed.shape[-1])
        is_thought = ((index >= 0) & (index < counts))[..., None]
        inputs = torch.where(is_thought, compressed.gather(1, at), reasoner.embed(ids))
        output = reasoner.backbone.base_model(
            inputs_embeds=inputs, position_ids=position_ids(mask), attention_mask=mask, use_cache=False
        )
        hidden = output.last_hidden_state
        token = F.cross_entropy(reasoner.logits(hidden).flatten(0, 1).float(), targets.to(device).flatten(), ignore_index=-100)
        predicts = (index >= -1) & (index < counts - 1)  # positions after which a thought comes
        after = (index + 1).clamp(0, compressed.shape[1] - 1)[..., None].expand(-1, -1, compressed.shape[-1])
        latent = self._distance(hidden[predicts], compressed.gather(1, after)[predicts].detach(), generator)
        return token, latent

    def _compress(self, groups: list[list[list[int]]], compression: int) -> Tensor:
        """Groups of token ids -> (B, most groups, d), each the sum of its embeddings over the root of their number."""
        most, pad = max(map(len, groups)), self.reasoner.pad_id
        ids = [[[*group, *[-1] * (compression - len(group))] for group in cut] for cut in groups]
        ids = [[*cut, *[[-1] * compression] * (most - len(cut))] for cut in ids]
        tokens = torch.tensor(ids, device=self.device)
        has = (tokens >= 0)[..., None]
        embedded = self.reasoner.embed(tokens.where(tokens >= 0, pad)) * has
        return embedded.sum(2) / has.sum(2).clamp(min=1).sqrt()

    def _distance(self, hidden: Tensor, thoughts: Tensor, generator: torch.Generator) -> Tensor:
        """Mean squared distance of predicted thoughts (P, d), drawn with the learned spread, from (P, d), in embedding stds."""
        head: ColarHead = self.reasoner.thought_head  # type: ignore[assignment]
        predicted = head(hidden)
        spread = head.spread(hidden)
        if spread is not None:
            predicted = predicted + spread * torch.randn(predicted.shape, generator=generator).to(predicted)
        return F.mse_loss(predicted.float() / head.embedding_std, thoughts.float() / head.embedding_std)

    def _prompt(self, problem: Problem, compression: int) -> list[int]:
        """The prompt that tells this compression."""
        if "{speed}" not in self.prompt_template or compression == self.compression:
            return self.encode(problem).prompt
        text = self.prompt_template.replace("{speed}", str(compression)).replace("{question}", problem.question)
        ids = encode_text(self.reasoner.tokenizer, text, problem.source, self.reasoner.spec.add_special_tokens)
        return ids if self.reasoner.start_id is None else [*ids, self.reasoner.start_id]
