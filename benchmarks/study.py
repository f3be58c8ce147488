"""The study behind docs/results.md: one command per row.

    python benchmarks/study.py default --seed 1          # reasoner, mining, LatentRM and search of one row; what exists is kept
    python benchmarks/study.py paper --task hard
    python benchmarks/study.py explicit                  # a reasoner that writes its steps, sampled likewise
    python benchmarks/study.py samplers                  # coverage, votes and diversity of many samplers, without a LatentRM
    python benchmarks/study.py outliers                  # what the best-scored samples have in common
    python benchmarks/study.py beams                     # one budget spent on beams of many shapes, and what pruning loses
    python benchmarks/study.py rules                     # trajectory scores made of step scores in many ways
    python benchmarks/study.py table                     # of all that is finished

Every row is a handful of overrides to the demo's experiments; runs go to logs/study/TASK-SIZE-SEED/ROW.
"""

import argparse
import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_ltts import RolloutEngine, load_latent_rm, load_reasoner
from lightning_ltts.analysis.lines import Line
from lightning_ltts.analysis.methods import GREEDY
from lightning_ltts.analysis.predictions import read_rows
from lightning_ltts.analysis.summary import summarize
from lightning_ltts.data.problems import Problem
from lightning_ltts.data.word_problems import WordProblems
from lightning_ltts.models.latent_lm import LatentReasoner, left_pad
from lightning_ltts.sampling import GaussianNoise, MCDropout, Sampler
from lightning_ltts.voting.bootstrap import crossed_interval
from lightning_ltts.voting.scoring import RULES
from lightning_ltts.voting.selection import Majority
from lightning_ltts.voting.votes import vote_numbers

FOLDER = Path("logs/study")
RESULTS = Path("docs/results.json")
RM = "model.init_args."
TASKS = {"easy": (3, 20), "hard": (4, 30)}  # reasoning steps, largest number
# step-annotated problems: so few that the plateau of greedy decoding is at 50 to 85 %, chosen on
# validation problems of seed 1
TRAINED_ON = {"easy": 1750, "hard": 4000}
CURRICULUM = {"easy": (60, 10, 30), "hard": (40, 6, 16)}  # epochs: all, of each stage, of the last
POSITIONS = {"easy": 64, "hard": 128}
SIZES = {"small": (3, 64), "large": (4, 128)}  # layers, width
PROBLEMS = 2048  # that are reported on
INFORMATIVE, EPOCHS = 6000, 16  # questions with right and wrong trajectories; of LatentRM training


@dataclass(frozen=True)
class Row:
    """One line of a table: what differs from the demo."""

    fit: tuple[str, ...] = ()  # of the LatentRM
    mine: tuple[str, ...] = ()
    sampler: tuple[str, ...] = ()


_NO_ANSWER = (f"{RM}reads_answer=false", f"{RM}answer_prediction=0")
_PAPER = (f"{RM}reference=false", *_NO_ANSWER)
_INFORMATIVE = "data.init_args.informative={}"
ROWS = {
    "default": Row(),
    "paper": Row(_PAPER),
    "answer": Row((f"{RM}reference=false",)),
    "reference": Row(_NO_ANSWER),
    "scores_alone": Row((f"{RM}answer_prediction=0",)),
    "shallow": Row((f"{RM}extra_layers=0",)),
    "short": Row(("trainer.max_epochs=8",)),
    "long": Row(("trainer.max_epochs=32",)),
    "few": Row(mine=(_INFORMATIVE.format(1500),)),
    "some": Row(mine=(_INFORMATIVE.format(3000),)),
    "many": Row(mine=(_INFORMATIVE.format(12000),)),
    "bce": Row((f"{RM}loss=bce",)),
    "pairwise": Row((f"{RM}loss=pairwise",)),
    "unnormalized": Row((f"{RM}loss=contrastive_unnormalized",)),
    "hard_negatives": Row((f"{RM}hard_negatives=4",)),
    "noise_free": Row((f"{RM}noise_free=true",), mine=("data.init_args.keep_clean=true",)),
    "m0": Row(mine=("data.init_args.num_rollouts=0",)),
    "noise_0.3": Row(sampler=("sampler.init_args.std=0.3",)),
}


