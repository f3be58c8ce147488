"""Single questions about one setting of the study: outliers, shapes of beams, rules.

What could be chosen by them is asked of validation problems.
"""

from dataclasses import replace

import torch
from study_settings import RM, ROWS, Setting
from study_stages import ltts, run, train_reasoner
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from lightning_ltts import RolloutEngine, load_latent_rm, load_reasoner
from lightning_ltts.analysis.predictions import read_rows
from lightning_ltts.analysis.summary import summarize
from lightning_ltts.data.graph_problems import GraphProblems
from lightning_ltts.data.problems import Problem
from lightning_ltts.data.word_problems import WordProblems
from lightning_ltts.models.latent_lm import LatentReasoner, left_pad
from lightning_ltts.sampling import GaussianNoise
from lightning_ltts.training.sequences import Encoded
from lightning_ltts.voting.scoring import RULES
from lightning_ltts.voting.votes import vote_numbers

VALID = ("valid", 2)  # split and seed of the problems by which rows choose


def load(
    setting: Setting, split: str = VALID[0], seed: int = VALID[1]
) -> tuple[LatentReasoner, list[Problem], Tensor, Tensor]:
    """The setting's reasoner, 1,024 problems, and their prompts."""
    train_reasoner(setting)
    source = GraphProblems if setting.task == "graph" else WordProblems
    problems = source(split, 1024, seed, **setting.of_task.problems).load()
    reasoner = load_reasoner(setting.reasoner)
    ids, mask = left_pad(
        [reasoner.encode_prompt(problem.question) for problem in problems], reasoner.pad_id
    )
    return reasoner, problems, ids, mask


def grade(
    reasoner: LatentReasoner, problems: list[Problem], answer_ids: Tensor
) -> tuple[Tensor, Tensor]:
    """Answer ids (Q, N, A) -> votes (Q, N) and which are right (Q, N)."""
    answers = [[reasoner.read_answer(ids) for ids in question] for question in answer_ids]
    right = [
        [answer == p.value for answer in given] for given, p in zip(answers, problems, strict=True)
    ]
    return torch.tensor([vote_numbers(given) for given in answers]), torch.tensor(right).float()


@torch.no_grad()
def own_answers(setting: Setting) -> None:
    """What a LatentRM that learned to predict right answers would say itself, without any sample.

    It reads the prompt and the greedy trajectory. An answer is right where every token of the true
    one is the likeliest after the true ones before it.
    """
    reasoner, problems, ids, mask = load(setting, "test", 0)
    greedy = RolloutEngine(reasoner).rollout(ids, mask)
    _, correct = grade(reasoner, problems, greedy.answer_ids)
    answers = [torch.tensor(Encoded(problem, reasoner).answer[:-1]) for problem in problems]
    truth = pad_sequence(answers, batch_first=True, padding_value=reasoner.pad_id)
    print(f"greedy: {100 * correct.mean():.1f} %")
    for name in ROWS:
        path = setting.folder / name / "checkpoints" / "best.ckpt"
        if not (setting.folder / name / "done").exists() or ROWS[name].sampler:
            continue
        rm = load_latent_rm(path).eval()
        states = rm.judge(
            ids, mask, replace(greedy, answer_ids=truth[:, None]), greedy
        ).answer_states
        if states is None:
            continue
        said = rm.token_logits(states[:, 0]).argmax(-1)
        right = ((said == truth) | (truth == reasoner.pad_id)).all(1).float().mean()
        print(f"{name}: {100 * right:.1f} %", flush=True)


