"""The token sequences that COCONUT, CODI and CoLaR train on."""

from lightning_ltts.data.problems import Problem
from lightning_ltts.data.tokenization import encode_text
from lightning_ltts.models.latent_lm import LatentReasoner


class Encoded:
    """Token ids of a problem's parts."""

    def __init__(self, problem: Problem, reasoner: LatentReasoner):
        def encode(text: str) -> list[int]:
            return encode_text(reasoner.tokenizer, text, problem.source)

        self.prompt = reasoner.encode_prompt(problem.question, problem.source)
        self.steps = [encode(f"{step}\n") for step in problem.steps]
        self.marker = encode(reasoner.spec.answer_marker)
        self.answer = [*self.marker, *encode(f" {problem.answer}"), reasoner.eos_id]