@dataclass(frozen=True)
class Setting:
    """A task, a model size and a seed: what rows share a reasoner for."""

    task: str
    size: str
    seed: int

    @property
    def folder(self) -> Path:
        return FOLDER / f"{self.task}-{self.size}-{self.seed}"

    @property
    def reasoner(self) -> Path:
        return self.folder / "reasoner" / "checkpoints" / "best.ckpt"

    def problems(self, *parts: str) -> list[str]:
        steps, largest = TASKS[self.task]
        options = [f"data.init_args.{part}.init_args.{{}}" for part in parts]
        return [
            option.format(x)
            for option in options
            for x in (f"num_steps={steps}", f"max_number={largest}")
        ]


def ltts(command: str, done: Path, *overrides: str) -> None:
    """Runs one command of the demo's pipeline, unless what it makes is there."""
    if done.exists():
        return
    cpu = ("trainer.accelerator=cpu", "trainer.devices=1", "trainer.enable_progress_bar=false")
    print(f"$ ltts {command} {' '.join(overrides)}", flush=True)
    subprocess.run([sys.executable, "-m", "lightning_ltts", command, *overrides, *cpu], check=True)


def train_reasoner(setting: Setting) -> None:
    steps, largest = TASKS[setting.task]
    layers, width = SIZES[setting.size]
    whole, each, last = CURRICULUM[setting.task]
    ltts(
        "fit", setting.folder / "reasoner.done", "experiment=demo/reasoner",
        f"name={setting.folder.relative_to('logs')}/reasoner",
        f"seed_everything={setting.seed}", f"data.init_args.seed={setting.seed}",
        f"data.init_args.train.init_args.seed={100 * setting.seed}",
        *setting.problems("train", "val", "test"), f"{RM}start.tokenizer.init_args.max_number={largest}",
        f"{RM}start.backbone.n_layer={layers}", f"{RM}start.backbone.n_embd={width}",
        f"{RM}start.backbone.n_positions={POSITIONS[setting.task]}",
        f"data.init_args.train.init_args.size={TRAINED_ON[setting.task]}",
        f"{RM}curriculum.cot_epochs={each}",
        f"{RM}curriculum.stage_epochs=[{','.join([str(each)] * (steps - 1))},{last}]", f"trainer.max_epochs={whole}",
        "trainer.check_val_every_n_epoch=5",
    )  # fmt: skip
    (setting.folder / "reasoner.done").touch()


def run(name: str, setting: Setting) -> None:
    """All stages of a row."""
    row, folder = ROWS[name], setting.folder / name
    train_reasoner(setting)
    store = "-".join(
        ["store", *(part.split(".")[-1] for part in (*row.mine, *row.sampler))]
    ).replace("=", "")
    ltts(
        "fit", folder / "done", "experiment=demo/latent_rm",
        f"name={folder.relative_to('logs')}", f"reasoner={setting.reasoner}",
        f"seed_everything={setting.seed}", f"data.init_args.seed={setting.seed}",
        f"data.init_args.train.init_args.seed={100 * setting.seed + 1}", f"data.init_args.store={setting.folder / store}",
        *setting.problems("train", "val"), f"data.init_args.informative={INFORMATIVE}", "data.init_args.batch_size=64",
        f"trainer.max_epochs={EPOCHS}",
        "trainer.check_val_every_n_epoch=2",
        *row.mine, *row.sampler, *row.fit,
    )  # fmt: skip
    (folder / "done").touch()
    models = (f"reasoner={setting.reasoner}", f"latent_rm={folder / 'checkpoints' / 'best.ckpt'}")
    # majority's strength and the rules without training are chosen on validation problems, once a
    # setting; so is the selection, for each row; and all is reported on test problems
    tune = setting.folder / "tune"
    ltts(
        "tune", tune / "tuned.yaml", "experiment=demo/tune", f"name={tune.relative_to('logs')}", models[0],
        "latent_rm=null", f"{RM}seed={setting.seed}", *setting.problems("problems"),
    )  # fmt: skip
    for split, size, samples, seed in (("valid", 1024, 32, 2), ("test", PROBLEMS, 64, 0)):
        search = folder / ("search" if split == "test" else "chosen")
        ltts(
            "predict", search / "summary.json", "experiment=demo/search", f"name={search.relative_to('logs')}",
            *models, f"{RM}seed={setting.seed}", f"{RM}tuned={tune / 'tuned.yaml'}",
            f"{RM}num_samples={samples}", f"data.init_args.problems.init_args.split={split}",
            f"data.init_args.problems.init_args.size={size}", f"data.init_args.problems.init_args.seed={seed}",
            *setting.problems("problems"), *row.sampler,
        )  # fmt: skip