@torch.no_grad()
def outliers(setting: Setting) -> None:
    """By rank of the score among 32 samples: accuracy, and how far the thoughts are from the greedy trajectory's."""
    reasoner, problems, ids, mask = load(setting)
    reference = RolloutEngine(reasoner).rollout(ids, mask)
    rollouts = RolloutEngine(reasoner, GaussianNoise(0.6)).rollout(
        ids, mask, 32, [p.id for p in problems], setting.seed
    )
    _, correct = grade(reasoner, problems, rollouts.answer_ids)
    mixed = (correct.amax(1) > 0) & (correct.amin(1) < 1)
    distance = (rollouts.thoughts - reference.thoughts).norm(dim=-1).mean(-1)
    print("row, score, ranks: accuracy, distance from the greedy thoughts")
    for name in ROWS:
        path = setting.folder / name / "checkpoints" / "best.ckpt"
        if not (setting.folder / name / "done").exists() or ROWS[name].sampler:
            continue
        rm = load_latent_rm(path).eval()
        scores = rm.judge(ids, mask, rollouts, reference)
        for kind, values in (("steps", scores.steps.sum(-1)), ("trajectory", scores.trajectory)):
            order = values.argsort(1, descending=True)
            parts = []
            for first, last in ((0, 1), (1, 4), (4, 8), (8, 16), (16, 32)):
                chosen = order[mixed, first:last]
                right, far = (x[mixed].gather(1, chosen).mean() for x in (correct, distance))
                parts.append(f"{first + 1}-{last}: {100 * right:.0f} %, {far:.2f}")
            print(f"{name}, {kind}: {'; '.join(parts)}", flush=True)


BEAMS = (
    (32, 1, 1),
    (16, 2, 1),
    (16, 2, 4),
    (16, 2, 16),
    (8, 4, 1),
    (8, 4, 8),
    (4, 8, 1),
    (4, 8, 4),
    (1, 32, 1),
)


def beams(setting: Setting) -> None:
    """Beam searches of one budget (beams x candidates, in subtrees) with the default LatentRM, and where right branches die."""
    run("default", setting)
    print(
        "| beams x candidates, subtrees | best beam | vote of the beams | with a right candidate, and after pruning, by step |"
    )
    print("|---|---|---|---|")
    for width, candidates, subtrees in BEAMS:
        folder = setting.folder / "beams" / f"{width}x{candidates}-{subtrees}"
        options = {"beams": width, "candidates": candidates, "subtrees": subtrees, "trace": "true"}
        ltts(
            "predict", folder / "summary.json", setting.experiment("search"), f"name={folder.relative_to('logs')}",
            f"reasoner={setting.reasoner}", f"latent_rm={setting.folder / 'default' / 'checkpoints' / 'best.ckpt'}",
            f"{RM}seed={setting.seed}", f"{RM}num_samples=1", *setting.problems("problems"),
            f"data.init_args.problems.init_args.split={VALID[0]}", f"data.init_args.problems.init_args.seed={VALID[1]}",
            "data.init_args.problems.init_args.size=1024",
            *(f"{RM}beam.init_args.{key}={value}" for key, value in options.items()),
        )  # fmt: skip
        rows = read_rows(folder)
        accuracy = {line.method: 100 * line.accuracy for line in summarize(rows).lines}
        steps = range(len(rows[0]["beam"]["survival"]))
        alive = [
            [
                100 * sum(row["beam"]["survival"][t][when] > 0 for row in rows) / len(rows)
                for when in ("right", "kept")
            ]
            for t in steps
        ]
        line = ", ".join(f"{before:.1f} to {after:.1f}" for before, after in alive)
        print(
            f"| {width} x {candidates}, {subtrees} | {accuracy['beam']:.1f} | {accuracy['beam_vote']:.1f} | {line} |",
            flush=True,
        )


def rules(setting: Setting) -> None:
    """How a trajectory's score is made of its step scores: vote and best of 32 with every rule, for finished rows."""
    for name in ROWS:
        if not (setting.folder / name / "chosen" / "summary.json").exists():
            continue
        rows = read_rows(setting.folder / name / "chosen")
        for rule in (*RULES, "answer"):
            if rule == "answer" and "answer_score" not in rows[0]["samples"][0]:
                continue
            lines = {line.method: line for line in summarize(rows, rule=rule, num_samples=32).lines}
            cells = [
                f"{100 * lines[selection].accuracy:.1f}"
                for selection in ("weighted_vote", "best_of_n")
            ]
            print(f"| {name} | {rule} | {' | '.join(cells)} |", flush=True)
