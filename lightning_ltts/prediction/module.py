"""Search over a problem set inside `ltts predict`: the module that predicts."""

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from lightning_ltts.cluster.replicas import Replica
from lightning_ltts.cluster.sharded import refuse_matrices
from lightning_ltts.data.problems import Problem
from lightning_ltts.data.ranges import MAX_SAMPLES, MAX_SEED, require_whole
from lightning_ltts.data.room import find_too_long, prompt_lengths, say_long_answers
from lightning_ltts.data.stored_problems import ProblemView
from lightning_ltts.engine.packing import automatic_budget, halve_if_needed
from lightning_ltts.engine.rollout import RolloutEngine
from lightning_ltts.engine.walk import Branches
from lightning_ltts.errors import ConfigError
from lightning_ltts.mining.trained_on import LATENT_RM, REASONER, say_trained_on
from lightning_ltts.models.checkpoints import load_latent_rm, load_reasoner
from lightning_ltts.models.cost import Cost
from lightning_ltts.models.cpu_layout import lay_out_for_reading
from lightning_ltts.models.divided_heads import what_speaks_against
from lightning_ltts.models.latent_lm import SpecChanges, fingerprint, left_pad
from lightning_ltts.models.step_decoder import load_step_decoder
from lightning_ltts.models.trajectories import Trajectories
from lightning_ltts.prediction.ablation import Pool, ThoughtAblation
from lightning_ltts.prediction.data import PredictionData
from lightning_ltts.prediction.rows import TAKEN, Outcome, Prediction, RowMaker
from lightning_ltts.prediction.tuned import Tuned
from lightning_ltts.sampling.keyed_random import question_keys, sample_keys
from lightning_ltts.sampling.samplers import Sampler, TokenSampling
from lightning_ltts.search.beam import BeamSearch
from lightning_ltts.search.search import Search


def _check_ranges(num_samples: int, seed: int, token_budget: int | None) -> None:
    require_whole("LatentSearch", "num_samples", num_samples, 1, MAX_SAMPLES)
    require_whole("LatentSearch", "seed", seed, 0, MAX_SEED)
    require_whole("LatentSearch", "token_budget", 1 if token_budget is None else token_budget, 1)


def _check_without_thoughts(
    reasoner: str, beam: Search | None, sampler: Sampler, ablation: ThoughtAblation | None
) -> None:
    """Refuses what needs thoughts, for a reasoner that has none."""
    if beam is not None or not isinstance(sampler, TokenSampling):
        raise ConfigError(
            f"{reasoner} is of stage 0, without thoughts to search over; train it further, or "
            "sample what it writes: sampler=token_sampling model.init_args.beam=null"
        )
    if ablation is not None:
        raise ConfigError(
            f"{reasoner} is of stage 0, without thoughts to replace; set "
            "model.init_args.ablation=null"
        )