def explicit(setting: Setting) -> None:
    """What thoughts compete with: the same model, trained to write its steps, and its samples' votes."""
    steps, largest = TASKS[setting.task]
    layers, width = SIZES[setting.size]
    whole, _, _ = CURRICULUM[setting.task]
    folder = setting.folder / "explicit"
    # a step is written in at most nine tokens
    room = (f"{RM}start.backbone.n_positions=128", f"{RM}max_answer_tokens={9 * steps + 8}")
    ltts(
        "fit", folder / "done", "experiment=demo/explicit", f"name={folder.relative_to('logs')}",
        f"seed_everything={setting.seed}", f"data.init_args.seed={setting.seed}",
        f"data.init_args.train.init_args.seed={100 * setting.seed}",
        f"data.init_args.train.init_args.size={TRAINED_ON[setting.task]}",
        *setting.problems("train", "val", "test"), f"{RM}start.tokenizer.init_args.max_number={largest}",
        f"{RM}start.backbone.n_layer={layers}", f"{RM}start.backbone.n_embd={width}", *room,
        f"{RM}curriculum.cot_epochs={whole}", f"trainer.max_epochs={whole}", "trainer.check_val_every_n_epoch=5",
    )  # fmt: skip
    (folder / "done").touch()
    ltts(
        "predict", folder / "search" / "summary.json", "experiment=demo/explicit_search",
        f"name={(folder / 'search').relative_to('logs')}", f"reasoner={folder / 'checkpoints' / 'best.ckpt'}",
        f"{RM}seed={setting.seed}", f"data.init_args.problems.init_args.size={PROBLEMS}",
        *setting.problems("problems"),
    )  # fmt: skip


def load(setting: Setting) -> tuple[LatentReasoner, list[Problem], Tensor, Tensor]:
    """The setting's reasoner, 1,024 test problems, and their prompts."""
    train_reasoner(setting)
    problems = WordProblems("test", 1024, 0, *TASKS[setting.task]).load()
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


