import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lightning_ltts.analysis.lines import Gain
from lightning_ltts.analysis.methods import searches_of, selected_accuracy
from lightning_ltts.analysis.predictions import read_rows, sample_pool
from lightning_ltts.analysis.summary import selections_for, summarize
from lightning_ltts.errors import DataError
from lightning_ltts.voting.per_question import SelectedAccuracy
from lightning_ltts.voting.selection import BestOfN


def row(
    number: int, answers: list[str | None], scores: list[float] | None, greedy: str | None = "1"
) -> dict:
    samples = [
        {"answer": a} | ({"scores": [scores[i] - 1, 1]} if scores else {})
        for i, a in enumerate(answers)
    ]
    return {"id": f"q{number}", "answer": "1", "greedy": {"answer": greedy}, "samples": samples}


ROWS = [
    row(
        0, ["1", "2", "2", None], [3, 0, 0, 9]
    ),  # best-of-N and the weighted vote are right, majority is wrong
    row(1, ["1", "1", "3", "1"], [0, 0, 5, 0], greedy=None),  # majority alone is right
    row(2, ["7/2", "4", "5", "4"], [0, 0, 0, 0], greedy="2"),  # all are wrong
]


def test_table_by_hand() -> None:
    summary = summarize(ROWS)
    got = {line.name: round(line.accuracy, 4) for line in summary.lines}
    assert got == {
        "greedy": round(1 / 3, 4),
        "pass@1": round((1 / 4 + 3 / 4) / 3, 4),
        "coverage@4": round(2 / 3, 4),
        "majority@4": round(1 / 3, 4),
        "greedy_majority@4": round(2 / 3, 4),  # greedy's "1" counts four times on question 0
        "weighted_vote@4": round(1 / 3, 4),
        "best_of_n@4": round(1 / 3, 4),
        "agreeing_best_of_n@4": round(1 / 3, 4),
        "adaptive_majority@4": round(1 / 3, 4),
    }
    line = next(x for x in summary.lines if x.name == "best_of_n@4")
    assert line.gain == 0
    assert line.gain_interval == (pytest.approx(-1.0), pytest.approx(1.0))
    assert line.p_value == 1  # one question won, one lost
    assert line.headroom == 0
    # question 1 is settled by 1 1 3 1 after all four; of 1 2 2 none and 7/2 4 5 4 the last cannot turn the vote
    adaptive = next(x for x in summary.lines if x.name == "adaptive_majority@4")
    assert adaptive.samples_used == pytest.approx(4)


def test_table_fits_100_columns() -> None:
    """With the longest names, the widest numbers, and many steps of a traced beam search."""
    wide = [row(i, ["1"] * 4 if i % 2 else ["2"] * 4, [i] * 4) for i in range(2)]
    summary = summarize(wide, against="agreeing_best_of_n")
    lines = [
        replace(line, method=f"{line.method}@1024_and_much_more", samples_used=1024.0)
        for line in summary.lines
    ]
    lines += [replace(line, headroom=-12.5) for line in summary.lines]
    lines = [line if line.n is None else replace(line, n=1024) for line in lines]
    widest = {
        "accuracy": 1.0,
        "interval": (1.0, 1.0),
        "gain": -1.0,
        "gain_interval": (-1.0, -1.0),
        "p_value": 1e-100,
    }
    lines = [
        replace(line, **widest, headroom=line.headroom if line.samples_used is None else None)
        for line in lines
    ]
    table = replace(summary, lines=lines, survival={"beam": [1.0] * 40}).table()
    assert max(map(len, table.splitlines())) <= 100
    assert "n=1024" in table
    assert "-1250%" in table


def test_curves() -> None:
    curves = summarize(ROWS).curves
    assert list(curves["majority"]) == [1, 2, 4]
    assert curves["majority"][1] == pytest.approx((1 / 4 + 3 / 4) / 3)  # one sample decides alone
    assert curves["majority"][1] == pytest.approx(curves["best_of_n"][1])
    assert curves["coverage"][2] == pytest.approx((1 / 2 + 1) / 3)


