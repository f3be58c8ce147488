"""A search as a model of lm-evaluation-harness (https://github.com/EleutherAI/lm-evaluation-harness).

It answers tasks of the kind `generate_until`; a latent reasoner's thoughts have no likelihoods to
ask for. `ltts lm-eval` starts the harness with this model registered.
"""

import re
from collections.abc import Sequence
from typing import Any

import torch
from lm_eval.api.model import LM
from lm_eval.api.registry import register_model

from lightning_ltts import sampling
from lightning_ltts.data.problems import Problem, question_id
from lightning_ltts.errors import ConfigError, shorten
from lightning_ltts.prediction.module import LatentSearch
from lightning_ltts.search.beam import BeamSearch
from lightning_ltts.voting.selection import SELECTIONS, WeightedVote
from lightning_ltts.voting.signals import Signal

NAME = "latent_tts"
GREEDY, BEAM = "greedy", "beam"
_SAMPLER = "sampler_"
# the last question of a prompt, whatever examples and headings stand around it
_QUESTION = re.compile(r"(?:.*(?:Question|Q):)?\s*(.*?)\s*(?:(?:Answer|A):)?\s*", re.DOTALL)


@register_model(NAME)
class LatentTTS(LM):  # type: ignore[misc]  # the harness has no types
    """Samples trajectories, and answers with the one that a selection takes.

    A prompt is cut to its last question, which is all that a latent reasoner reads. The answer to a
    question depends on the seed and the question alone, never on the batch.

    Args:
        reasoner: any source that `load_reasoner` takes.
        latent_rm: likewise; without one, selections that need no scores can be used.
        selection: `greedy`, `beam` (guided beam search), or the name of a selection.
        num_samples: N, samples of each question.
        sampler: name of the sampler's class.
        seed: seed of the randomness.
        batch_size: questions that are searched together.
        device: where; the CPU where that is a GPU and there is none.
        answer_format: what is written, with {answer} in it; as GSM8K's tasks look for it.
        options: options of the sampler with `sampler_` in front, for instance sampler_std=0.6.

    Raises:
        ConfigError: an option is not known, or does not fit the models.
        CheckpointError: a model cannot be read.
    """

    def __init__(
        self,
        reasoner: str,
        latent_rm: str | None = None,
        selection: str = WeightedVote.name,
        num_samples: int = 32,
        sampler: str = "GaussianNoise",
        seed: int = 0,
        batch_size: int | str | None = None,
        device: str | None = None,
        answer_format: str = "#### {answer}",
        max_batch_size: int | None = None,
        **options: Any,
    ):
        super().__init__()
        kinds = {kind.name: kind for kind in SELECTIONS}
        if selection not in (GREEDY, BEAM, *kinds):
            raise ConfigError(
                f"selection={shorten(selection)} is not known; use {GREEDY}, {BEAM}, or one of "
                f"{', '.join(kinds)}"
            )
        needs_scores = selection == BEAM or (
            selection in kinds and kinds[selection].reads == Signal.SCORE
        )
        if needs_scores and latent_rm is None:
            raise ConfigError(f"selection={selection} needs scores; give latent_rm=PATH, too")
        beam = BeamSearch(max(num_samples // 2, 1), 2) if selection == BEAM else None
        self.search = LatentSearch(
            reasoner, make_sampler(sampler, options), latent_rm, num_samples, beam, seed
        ).eval()
        # the harness asks for a GPU where nobody does
        if device is not None and (torch.cuda.is_available() or not device.startswith("cuda")):
            self.search.to(device)
        self.selection = selection
        self.answer_format = answer_format
        self.size = int(str(batch_size)) if str(batch_size).isdigit() else 32

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """An answer for each request, whose arguments are a prompt and how to generate."""
        prompts = [request.args[0] for request in requests]
        distinct = list(dict.fromkeys(map(question_of, prompts)))
        problems = [Problem(question_id(text), text, (), "0") for text in distinct]
        self.search.check_problems(problems)
        answers: dict[str, str] = {}
        with torch.inference_mode():
            for start in range(0, len(problems), self.size):
                rows = self.search.predict_step(problems[start : start + self.size], 0)
                answers |= {row["question"]: self._answer_of(row) for row in rows}
        found = [answers[question_of(prompt)] for prompt in prompts]
        for request, text in zip(requests, found, strict=True):
            self.cache_hook.add_partial("generate_until", request.args, text)
        return found

    def _answer_of(self, row: Any) -> str:
        """What is chosen of the samples of a question; nothing where none has an answer."""
        if self.selection == GREEDY:
            answer = row["greedy"]["answer"]
        elif self.selection == BEAM:
            answer = row[BEAM]["beams"][0]["answer"]
        else:
            chosen = row["choices"][self.selection]
            answer = row["samples"][chosen]["answer"] if chosen >= 0 else None
        return "" if answer is None else self.answer_format.format(answer=answer)

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = False) -> Any:
        """Refused: see `generate_until`."""
        raise ConfigError(
            "a latent reasoner answers after thoughts, and has no likelihoods of given texts; use "
            "tasks with output_type generate_until"
        )

    loglikelihood_rolling = loglikelihood


def question_of(prompt: str) -> str:
    """The last question of a prompt, in single spaces.

    >>> question_of("Question: 1+1?\\nAnswer: 2\\n\\nQuestion: What is  2+2?\\nAnswer:")
    'What is 2+2?'
    """
    found = _QUESTION.fullmatch(prompt)
    text = prompt if found is None else found[1]
    return " ".join(text.split())


def make_sampler(name: str, options: dict[str, Any]) -> sampling.Sampler:
    """The sampler of a class in `lightning_ltts.sampling`, from options with `sampler_` in front.

    Raises:
        ConfigError: there is no such class or option.
    """
    kind = getattr(sampling, name, None)
    if not isinstance(kind, type) or not issubclass(kind, sampling.Sampler):
        known = ", ".join(x for x in sampling.__all__ if x not in ("Sampler", "Stream"))
        raise ConfigError(f"sampler={shorten(name)} is not known; use one of {known}")
    for option in options:
        if not option.startswith(_SAMPLER):
            raise ConfigError(f"{NAME} has no option {shorten(option)}")
    given = {option.removeprefix(_SAMPLER): value for option, value in options.items()}
    try:
        return kind(**given)
    except TypeError as error:
        raise ConfigError(f"the sampler {name} cannot be made: {error}") from None
