"""Search over a problem set inside `ltts predict`: module, data, and the files it writes."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from lightning_ltts.analysis.thought_store import StoredThoughts
from lightning_ltts.data.answers import format_answer
from lightning_ltts.data.problems import Problem
from lightning_ltts.engine.grading import read_answers
from lightning_ltts.engine.packing import halve_if_needed
from lightning_ltts.engine.rollout import Cost, RolloutEngine
from lightning_ltts.errors import ConfigError
from lightning_ltts.models.checkpoints import load_latent_rm, load_reasoner
from lightning_ltts.models.latent_lm import SpecChanges, fingerprint, left_pad
from lightning_ltts.models.latent_rm import Reference, Scores
from lightning_ltts.prediction.rows import LENS_SAMPLES, LENS_TOKENS, sample_rows, survival_row
from lightning_ltts.sampling.keyed_random import question_keys, sample_keys
from lightning_ltts.sampling.samplers import Deterministic, Sampler
from lightning_ltts.search.beam import BeamSearch
from lightning_ltts.voting.selection import selections
from lightning_ltts.voting.votes import vote_numbers


class LatentSearch(pl.LightningModule):
    """Predicts problems by greedy decoding, N samples with their scores, and guided beam search.

    Every selection (majority, weighted vote, best-of-N) is computed from the samples afterwards.

    Args:
        reasoner: checkpoint of the reasoner.
        sampler: the sampler; the one the LatentRM's trajectories were mined with.
        latent_rm: checkpoint of the LatentRM; without it there are no scores, and no beam search.
        num_samples: N, samples per problem.
        beam: guided beam search, or none.
        seed: of the samples.
        spec: fields of the reasoner's specification to set otherwise, for instance num_thoughts or prompt_template.
        token_budget: positions held at once; by default as many as the free memory allows. Results do not depend on it.
        compile: see `RolloutEngine`.
    """

    def __init__(
        self,
        reasoner: str,
        sampler: Sampler,
        latent_rm: str | None = None,
        num_samples: int = 32,
        beam: BeamSearch | None = None,
        seed: int = 0,
        spec: SpecChanges | None = None,
        token_budget: int | None = None,
        compile: bool = False,
    ):
        super().__init__()
        if num_samples < 1:
            raise ConfigError(f"model.init_args.num_samples={num_samples} must be at least 1")
        if beam is not None and latent_rm is None:
            raise ConfigError("guided beam search needs a LatentRM; set model.init_args.latent_rm or model.init_args.beam=null")
        self.reasoner = load_reasoner(reasoner, **(spec or {}))
        if self.reasoner.spec.num_thoughts == 0:
            raise ConfigError(f"{reasoner} is of stage 0, without thoughts to search over; train it further")
        if beam is not None and self.reasoner.spec.open_ended:
            raise ConfigError(
                f"{reasoner} ends its thinking by itself, and guided beam search compares beams of equal length; set "
                "model.init_args.beam=null"
            )
        self.latent_rm = load_latent_rm(latent_rm) if latent_rm else None
        if self.latent_rm is not None and self.latent_rm.spec.thought_size != self.reasoner.hidden_size:
            raise ConfigError(
                f"the LatentRM {latent_rm} reads thoughts of size {self.latent_rm.spec.thought_size}, but those of "
                f"{reasoner} have {self.reasoner.hidden_size}; use the LatentRM trained for this reasoner"
            )
        trained_for = self.latent_rm.spec.reasoner if self.latent_rm is not None else None
        # what `spec` sets otherwise does not make it another reasoner
        if trained_for is not None and trained_for != fingerprint(load_reasoner(reasoner) if spec else self.reasoner):
            raise ConfigError(f"the LatentRM {latent_rm} was trained for another reasoner than {reasoner}; train one for it")
        self.sampler = sampler
        self.num_samples = num_samples
        self.beam = beam
        self.seed = seed
        self.engine = RolloutEngine(self.reasoner, sampler, token_budget, compile)
        self.greedy = RolloutEngine(self.reasoner, Deterministic(), token_budget)
        self.keep_thoughts: set[str] = set()  # of these problems; the writer says which
        self.kept: list[StoredThoughts] = []  # until the writer has them
        self.seconds: defaultdict[str, float] = defaultdict(float)  # part of the search -> wall clock on this device

    @property
    def rows_per_question(self) -> int:
        """The most trajectories of one problem that are held at once."""
        return max(self.num_samples, self.beam.budget if self.beam else 1)

    @property
    def questions_per_pass(self) -> int:
        """How many problems `predict_step` is given together; it packs them by their length."""
        spec = self.reasoner.spec
        return max(1, self.engine.budget // (self.rows_per_question * (spec.num_thoughts + 2 + spec.max_answer_tokens)))

    def settings(self) -> dict[str, Any]:
        """All that determines the predictions, except problems and precision."""
        return {
            "reasoner": fingerprint(self.reasoner),
            "latent_rm": None if self.latent_rm is None else fingerprint(self.latent_rm),
            "sampler": repr(self.sampler),
            "num_samples": self.num_samples,
            "beam": None if self.beam is None else [self.beam.beams, self.beam.candidates, self.beam.subtrees],
            "seed": self.seed,
        }

    def predict_step(self, batch: list[Problem] | Problem, batch_idx: int) -> list[dict[str, Any]]:
        """One row per problem, as `predictions.jsonl` holds them. Lightning's own loop gives problems one by one."""
        problems = [batch] if isinstance(batch, Problem) else batch
        spec = self.reasoner.spec
        prompts = [self.reasoner.encode_prompt(problem.question, problem.source) for problem in problems]
        lengths, rows = [len(prompt) for prompt in prompts], {}
        for pack in self.engine.packs(lengths, self.rows_per_question, spec.num_thoughts + 2 + spec.max_answer_tokens):
            for part in halve_if_needed(pack, lambda chosen: self._search(chosen, problems, prompts)):
                rows.update(part)
        return [rows[i] for i in range(len(problems))]

    def _search(self, chosen: list[int], problems: list[Problem], prompts: list[list[int]]) -> dict[int, dict[str, Any]]:
        """Index of each chosen problem -> its row. Each prompt is read once by the reasoner and once by the LatentRM."""
        reasoner, spec = self.reasoner, self.reasoner.spec
        batch = [problems[i] for i in chosen]
        ids, mask = (x.to(self.device) for x in left_pad([prompts[i] for i in chosen], reasoner.pad_id))
        keys = question_keys(self.seed, [problem.id for problem in batch]).to(self.device)
        names, lengths = sample_keys(keys, self.num_samples), (spec.num_thoughts, spec.max_answer_tokens)
        everyone = torch.arange(len(batch))
        cost: dict[str, Cost] = {}

        self.greedy.cost = Cost()
        with self._timed("prompt"):
            prompt = self.greedy.start(ids, mask, keys[:, None], sum(lengths) + 1)
        cost["prompt"], self.greedy.cost = self.greedy.cost, Cost()
        with self._timed("greedy"):
            alone, tokens = self.greedy.sample(prompt.take(everyone), keys[:, None], *lengths)
        greedy = read_answers(reasoner, tokens[:, 0])
        reference = Reference(alone.fed[:, 0], alone.counts[:, 0], tokens[:, 0])
        cost["greedy"], self.engine.cost = self.greedy.cost, Cost()

        shared = not self.sampler.perturbs_prompt
        with self._timed("sampling"):
            start = prompt.take(everyone) if shared else self.engine.start(ids, mask, names, sum(lengths) + 1)
            made, tokens = self.engine.sample(start, names, *lengths)
        cost["sampling"], self.engine.cost = self.engine.cost, Cost()
        counts, scores = made.counts if spec.open_ended else None, None
        if self.latent_rm is not None:
            with self._timed("scoring"):
                judge = self.latent_rm.start(ids, mask, reference)
                scores = self.latent_rm.judge(ids, mask, made.fed, counts, tokens, read=judge, clean=made.clean)
        samples = sample_rows(reasoner, tokens, scores, counts)
        for i in [i for i, problem in enumerate(batch) if problem.id in self.keep_thoughts]:
            self.kept.append(self._keep(batch[i].id, made.fed[i], made.counts[i], alone.fed[i, 0, : alone.counts[i, 0]]))
        choices = self._choose(samples, scores)
        beams: list[list[dict[str, Any]]] | None = None
        if self.beam is not None and self.latent_rm is not None:
            read = (prompt, judge) if shared else None
            with self._timed("beam"):
                found = self.beam.search(self.engine, self.latent_rm, ids, mask, keys, read, reference)
            beams = sample_rows(reasoner, found.answer_ids, found.scores)
            cost["beam"] = self.engine.cost

        rows = {}
        for i, problem in enumerate(batch):
            row: dict[str, Any] = {
                "id": problem.id,
                "question": problem.question,
                "answer": format_answer(problem.value),
                "sampler": repr(self.sampler),
                "seed": self.seed,
                "steps": len(problem.steps),
                "prompt_tokens": len(prompts[chosen[i]]),
                "greedy": {"answer": format_answer(greedy[i])},
                "samples": samples[i],
            }
            if beams is not None and self.beam is not None:
                row["beam"] = {"budget": self.beam.budget, "beams": beams[i]}
                if found.trace:
                    row["beam"]["survival"] = [survival_row(reasoner, step, i, problem) for step in found.trace]
            if self.latent_rm is not None:
                row["temperature"] = self.latent_rm.spec.temperature
                row["agreement"] = self.latent_rm.spec.agreement
            row["choices"] = {name: int(chosen[i]) for name, chosen in choices.items()}
            # a pass is shared by its problems, and so is its cost
            row["cost"] = {
                part: {"token_forwards": c.token_forwards / len(batch), "tree_nodes": c.tree_nodes / len(batch)}
                for part, c in cost.items()
            }
            rows[chosen[i]] = row
        return rows

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        """Adds to the seconds of a part of the search, the accelerator's work included."""
        began = time.perf_counter()
        yield
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)
        self.seconds[part] += time.perf_counter() - began

    def _keep(self, name: str, samples: Tensor, counts: Tensor, deterministic: Tensor) -> StoredThoughts:
        """Thoughts (N, T, d) and (T, d) of a problem, and what those of some trajectories say by the logit lens.

        That is the output embedding applied to the thought as it is fed back. For COCONUT it is the hidden state that would
        have been decoded; CODI's and CoLaR's thoughts are inputs, and this finds the tokens whose embeddings they are like.
        """
        lens = []
        for number in (None, *range(min(LENS_SAMPLES, len(samples)))):
            made = deterministic if number is None else samples[number, : counts[number]]
            likely, ids = self.reasoner.logits(made.to(self.reasoner.backbone.dtype)).float().softmax(-1).topk(LENS_TOKENS)
            for t, (row, tokens) in enumerate(zip(likely.tolist(), ids.tolist(), strict=True)):
                texts = [self.reasoner.tokenizer.decode([token]) for token in tokens]
                lens.append({"sample": number, "step": t, "tokens": texts, "probabilities": [round(x, 4) for x in row]})
        return StoredThoughts(name, samples, counts, deterministic, lens)

    def _choose(self, samples: list[list[dict[str, Any]]], scores: Scores | None) -> dict[str, Tensor]:
        """Name of each selection -> index (Q,) of the sample it chooses, -1 for none."""
        votes = torch.tensor([vote_numbers([sample["answer"] for sample in question]) for question in samples])
        totals = torch.zeros(votes.shape) if scores is None else scores.trajectory.float().cpu()
        fitted = {} if self.latent_rm is None else vars(self.latent_rm.spec)
        chosen_by = selections(fitted, scored=scores is not None)
        return {selection.name: selection.choose(votes, totals) for selection in chosen_by}