def test_accuracy_by_rank_of_the_score() -> None:
    """Mixed questions 0 and 1 by falling score: none 1 2 2 is wrong right wrong wrong; 3 1 1 1 is wrong right right right."""
    assert summarize(ROWS).by_rank == [0.0, 1.0, 0.5, 0.5]
    assert summarize([ROWS[2]]).by_rank == []
    assert summarize([row(0, ["1", "2"], None)]).by_rank == []


def test_difference_to_greedy_beside_the_one_to_majority() -> None:
    """Greedy and best-of-N are right on question 0 alone, majority on question 1 alone."""
    summary = summarize(ROWS)
    lines = {line.name: line for line in summary.lines}
    assert lines["greedy"].against_greedy is None
    assert lines["pass@1"].against_greedy is None
    assert lines["best_of_n@4"].against_greedy == Gain(0.0, 0.0, 0.0)
    assert lines["majority@4"].against_greedy == Gain(0.0, pytest.approx(-1), pytest.approx(1))
    as_json = json.loads(json.dumps(summary.as_dict()))
    assert as_json["results"]["best_of_n@4"]["against_greedy"] == {"gain": 0, "low": 0, "high": 0}
    header = summary.table().splitlines()[1]
    assert "against greedy" in header
    assert "against majority" in header
    assert "against majority" not in summarize(ROWS, against="greedy").table()


def test_says_what_was_bought() -> None:
    """Without scores it is about majority voting, with scores about the weighted vote."""
    won = [row(i, ["1", "1"], None, greedy="2") for i in range(40)]
    same = [row(i, ["1", "1"], None) for i in range(40)]
    assert summarize(won).bought() == (
        "2 samples and the majority vote: 100.0 %, 100.0 points above greedy (95 % interval +100.0 "
        "to +100.0, 40 problems)."
    )
    assert "100.0 %, +0.0 points, level with greedy" in summarize(same).bought()
    lost = [row(i, ["1"], [0], greedy="1") for i in range(40)]
    lost = [{**r, "samples": [{"answer": "2", "scores": [1]}]} for r in lost]
    said = summarize(lost).bought()
    assert said.startswith("1 sample and the weighted vote: 0.0 %, 100.0 points below greedy")


def test_what_was_bought_has_the_cost_of_all_models() -> None:
    """Greedy reads 2 + 3 positions; two samples 2 + 20, and the LatentRM 1 + 22: 45 / 5 = 9."""
    counts = {"prompt": 2, "greedy": 3, "sampling": 20, "latent_rm_prompt": 1, "scoring": 22}
    cost = {part: {"token_forwards": n, "tree_nodes": n} for part, n in counts.items()}
    rows = [{**row(i, ["1", "1"], [0, 9]), "cost": cost} for i in range(4)]
    summary = summarize(rows)
    assert summary.bought().endswith(", 4 problems), at 9.0 times its token forwards.")
    assert summary.times_greedy(summary.lines[0]) == 1
    reads_greedy = summarize([{**r, "reads_greedy": True} for r in rows])
    assert reads_greedy.bought().endswith(", at 9.6 times its token forwards.")


def test_against_another_method_and_with_fewer_samples() -> None:
    lines = {line.name: line for line in summarize(ROWS, against="greedy").lines}
    assert lines["greedy"].gain is None
    assert lines["best_of_n@4"].gain == pytest.approx(0)  # both are right on question 0
    assert lines["majority@4"].gain == pytest.approx(0)
    few = summarize(ROWS, num_samples=2)
    assert few["coverage@2"] == pytest.approx(2 / 3)
    assert few["best_of_n@2"] == pytest.approx(2 / 3)
    with pytest.raises(DataError, match="no method 'beam' to compare with; there are greedy, pass"):
        summarize(ROWS, against="beam")