def samplers(setting: Setting) -> None:
    """Many samplers on one reasoner; diversity is the mean cosine distance of two samples' last thoughts."""
    reasoner, problems, ids, mask = load(setting)
    settings: list[Sampler] = [GaussianNoise(std) for std in (0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0)]
    settings += [GaussianNoise(relative_std=std) for std in (0.2, 0.4)]
    settings += [MCDropout(p) for p in (0.02, 0.05, 0.1, 0.2, 0.3, 0.5)]
    settings += [MCDropout(p, lifetime="per_trajectory") for p in (0.02, 0.05, 0.1, 0.2)]
    settings += [MCDropout(p, prompt=True) for p in (0.02, 0.05, 0.1, 0.2)]
    results = []
    for sampler in settings:
        rollouts = RolloutEngine(reasoner, sampler).rollout(
            ids, mask, 32, [p.id for p in problems], seed=setting.seed
        )
        votes, correct = grade(reasoner, problems, rollouts.answer_ids)
        chosen = Majority().choose(votes, torch.zeros(votes.shape)).clamp(min=0)
        last = torch.nn.functional.normalize(rollouts.thoughts[:, :, -1], dim=-1)
        alike = (last @ last.mT).sum((1, 2)) - 32
        results.append(
            {
                "sampler": repr(sampler),
                "pass@1": round(float(correct.mean()), 4),
                "majority@32": round(float(correct.gather(1, chosen[:, None]).mean()), 4),
                "coverage@32": round(float(correct.amax(1).mean()), 4),
                "diversity": round(float(1 - (alike / (32 * 31)).mean()), 4),
                "answers": round(
                    sum(len({v for v in q if v >= 0}) for q in votes.tolist()) / len(votes), 2
                ),
            }
        )
        print(json.dumps(results[-1]), flush=True)
    (setting.folder / "samplers.json").write_text(json.dumps(results, indent=1) + "\n")


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
            "predict", folder / "summary.json", "experiment=demo/search", f"name={folder.relative_to('logs')}",
            f"reasoner={setting.reasoner}", f"latent_rm={setting.folder / 'default' / 'checkpoints' / 'best.ckpt'}",
            f"{RM}seed={setting.seed}", f"{RM}num_samples=1", *setting.problems("problems"),
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
        if not (setting.folder / name / "search" / "summary.json").exists():
            continue
        rows = read_rows(setting.folder / name / "search")
        for rule in (*RULES, "answer"):
            if rule == "answer" and "answer_score" not in rows[0]["samples"][0]:
                continue
            lines = {line.method: line for line in summarize(rows, rule=rule, num_samples=32).lines}
            cells = [
                f"{100 * lines[selection].accuracy:.1f}"
                for selection in ("weighted_vote", "best_of_n")
            ]
            print(f"| {name} | {rule} | {' | '.join(cells)} |", flush=True)


def results(num_samples: int) -> list[dict[str, Any]]:
    """Of every finished row, in plain values: what it reached, and with which selection.

    The selection is the one that does best on the row's validation problems, among those that read
    the LatentRM's scores; the numbers are those of the test problems.
    """
    found = []
    for path in sorted(FOLDER.glob("*/*/search/summary.json")):
        if path.parent.parent.name not in ROWS:  # a chain of thought in words has no LatentRM
            continue
        row, setting = path.parent.parent, path.parent.parent.parent
        chosen = summarize(read_rows(row / "chosen"), num_samples=num_samples)
        test = summarize(read_rows(path.parent), num_samples=num_samples)
        scored = [method.name for method in chosen.methods if method.scored]
        answering = [method.name for method in chosen.methods if method.chooses]
        untrained = [name for name in answering if name not in (*scored, GREEDY)]
        on_validation = {line.method: line.accuracy for line in chosen.lines}
        best = max(scored, key=lambda name: on_validation[name])
        best_untrained = max(untrained, key=lambda name: on_validation[name])
        lines = {line.method: line for line in test.lines}
        curve = summarize(read_rows(path.parent)).curves["best_of_n"]
        task, _, seed = setting.name.split("-")
        found.append(
            {
                "task": task,
                "seed": int(seed),
                "latent_rm": row.name,
                "problems": test.num_problems,
                "num_samples": num_samples,
                **{
                    name: lines[name].accuracy
                    for name in ("greedy", "pass", "majority", "coverage")
                },
                "headroom_closed": lines[best].headroom,
                "best_selection": _measured(lines[best]),
                "best_untrained": _measured(lines[best_untrained]),
                "selections": [_measured(lines[name]) for name in scored],
                "untrained": [_measured(lines[name]) for name in untrained],
                "recoverable": test.recoverable,
                "best_of_n": {str(n): accuracy for n, accuracy in curve.items()},
            }
        )
    return found