class LatentSearch(pl.LightningModule):
    """Predicts problems by greedy decoding, N samples with their scores, and a guided tree search.

    Every selection (majority, weighted vote, best-of-N) is computed from the samples afterwards.

    Args:
        reasoner: checkpoint of the reasoner.
        sampler: the sampler; the one that the LatentRM's trajectories were mined with.
        latent_rm: checkpoint of the LatentRM; without it there are no scores, and no tree search.
        num_samples: N, samples per problem.
        beam: the guided tree search, for instance `BeamSearch`, or none.
        seed: seed of the samples.
        spec: fields of the reasoner's specification to set otherwise, for instance num_thoughts or
            prompt_template.
        token_budget: positions held at once; by default as many as the free memory allows. Results
            do not depend on it.
        compile: whether the MLPs are compiled; `RolloutEngine` says what of it.
        leave_out_long: leave out problems whose prompts are too long for the backbone, and count
            them as wrong. Otherwise such a problem is refused before anything is predicted.
        tuned: file that `ltts tune` wrote: parameters of the rules without training and, for
            majority voting, samples of another strength, chosen on validation problems.
        ablation: also answer with the greedy trajectory's thoughts replaced, to see whether they
            matter.
        step_decoder: checkpoint of the reasoner's training whose step decoder (`step_factor`) reads
            the stored thoughts (`keep_thoughts`) out as text, for the report.

    Raises:
        ConfigError: an option makes no sense, or reasoner, LatentRM and search do not fit together.
    """

    def __init__(
        self,
        reasoner: str,
        sampler: Sampler,
        latent_rm: str | None = None,
        num_samples: int = 32,
        beam: Search | None = None,
        seed: int = 0,
        spec: SpecChanges | None = None,
        token_budget: int | None = None,
        compile: bool = False,
        leave_out_long: bool = False,
        tuned: str | None = None,
        ablation: ThoughtAblation | None = None,
        step_decoder: str | None = None,
    ):
        super().__init__()
        _check_ranges(num_samples, seed, token_budget)
        if beam is not None and latent_rm is None:
            raise ConfigError(
                "guided beam search needs a LatentRM; set model.init_args.latent_rm or model.init_args.beam=null"
            )
        if beam is not None and beam.name in TAKEN:
            raise ConfigError(
                f"the tree search {type(beam).__name__} is called '{beam.name}', which is already "
                "the name of something else in a prediction; give it another name"
            )
        self.checkpoints = {REASONER: reasoner} | ({LATENT_RM: latent_rm} if latent_rm else {})
        self.reasoner = load_reasoner(reasoner, **(spec or {}))
        if self.reasoner.spec.num_thoughts == 0:
            _check_without_thoughts(reasoner, beam, sampler, ablation)
        if beam is not None and self.reasoner.spec.open_ended:
            raise ConfigError(
                f"{reasoner} ends its thinking by itself, and guided beam search compares beams of "
                "equal length; set model.init_args.beam=null"
            )
        self.latent_rm = load_latent_rm(latent_rm) if latent_rm else None
        if self.latent_rm is not None:
            self._check_latent_rm(str(latent_rm), reasoner, spec)
        self.step_decoder = load_step_decoder(step_decoder, self.reasoner) if step_decoder else None
        self.sampler = sampler
        self.num_samples = num_samples
        self.beam = beam
        self.seed = seed
        self.token_budget = token_budget
        self.tuned = Tuned.load(tuned) if tuned else None
        self.engine = self._make_engine(compile)
        scored_by = None if self.latent_rm is None else self.latent_rm.spec
        self.make_rows = RowMaker(self.reasoner, scored_by, beam, sampler, seed, num_samples)
        if self.tuned is not None:
            chosen = self.tuned.fitted
            self.make_rows = replace(self.make_rows, tuned=chosen, num_tuned=num_samples)
        self.ablation = ablation
        self._first: list[Problem] = []  # of those that are to be predicted, and can be read
        self._pool: Pool | None = None  # made of them when it is first needed
        self.leave_out_long = leave_out_long
        self._left_out: frozenset[str] = frozenset()  # ids of problems that are too long
        self._checked: Sequence[Problem] | None = None
        self.seconds: defaultdict[str, float] = defaultdict(float)  # part -> wall clock of it here

    def _make_engine(self, compile: bool) -> RolloutEngine:
        engine = RolloutEngine(self.reasoner, self.sampler, self.token_budget, compile)
        if self.tuned is None:
            return engine
        # prompts are read so that both samplers can go on from them
        return engine.with_sampler(self.tuned.majority_sampler).with_sampler(self.sampler)

    def _check_latent_rm(self, latent_rm: str, reasoner: str, spec: SpecChanges | None) -> None:
        """Refuses a LatentRM of another reasoner than the given one."""
        assert self.latent_rm is not None, "checked by the caller"
        size, trained_for = self.latent_rm.spec.thought_size, self.latent_rm.spec.reasoner
        if size != self.reasoner.hidden_size:
            raise ConfigError(
                f"the LatentRM {latent_rm} reads thoughts of size {size}, but those of {reasoner} "
                f"have {self.reasoner.hidden_size}; use the LatentRM trained for this reasoner"
            )
        if trained_for is None:
            return
        # what `spec` sets otherwise does not make it another reasoner
        if trained_for != fingerprint(load_reasoner(reasoner) if spec else self.reasoner):
            raise ConfigError(
                f"the LatentRM {latent_rm} was trained for another reasoner than {reasoner}; train one for it"
            )

    @property
    def rows_per_question(self) -> int:
        """The most trajectories of one problem that are held at once."""
        return max(self.num_samples, self.beam.budget if self.beam else 1)

    @property
    def questions_per_pass(self) -> int:
        """How many problems `predict_step` is given together; it packs them by their length."""
        return max(1, self.engine.budget // (self.rows_per_question * self.engine.suffix))

    def search_with(self, sampler: Sampler) -> None:
        """Samples by another sampler from here on, and without a tree search."""
        self.sampler, self.beam = sampler, None
        self.engine = self.engine.with_sampler(sampler)
        self.make_rows = replace(self.make_rows, sampler=sampler, search=None)

    def settings(self) -> dict[str, Any]:
        """All that determines the predictions, except problems and precision."""
        return {
            "reasoner": fingerprint(self.reasoner),
            "latent_rm": None if self.latent_rm is None else fingerprint(self.latent_rm),
            "sampler": self.sampler.settings(),
            "num_samples": self.num_samples,
            "beam": None if self.beam is None else self.beam.settings(),
            "seed": self.seed,
            **({} if self.tuned is None else {"tuned": self.tuned.settings()}),
            **({} if self.ablation is None else {"ablation": self.ablation.settings()}),
            **(
                {}
                if self.step_decoder is None
                else {"step_decoder": self.step_decoder.fingerprint()}
            ),
        }

    def older_settings(self) -> dict[str, Any]:
        """Forms in which earlier versions wrote some of the settings."""
        older: dict[str, Any] = {"sampler": repr(self.sampler)}
        if isinstance(self.beam, BeamSearch):
            older["beam"] = [self.beam.beams, self.beam.candidates, self.beam.subtrees]
        return older

    def setup(self, stage: str) -> None:
        """Checks the problems, unless a writer has, before it has made a folder for them."""
        data = getattr(self.trainer, "datamodule", None)
        if isinstance(data, PredictionData) and data.problems is not self._checked:
            self.check_problems(data.problems)

    def check_problems(self, problems: Sequence[Problem]) -> None:
        """Finds out, before anything is predicted, which problems cannot be read or answered right.

        Raises:
            DataError: a word is not in the vocabulary, or a prompt is too long and such are not to
                be left out.
        """
        self._checked = problems
        reasoner, room, left_out = self.reasoner, self.engine.suffix - 1, list[Problem]()
        if self.leave_out_long:
            left_out = find_too_long(reasoner, problems, room)
        self._left_out = frozenset(problem.id for problem in left_out)
        read = problems
        if left_out:
            fits = [i for i, problem in enumerate(problems) if problem.id not in self._left_out]
            read = ProblemView(problems, fits)
        prompt_lengths(reasoner, read, room)
        self._first, self._pool = list(read[: self.ablation.pool if self.ablation else 0]), None
        if left_out:
            rank_zero_info(
                f"{len(left_out)} of {len(problems)} problems are too long for the backbone (from "
                f"{left_out[0].source} on): they are left out, and count as wrong"
            )
        spec = reasoner.spec
        say_long_answers(reasoner.tokenizer, read, spec.max_answer_tokens, spec.answer_marker)
        for kind, path in self.checkpoints.items():
            say_trained_on(path, problems, "predict", kind)

    def configure_model(self) -> None:
        """Under tensor parallelism, leaves this process its part of the models.

        Raises:
            ConfigError: the reasoner cannot be divided over so many devices, the sampler perturbs
                matrices, or there is a step decoder.
        """
        if self.device_mesh is None:
            return
        replica = Replica.of(self.trainer)
        if replica.mesh is None:
            return
        if self.step_decoder is not None:
            raise ConfigError(
                "the step decoder is not divided over devices; leave trainer=tensor_parallel out, or "
                "set model.init_args.step_decoder=null"
            )
        if self.tuned is not None:
            refuse_matrices(self.tuned.majority_sampler)
        refuse_matrices(self.sampler)
        replica.divide(self.reasoner)
        # a LatentRM of another shape stays whole: all devices read the same with it
        devices, rm = replica.mesh.size(), self.latent_rm
        if rm is not None and what_speaks_against(rm.backbone, devices) is None:
            replica.divide(rm)

    def on_predict_start(self) -> None:
        """The models are where they stay, and are read alone from here on.

        An engine's workers get them as they were loaded, and do it themselves.
        """
        if getattr(self.trainer.predict_loop, "engine", None) is not None:
            return
        lay_out_for_reading(self)
        self.fit_budget()
        replica = Replica() if self.device_mesh is None else Replica.of(self.trainer)
        if replica.mesh is not None:
            self.engine.keep_in_step(replica.least(self.engine.budget), replica.agree)

    def fit_budget(self) -> None:
        """Makes passes as large as the device allows that the models are on now."""
        self.engine.budget = self.token_budget or automatic_budget(self.reasoner)

    def predict_step(self, batch: list[Problem] | Problem, batch_idx: int) -> list[Prediction]:
        """One prediction per problem. Lightning's own loop gives problems one by one."""
        problems = [batch] if isinstance(batch, Problem) else batch
        prompts = [self.reasoner.encode_prompt(p.question, p.source) for p in problems]
        predictions: dict[int, Prediction] = {}

        def run(numbers: list[int]) -> None:
            some, read = [problems[i] for i in numbers], [prompts[i] for i in numbers]
            made = self.make_rows(some, read, self._search(some, read))
            predictions.update(zip(numbers, made, strict=True))

        left_out = [i for i, problem in enumerate(problems) if problem.id in self._left_out]
        if left_out:
            some, read = [problems[i] for i in left_out], [prompts[i] for i in left_out]
            predictions.update(zip(left_out, self.make_rows.unread(some, read), strict=True))
        fits = [i for i in range(len(problems)) if i not in predictions]
        for pack in self.engine.packs([len(prompts[i]) for i in fits], self.rows_per_question):
            halve_if_needed([fits[i] for i in pack], run, self.engine.may_halve)
        return [predictions[i] for i in range(len(problems))]

    def _search(self, problems: list[Problem], prompts: list[list[int]]) -> Outcome:
        """Each prompt is read once by the reasoner and once by the LatentRM."""
        ids, mask = (x.to(self.device) for x in left_pad(prompts, self.reasoner.pad_id))
        keys = question_keys(self.seed, [problem.id for problem in problems]).to(self.device)
        names, every = sample_keys(keys, self.num_samples), torch.arange(len(problems))
        costs: dict[str, Cost] = {}
        # The prompt is read without the sampler, for the greedy trajectory, and shared by all that
        # follows unless the sampler perturbs it.
        shared = not self.sampler.perturbs_prompt
        with self._measured("prompt", costs):
            prompt = self.engine.noiseless.start(ids, mask, keys[:, None])
        # The greedy trajectory: a result of its own, and what some LatentRMs compare with.
        with self._measured("greedy", costs):
            greedy = self.engine.greedy(prompt.take(every))
        replaced = self._replaced(prompt, problems)
        with self._measured("sampling", costs):
            start = prompt.take(every) if shared else self.engine.start(ids, mask, names)
            samples = self.engine.sample(start, names)
        tuned = self._sample_tuned(ids, mask, names, prompt, costs)
        scores, prompt_state, found = None, None, None
        if self.latent_rm is not None:
            with self._measured(
                "latent_rm_prompt", costs
            ):  # the prompt, which all that it scores share
                prompt_state = self.latent_rm.start(ids, mask, greedy)
            with self._measured("scoring", costs):
                scores = self.latent_rm.judge(ids, mask, samples, prompt_state=prompt_state)
        # The tree search comes last, since it uses up the prompt's branches.
        if self.beam is not None and self.latent_rm is not None:
            branches = prompt if shared else None
            with self._measured(self.beam.name, costs):
                found = self.beam.search(
                    self.engine, self.latent_rm, ids, mask, keys, greedy, branches, prompt_state
                )
        return Outcome(greedy, samples, tuned, scores, found, costs, replaced)

    def _replaced(
        self, prompt: Branches, problems: list[Problem]
    ) -> list[list[dict[str, Any]]] | None:
        """What each problem is answered with its thoughts replaced, where that is asked for.

        It is no part of what a method takes, so that its cost is not among theirs.
        """
        if self.ablation is None:
            return None
        with self._timed("ablation"):
            if self._pool is None:
                pool = self._first or problems[: self.ablation.pool]
                prompts = [self.reasoner.encode_prompt(p.question, p.source) for p in pool]
                keys = question_keys(self.seed, [p.id for p in pool]).to(self.device)
                self._pool = self.ablation.read_pool(self.engine, prompts, keys)
            return self.ablation(self.engine, prompt, self._pool)

    def _sample_tuned(
        self, ids: Tensor, mask: Tensor, names: Tensor, prompt: Branches, costs: dict[str, Cost]
    ) -> Trajectories | None:
        """As many samples of the sampler that was chosen for majority voting alone."""
        if self.tuned is None:
            return None
        engine = self.engine.with_sampler(self.tuned.majority_sampler)
        with self._measured("tuned_sampling", costs):
            every = torch.arange(len(ids))
            own = engine.sampler.perturbs_prompt
            start = engine.start(ids, mask, names) if own else prompt.take(every)
            return engine.sample(start, names)

    @contextmanager
    def _measured(self, part: str, costs: dict[str, Cost]) -> Iterator[None]:
        """Notes the seconds and the cost of a part of the search."""
        with self._timed(part), ExitStack() as counts:
            counted = [counts.enter_context(self.engine.counting())]
            if self.latent_rm is not None:
                counted.append(counts.enter_context(self.latent_rm.counting()))
            yield
        costs[part] = sum(counted, Cost())

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        """Adds to the seconds of a part of the search, the accelerator's work included."""
        began = time.perf_counter()
        yield
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)
        self.seconds[part] += time.perf_counter() - began