def test_an_answers_score_is_the_last_however_many_thoughts_there_are() -> None:
    """Two thoughts, one, and none: the answer's score stands in one column, and `last` takes it."""
    samples = [
        {"answer": "1", "scores": [1.0, 2.0], "answer_score": 10.0},
        {"answer": "2", "scores": [3.0], "answer_score": 11.0},
        {"answer": "2", "scores": [], "answer_score": 12.0},
    ]
    rows = [{"id": "q", "answer": "1", "greedy": {"answer": "1"}, "samples": samples}]
    steps = sample_pool(rows).steps
    assert steps is not None
    assert steps.values.tolist() == [[[1, 2, 10], [3, 0, 11], [0, 0, 12]]]
    assert steps.mask.tolist() == [[[1, 1, 1], [1, 0, 1], [0, 0, 1]]]
    assert sample_pool(rows, "last").scores.tolist() == [[10, 11, 12]]
    assert sample_pool(rows, "sum").scores.tolist() == [[13, 14, 12]]
    # of 1, 3 and of 10, 11, 12: deviations 1 and sqrt(2 / 3)
    unit = 1.5**0.5
    standardized = sample_pool(rows, "standardized").scores[0].tolist()
    assert standardized == pytest.approx([-1 - unit, 1, unit])


def test_a_mean_is_weighed_as_the_sum_that_parameters_were_fitted_for() -> None:
    """Of two steps each, it is half of the sum, and so are the temperature and what agreement adds."""
    fitted = {"temperature": 8.0, "agreement": 2.0, "log_prob_temperature": 3.0}
    rows = [{**row, "fitted": fitted} for row in ROWS]
    summed, mean, last = (
        {s.name: s for s in selections_for(rows, sample_pool(rows, rule))}
        for rule in ("sum", "mean", "last")
    )
    assert summed["weighted_vote"].temperature == last["weighted_vote"].temperature == 8
    assert mean["weighted_vote"].temperature == 4
    assert mean["agreeing_best_of_n"].weight == 1
    given = {s.name: s for s in selections_for(rows, sample_pool(rows, "mean"), temperature=3.0)}
    assert given["weighted_vote"].temperature == 3


@pytest.mark.slow
def test_rules_for_scores() -> None:
    """Step scores of a sample are s - 1 and 1: the rule `min` takes s - 1, `last` gives all samples the same score."""
    assert summarize(ROWS, rule="min")["best_of_n@4"] == summarize(ROWS)["best_of_n@4"]
    assert summarize(ROWS, rule="last")["best_of_n@4"] == pytest.approx(2 / 3)  # the first samples
    with pytest.raises(DataError, match="no scores of answers"):
        summarize(ROWS, rule="answer")
    with pytest.raises(DataError, match="'median' for scores is not known"):
        summarize(ROWS, rule="median")
    judged = [
        r | {"samples": [x | {"answer_score": float(i)} for i, x in enumerate(r["samples"])]}
        for r in ROWS
    ]
    assert summarize(judged, rule="answer")["best_of_n@4"] == pytest.approx(
        1 / 3
    )  # the last that has an answer


@pytest.mark.slow
def test_temperature_moves_the_vote() -> None:
    assert summarize(ROWS, temperature=100.0)["weighted_vote@4"] == summarize(ROWS)["majority@4"]
    assert summarize(ROWS, temperature=0.01)["weighted_vote@4"] == summarize(ROWS)["best_of_n@4"]


@pytest.mark.slow
def test_without_scores_and_with_beams() -> None:
    names = [line.name for line in summarize([row(0, ["1", "2"], None)]).lines]
    methods = ["greedy", "pass@1", "coverage@2", "majority@2", "adaptive_majority@2"]
    assert names == [*methods, "greedy_majority@2"]
    beams = [r | {"beam": {"budget": 8, "beams": r["samples"]}} for r in ROWS]
    assert summarize(beams)["beam@8"] == summarize(ROWS)["best_of_n@4"]
    assert summarize(beams)["beam_vote@8"] == summarize(ROWS)["weighted_vote@4"]


