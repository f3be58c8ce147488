"""lm-evaluation-harness asks a local task, and the search answers; results in its layout."""

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("lm_eval", reason="the extra lm-eval is not installed")

from lightning_ltts import cli
from lightning_ltts.data.problems import Problem, question_id
from lightning_ltts.errors import ConfigError
from lightning_ltts.prediction.harness import LatentTTS, make_sampler, question_of
from lightning_ltts.prediction.module import LatentSearch
from lightning_ltts.sampling import GaussianNoise, MCDropout

pytestmark = pytest.mark.extra

TASK = """
task: pens
dataset_path: json
dataset_kwargs: {data_files: {test: TEST}}
test_split: test
output_type: generate_until
doc_to_text: "Question: {{question}}\\nAnswer:"
doc_to_target: "{{answer}}"
generation_kwargs: {until: ["Question:"]}
filter_list:
  - name: strict-match
    filter:
      - {function: regex, regex_pattern: "#### (-?[0-9.,/]+)"}
      - {function: take_first}
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
metadata: {version: 1.0}
"""


class Request:
    """What the harness hands over."""

    def __init__(self, prompt: str):
        self.args = (prompt, {"until": ["Question:"]})


@pytest.fixture
def questions(problems: list) -> list[str]:
    return [problem.question for problem in problems[:5]]


@pytest.mark.slow
@pytest.mark.parametrize("selection", ["greedy", "majority", "weighted_vote", "beam"])
def test_answers_are_those_of_the_search(
    selection: str, questions: list[str], reasoner_file: Path, latent_rm_file: Path
) -> None:
    files = str(reasoner_file), str(latent_rm_file)
    model = LatentTTS(
        *files, selection=selection, num_samples=4, sampler_std=0.6, answer_format="{answer}",
        batch_size=2,
    )  # fmt: skip
    shots = "Question: How many?\nAnswer: 3\n\n"
    made, modes = model.search.predict_step, set[bool]()

    def predict_step(*arguments: Any) -> Any:
        modes.add(torch.is_inference_mode_enabled())
        return made(*arguments)

    model.search.predict_step = predict_step  # type: ignore[method-assign]
    given = model.generate_until([Request(f"{shots}Question: {q}\nAnswer:") for q in questions])
    assert modes == {True}, "no graph of the passes is kept"
    search = LatentSearch(files[0], GaussianNoise(0.6), files[1], 4, model.search.beam)
    rows = search.predict_step([Problem(question_id(q), q, (), "0") for q in questions], 0)
    for text, row in zip(given, rows, strict=True):
        if selection == "greedy":
            expected = row["greedy"]["answer"]
        elif selection == "beam":
            expected = row["beam"]["beams"][0]["answer"]
        else:
            chosen = row["choices"][selection]
            expected = row["samples"][chosen]["answer"] if chosen >= 0 else None
        assert text == (expected or "")
    assert any(given)


@pytest.mark.slow
def test_the_command_with_a_local_task(
    questions: list[str], reasoner_file: Path, latent_rm_file: Path, tmp_path: Path, monkeypatch
) -> None:
    model = LatentTTS(str(reasoner_file), str(latent_rm_file), num_samples=4, sampler_std=0.6)
    answers = model.generate_until([Request(question) for question in questions])
    rows = [
        {"question": question, "answer": text.removeprefix("#### ") if i else "none at all"}
        for i, (question, text) in enumerate(zip(questions, answers, strict=True))
    ]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = TASK.replace("TEST", str(tmp_path / "test.jsonl"))
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks/pens.yaml").write_text(task)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    arguments = (
        f"ltts lm-eval --model latent_tts --model_args reasoner={reasoner_file},"
        f"latent_rm={latent_rm_file},selection=weighted_vote,num_samples=4,sampler_std=0.6 "
        "--tasks pens --include_path tasks --output_path out"
    )
    monkeypatch.setattr(sys, "argv", shlex.split(arguments))
    cli.main()
    (file,) = Path("out").rglob("results_*.json")
    found = json.loads(file.read_text())["results"]["pens"]
    right = sum(text.startswith("#### ") for text in answers[1:]) / len(answers)
    assert found["exact_match,strict-match"] == pytest.approx(right)
    assert right > 0


def test_what_is_refused(reasoner_file: Path) -> None:
    path = str(reasoner_file)
    for options, words in (
        ({"selection": "best"}, "selection='best' is not known; use greedy, beam, or one of majority"),
        ({"selection": "weighted_vote"}, "needs scores; give latent_rm=PATH"),
        ({"selection": "majority", "sampler": "Noise"}, "sampler='Noise' is not known; use one of Deterministic"),
        ({"selection": "majority", "temperature": 1.0}, "latent_tts has no option 'temperature'"),
        ({"selection": "majority", "sampler_p": 0.1}, "the sampler GaussianNoise cannot be made"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=words):
            LatentTTS(path, **options)
    model = LatentTTS(path, selection="majority", num_samples=2, sampler_std=0.6)
    with pytest.raises(ConfigError, match="output_type generate_until"):
        model.loglikelihood([])


def test_questions_and_samplers() -> None:
    shots = "Q: 1+1?\nA: 2\n\nQ: What is\n2+2?\nA:"
    assert question_of(shots) == "What is 2+2?"
    assert question_of("What is 2+2?") == "What is 2+2?"
    sampler = make_sampler("MCDropout", {"sampler_p": 0.3})
    assert isinstance(sampler, MCDropout)
    assert sampler.p == 0.3
