"""pass@k, voting and answer extraction against recorded ones."""

from fractions import Fraction
from typing import Any

import pytest
import torch
from torchmetrics.retrieval import RetrievalNormalizedDCG

from lightning_ltts.data.answers import extract_answer
from lightning_ltts.models.formats import FORMATS, LATENT_TTS_COCONUT
from lightning_ltts.voting.per_question import PassAtK
from lightning_ltts.voting.selection import Majority
from lightning_ltts.voting.votes import vote_numbers
from tests.golden.conftest import Reference, read, read_json

RULES = {
    known.method: (known.settings["answer_marker"], known.settings["answer_which"])
    for known in (*FORMATS, LATENT_TTS_COCONUT)
    if known.kind == "reasoner"
}


def test_pass_at_k(golden: Reference) -> None:
    for case in read_json(golden / "metrics/pass_at_k.json"):
        correct = torch.tensor(case["corrects"])
        for k, expected in case["pass_at_k"].items():
            metric = PassAtK(int(k))
            if (
                int(k) > case["n"]
            ):  # more than there are cannot be estimated; the recorded value is the coverage
                assert expected == pytest.approx(case["coverage"])
                with pytest.raises(ValueError, match="at least"):
                    metric.update(correct)
                continue
            metric.update(correct)
            assert float(metric.compute()) == pytest.approx(expected, abs=1e-6)
            if int(k) == case["n"]:
                assert float(metric.compute()) == pytest.approx(case["coverage"], abs=1e-6)


def vote(answers: list[Any]) -> Any:
    read = [None if answer in ("inf", "nan") else Fraction(answer) for answer in answers]
    chosen = int(Majority().choose(torch.tensor([vote_numbers(read)]), torch.zeros(1, len(read))))
    return None if chosen < 0 else answers[chosen]


def test_votes(golden: Reference) -> None:
    for case in read_json(golden / "metrics/voting.json"):
        if not {"inf", "nan"} & set(map(str, case["answers"])):
            assert vote(case["answers"]) == case["winner"]


def test_no_answer_does_not_vote(golden: Reference) -> None:
    """In the published code unparsed answers vote as one block, and can win (findings C6)."""
    cases = [case for case in read_json(golden / "metrics/voting.json") if case["winner"] == "inf"]
    assert cases
    for case in cases:
        answered = [answer for answer in case["answers"] if answer != "inf"]
        assert vote(case["answers"]) == (max(answered, key=answered.count) if answered else None)


# answers that the findings (C6) list as read wrongly by the published extractors, and what they are here
MENDED: dict[str, dict[str, Fraction | None]] = {
    "#### 1,000": {"colar": Fraction(1000)},  # a thousands comma
    "1,000": {"colar": Fraction(1000)},
    "Answer: 1,234": {"colar": Fraction(1234)},
    "### 1/2": dict.fromkeys(RULES, Fraction(1, 2)),  # became 2, or nothing
    "### 1e3": {"coconut": None, "colar": None},  # not how a model writes numbers
    "1e3": {"coconut": None, "colar": None},
    "nan": {"coconut": None, "colar": None},
    "### 1_000": {"coconut": None, "colar": None},
    "\u0663": dict.fromkeys(RULES, None),  # non-Latin digits
    "### \u22125": dict.fromkeys(RULES, Fraction(-5)),  # a Unicode minus was lost
    "3-5": {"codi": Fraction(5)},  # a difference, not minus five
    "2024-05-06": {"codi": Fraction(6)},
}


@pytest.mark.parametrize("method", list(RULES))
def test_answers(golden: Reference, method: str) -> None:
    for case in read_json(golden / "metrics/extractors.json"):
        answer = extract_answer(case["text"], *RULES[method])
        if method in MENDED.get(case["text"], {}):
            assert answer == MENDED[case["text"]][method], case
        else:
            assert (None if answer is None else float(answer)) == (
                None if case[method] == "inf" else case[method]
            ), case


def test_zero_is_an_answer_and_the_question_is_not_read(golden: Reference) -> None:
    """The published code drops questions whose answer is 0, and CODI's takes numbers of the question (findings C6, C7)."""
    assert extract_answer("### 0", *RULES["coconut"]) == 0
    assert (
        extract_answer("I do not know", *RULES["codi"]) is None
    )  # only what the model wrote is given to it


@pytest.mark.parametrize("case", ["r1", "r8"])
def test_ranking_metrics(golden: Reference, case: str) -> None:
    """torchmetrics' NDCG, and the right ones among the k best, are what the published trainer logs."""
    recorded = read(golden / "latentrm/losses.safetensors", f"{case}.")
    scores, labels, k = recorded["scores"], recorded["labels"], int(recorded["k"])
    ndcg = RetrievalNormalizedDCG(top_k=k)
    ndcg.update(
        scores.flatten(),
        labels.flatten(),
        torch.arange(len(labels)).repeat_interleave(labels.shape[1]),
    )
    assert float(ndcg.compute()) == pytest.approx(float(recorded["ndcg"]), abs=1e-6)
    among_best = labels.gather(1, scores.topk(k).indices).sum(1).double().mean()
    assert float(among_best) == pytest.approx(float(recorded["recall_sum_at_k"]))