def test_every_search_in_the_rows() -> None:
    """Whatever it is called: a search is what has a budget and beams."""
    traced = [{"right": 2, "kept": 1}, {"right": 0, "kept": 0}]
    rows = [
        r
        | {"halving": {"budget": 8, "beams": r["samples"], "survival": traced}}
        | {"cost": {"halving": {"token_forwards": 1.0}}}
        | {"sorted": {"budget": 2, "beams": r["samples"][:1]}}
        for r in ROWS
    ]
    summary = summarize(rows, against="halving_vote")
    assert searches_of(rows) == ["halving", "sorted"]
    names = [line.name for line in summary.lines]
    assert names[-4:] == ["halving@8", "halving_vote@8", "sorted@2", "sorted_vote@2"]
    assert summary["halving@8"] == summarize(ROWS)["best_of_n@4"]
    assert summary.survival == {"halving": [1.0, 0.0]}
    assert "survive each step of halving: 100.0%, 0.0%" in summary.table()
    assert searches_of(ROWS) == []


def test_one_sample() -> None:
    summary = summarize([row(0, ["1"], [0.0])])
    assert summary["pass@1"] == summary["majority@1"] == 1
    assert max(map(len, summary.table().splitlines())) <= 100
    assert json.loads(json.dumps(summary.as_dict()))["num_problems"] == 1


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_files(tmp_path: Path) -> None:
    lines = "".join(json.dumps(r) + "\n" for r in ROWS)
    assert read_rows(write(tmp_path / "predictions.jsonl", lines)) == ROWS
    assert read_rows(tmp_path) == ROWS
    assert read_rows(write(tmp_path / "torn.jsonl", lines + '{"id": ')) == ROWS


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "holds no predictions"),
        ('{"id": "a"\n' + json.dumps(ROWS[0]) + "\n", "line 1 is not valid JSON"),
        ('{"question": "x"}\n', "line 1 is not a prediction"),
        ("3\n", "line 1 is not a prediction"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(DataError, match=expected):
        read_rows(write(tmp_path / "p.jsonl", text))


def test_missing_file_and_mixed_runs(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        read_rows(tmp_path / "nope.jsonl")
    with pytest.raises(DataError, match="different numbers of samples"):
        summarize([ROWS[0], row(5, ["1"], [0.0])])


def costly(number: int, answers: list[str], greedy: str, **signals: list[float]) -> dict:
    """A row with signals of its samples, and costs of a reasoner and a LatentRM."""
    made = row(number, answers, [0.0] * len(answers), greedy)
    for name, values in signals.items():
        for sample, value in zip(made["samples"], values, strict=True):
            sample[name] = value
    costs = {"prompt": 10, "greedy": 5, "sampling": 20, "latent_rm_prompt": 12, "scoring": 16}
    cost = {part: {"token_forwards": x, "flops": 100 * x} for part, x in costs.items()}
    return made | {"cost": cost, "reads_greedy": True}


def test_rules_without_training_by_hand() -> None:
    """Truth is 1. Question 0: 1 2 2 with greedy 2; question 1: 3 1 3 with greedy 1."""
    signals = {
        "log_prob": [-0.1, -2.0, -3.0],
        "self_certainty": [0.5, 4.0, 0.1],
        "nearness": [-1.0, -9.0, -0.5],
    }
    rows = [
        costly(0, ["1", "2", "2"], "2", **signals),
        costly(1, ["3", "1", "3"], "1", **signals) | {"fitted": {"greedy_votes": 2}},
    ]
    rows[0]["fitted"] = {"greedy_votes": 2}
    lines = {line.method: line for line in summarize(rows).lines}
    # the likeliest answers are 1 and 3, the most certain ones 2 and 1, the nearest 2 and 3
    assert lines["log_prob_best"].accuracy == 0.5
    assert lines["certainty_best"].accuracy == 0.5
    assert lines["nearest_best"].accuracy == 0.0
    # softmax of -0.1 -2 -3 gives the first .83 of the weight; of .5 4 .1 the second .95
    assert lines["log_prob_vote"].as_greedy == 0.0
    assert lines["certainty_vote"].as_greedy == 1.0
    # twice greedy and two votes for 2; twice greedy and one vote for 1 against two for 3
    assert lines["greedy_majority"].accuracy == 0.5
    assert lines["greedy_majority"].as_greedy == 1.0
    assert (lines["majority"].as_greedy, lines["greedy"].as_greedy) == (0.5, 1.0)
    # of question 0 alone, greedy is wrong and some sample right
    assert summarize(rows).recoverable == 1
    assert (lines["log_prob_best"].recovered, lines["certainty_best"].recovered) == (1.0, 0.0)


def test_all_compute_is_counted() -> None:
    """Positions by hand: prompt 10, greedy 5, samples 20; the LatentRM's prompt 12, scoring 16."""
    rows = [costly(i, ["1", "2", "1", "1"], "1", nearness=[0, 0, 0, 0]) for i in range(2)]
    lines = {line.method: line for line in summarize(rows).lines}
    assert lines["greedy"].positions == 15
    assert lines["majority"].positions == 30
    assert lines["pass"].positions == 10 + 20 / 4  # one sample of four
    assert lines["greedy_majority"].positions == lines["nearest_vote"].positions == 35
    assert lines["weighted_vote"].positions == 10 + 5 + 12 + 20 + 16
    assert lines["weighted_vote"].flops == 6300
    assert lines["coverage"].positions is None
    assert lines["adaptive_majority"].positions is None  # it stops early
    half = {line.method: line for line in summarize(rows, num_samples=2).lines}
    assert half["majority"].positions == 10 + 10
    assert half["weighted_vote"].positions == 10 + 5 + 12 + 10 + 8
    # for 4500 FLOPs majority draws (4500 - 1000) / 500 = 7 samples, of which there are 4
    assert half["majority"].at_dearest == (4, 1.0)
    assert half["weighted_vote"].at_dearest == (2, pytest.approx(0.75, abs=0.26))
    table = summarize(rows).table()
    assert "at the dearest's FLOPs" in table
    assert max(map(len, table.splitlines())) <= 100


def test_majority_at_a_chosen_strength() -> None:
    rows = [
        row(i, ["2", "2"], None) | {"tuned": {"samples": [{"answer": "1"}, {"answer": "1"}]}}
        for i in range(3)
    ]
    lines = {line.name: line.accuracy for line in summarize(rows).lines}
    assert (lines["majority@2"], lines["tuned_majority@2"]) == (0.0, 1.0)
    assert summarize(rows, num_samples=1)["tuned_majority@1"] == 1.0


def test_scores_of_a_block_do_not_depend_on_samples_beyond_it() -> None:
    """`standardized` takes mean and deviation of the samples that are drawn, not of the pool's."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(40, 8, 2, generator=generator) * torch.tensor([1.0, 5.0])
    rows = [row(i, [str(1 + (i + n) % 3) for n in range(8)], [0.0] * 8) for i in range(40)]
    for i, one in enumerate(rows):
        for n, sample in enumerate(one["samples"]):
            sample["scores"] = scores[i, n].tolist()

    def best_of_two(first: int) -> torch.Tensor:
        pair = [one | {"samples": one["samples"][first : first + 2]} for one in rows]
        return selected_accuracy(BestOfN(), sample_pool(pair, "standardized"))

    pool = sample_pool(rows, "standardized")
    expected = torch.stack([best_of_two(first) for first in (0, 2, 4, 6)]).mean(0)
    assert torch.equal(selected_accuracy(BestOfN(), pool, 2), expected)
    assert pool.scores is not None
    by_pool = SelectedAccuracy(BestOfN(), 2)
    by_pool.update(pool.votes, pool.correct, pool.scores)
    assert not torch.equal(by_pool.per_question(), expected), "the rule should make a difference"