def _measured(line: Line) -> dict[str, Any]:
    """A method's accuracy, and its differences to greedy decoding and to majority voting."""
    assert line.against_greedy is not None
    return {
        "name": line.method,
        "accuracy": line.accuracy,
        "against_greedy": asdict(line.against_greedy),
        "against_majority": None if line.over_compared is None else asdict(line.over_compared),
        "recovered": line.recovered,
        "positions": line.positions,
        "flops": line.flops,
        "at_dearest": line.at_dearest,
    }


def together(found: list[dict[str, Any]], num_samples: int) -> list[dict[str, Any]]:
    """Of each task and row with all its seeds: the gains of the selections that were chosen.

    The intervals are over seeds and problems, see `crossed_interval`.
    """
    gains: dict[tuple[str, str], list[tuple[Tensor, Tensor]]] = {}
    for one in found:
        search = FOLDER / f"{one['task']}-small-{one['seed']}" / one["latent_rm"] / "search"
        test = summarize(read_rows(search), num_samples=num_samples)
        values = {method.name: method.values for method in test.methods}
        best = values[one["best_selection"]["name"]]
        differences = (best - values[GREEDY], best - values[Majority.name])
        gains.setdefault((one["task"], one["latent_rm"]), []).append(differences)
    entries = []
    for (task, row), of_seeds in gains.items():
        entry: dict[str, Any] = {"task": task, "latent_rm": row, "seeds": len(of_seeds)}
        for i, name in enumerate(("against_greedy", "against_majority")):
            stacked = torch.stack([pair[i] for pair in of_seeds])
            low, high = crossed_interval(stacked)
            entry[name] = {"gain": float(stacked.mean()), "low": low, "high": high}
        entries.append(entry)
    return entries


def table(num_samples: int) -> None:
    """A line per finished row, in percent and points with paired 95 % intervals; also as JSON."""
    found = results(num_samples)
    over_seeds = together(found, num_samples)
    content = {"settings": found, "over_seeds": over_seeds}
    RESULTS.write_text(json.dumps(content, indent=1) + "\n")
    print(
        "| task, seed | LatentRM | greedy | one sample | majority | coverage | best without training "
        "| chosen on validation | against greedy | against majority | headroom |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for one in found:
        best = one["best_selection"]
        shares = [f"{100 * one[name]:.1f}" for name in ("greedy", "pass", "majority", "coverage")]
        gains = [
            "{:+.1f} ({:+.1f} to {:+.1f})".format(*(100 * x for x in best[name].values()))
            for name in ("against_greedy", "against_majority")
        ]
        headroom = f"{100 * one['headroom_closed']:.0f} %"
        plain = one["best_untrained"]
        cells = [f"{one['task']}, {one['seed']}", one["latent_rm"], *shares]
        cells.append(f"{plain['name']} {100 * plain['accuracy']:.1f}")
        cells += [f"{best['name']} {100 * best['accuracy']:.1f}", *gains]
        print(f"| {' | '.join([*cells, headroom])} |")
    for entry in over_seeds:
        gains = [
            "{:+.1f} ({:+.1f} to {:+.1f})".format(*(100 * x for x in entry[name].values()))
            for name in ("against_greedy", "against_majority")
        ]
        print(f"{entry['task']}, {entry['latent_rm']}, {entry['seeds']} seeds: {', '.join(gains)}")


WHOLE = {
    "explicit": explicit,
    "samplers": samplers,
    "outliers": outliers,
    "beams": beams,
    "rules": rules,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "rows", nargs="+", choices=[*ROWS, *WHOLE, "table"], metavar="ROW", help=", ".join(ROWS)
    )
    parser.add_argument("--task", choices=list(TASKS), default="easy")
    parser.add_argument("--size", choices=list(SIZES), default="small")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--num-samples", type=int, default=32, help="N of the table")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", str(torch.get_num_threads()))
    setting = Setting(options.task, options.size, options.seed)
    for name in options.rows:
        if name == "table":
            table(options.num_samples)
        elif name in WHOLE:
            WHOLE[name](setting)
        else:
            run(name, setting)


if __name__ == "__main__":
    main()
