"""The rollout engine against a plain baseline, with the same weights, in one run.

    python benchmarks/engine.py    # GPT-2 small on the CPU
    python benchmarks/engine.py --only rollouts --questions 8    # groups, as in reinforcement
    python benchmarks/engine.py --model llama-1b --device cuda --dtype bfloat16 \\
        --questions 32 --mining-questions 8

The baseline is what one writes first with Hugging Face models: the prompt repeated for every
sample, a `DynamicCache`, every prefix of mining read anew for each of its completions, and the
reward model run from the start at every step of beam search. It is not crippled: it too keeps only
the last hidden state, uses the vocabulary head only where a token is chosen, and draws the same
noise, so that both must come to the same trajectories (`agree`).
"""

import argparse
import copy
import json
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from lightning_ltts.data.tokenization import WordTokenizer
from lightning_ltts.engine.rollout import RolloutEngine
from lightning_ltts.engine.walk import Branches
from lightning_ltts.mining.mine import mine
from lightning_ltts.models.cpu_layout import lay_out_for_reading
from lightning_ltts.models.latent_lm import LatentReasoner, new_reasoner
from lightning_ltts.models.latent_rm import LatentRM
from lightning_ltts.sampling import GaussianNoise, Sampler
from lightning_ltts.sampling.keyed_random import fold, question_keys, sample_keys
from lightning_ltts.sampling.sampled_answers import SampledAnswers
from lightning_ltts.sampling.streams import Stream
from lightning_ltts.search.beam import BeamSearch

SHAPES: dict[str, dict[str, Any]] = {
    "tiny": {"model_type": "gpt2", "n_layer": 2, "n_embd": 64, "n_head": 4, "n_positions": 256},
    "gpt2-small": {"model_type": "gpt2"},  # 124M with its vocabulary
    "smollm2-135m": {
        "model_type": "llama", "num_hidden_layers": 30, "hidden_size": 576,
        "intermediate_size": 1536, "num_attention_heads": 9, "num_key_value_heads": 3,
        "tie_word_embeddings": True, "max_position_embeddings": 1024,
    },
    "llama-1b": {
        "model_type": "llama", "num_hidden_layers": 16, "hidden_size": 2048,
        "intermediate_size": 8192, "num_attention_heads": 32, "num_key_value_heads": 8,
        "tie_word_embeddings": True, "max_position_embeddings": 1024,
    },
}  # fmt: skip
VOCABULARY = {"tiny": 1000, "gpt2-small": 50260, "smollm2-135m": 49155, "llama-1b": 128259}
PEAK = {
    "NVIDIA H100": (989e12, 3.35e12),
    "NVIDIA H200": (989e12, 4.8e12),
}  # dense bf16 operations/s, bytes/s
STD = 0.1


@dataclass
class Tally:
    """What a run read, and the most key and value bytes that it held at once."""

    positions: int = 0
    passes: int = 0
    kv_bytes: int = 0

    def see(self, positions: int, tensors: list[Tensor]) -> None:
        self.positions += positions
        self.passes += 1
        storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
        self.kv_bytes = max(self.kv_bytes, sum(storages.values()))


@dataclass
class Baseline:
    """The plain way. Prompts of one length, rows question-major."""

    reasoner: LatentReasoner
    tokens: int
    tally: Tally = field(default_factory=Tally)
    sampler: Sampler = field(default_factory=lambda: GaussianNoise(STD))

    def read(self, inputs: Tensor, cache: DynamicCache) -> Tensor:
        """One pass at the positions that follow the cache; the last hidden state (R, d)."""
        past = cache.get_seq_length()
        positions = torch.arange(past, past + inputs.shape[1], device=inputs.device).expand(
            len(inputs), -1
        )
        hidden = self.reasoner.read(inputs, positions, cache)
        layers: list[Any] = cache.layers
        self.tally.see(
            positions.numel(), [t for layer in layers for t in (layer.keys, layer.values)]
        )
        return hidden[:, -1]

    def thought(self, hidden: Tensor, keys: Tensor, step: int) -> Tensor:
        return self.sampler.perturb(self.reasoner.thought_head(hidden), keys=keys, step=step)

    def continue_from(self, inputs: Tensor, keys: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Reads inputs (R, L, d) from the start and goes on to T thoughts and the answer.

        Returns the thoughts made here, and answer ids.
        """
        reasoner, cache, thoughts = (
            self.reasoner,
            DynamicCache(config=self.reasoner.backbone.config),
            [],
        )
        hidden = self.read(inputs, cache)
        for t in range(step, reasoner.spec.num_thoughts):
            thoughts.append(self.thought(hidden, keys, t))
            hidden = self.read(thoughts[-1][:, None], cache)
        end = torch.full((len(inputs), 1), reasoner.end_id, device=inputs.device)
        answers, hidden = [], self.read(reasoner.embed(end), cache)
        for position in range(self.tokens):
            logits = reasoner.logits(hidden)
            answers.append(self.sampler.choose(logits, keys=keys, position=position))
            if position < self.tokens - 1:
                hidden = self.read(reasoner.embed(answers[-1])[:, None], cache)
        return torch.stack(thoughts, 1) if thoughts else inputs[:, :0], torch.stack(answers, 1)

    @torch.no_grad()
    def sample(self, ids: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        inputs = self.reasoner.embed(ids.repeat_interleave(keys.shape[1], 0))
        return self.continue_from(inputs, keys.flatten(), 0)

    @torch.no_grad()
    def mine(self, ids: Tensor, keys: Tensor, rollouts: int) -> tuple[Tensor, list[Tensor]]:
        """Thoughts, and for every step, as in the released code, the answers of completions."""
        thoughts, _ = self.sample(ids, keys)
        prompts, copies = (
            self.reasoner.embed(ids.repeat_interleave(keys.shape[1], 0)),
            torch.arange(rollouts, device=ids.device),
        )
        answers = []
        for t in range(1, self.reasoner.spec.num_thoughts + 1):
            prefix = torch.cat([prompts, thoughts[:, :t]], dim=1).repeat_interleave(rollouts, 0)
            names = fold(keys.flatten()[:, None], Stream.COMPLETION, t, copies).flatten()
            answers.append(self.continue_from(prefix, names, t)[1])
        return thoughts, answers

    @torch.no_grad()
    def beam(
        self, latent_rm: LatentRM, ids: Tensor, keys: Tensor, beams: int, candidates: int
    ) -> Tensor:
        """Answers (Q, B, A).

        The caches of the beams are repeated and reordered, the reward model reads all anew in each
        step.
        """
        reasoner, questions = self.reasoner, len(ids)
        slots, offsets = (
            torch.arange(beams * candidates, device=ids.device),
            torch.arange(questions, device=ids.device),
        )
        prompts = reasoner.embed(ids)
        cache = DynamicCache(config=reasoner.backbone.config)
        hidden, thoughts = self.read(prompts, cache), prompts[:, None, :0]
        for step in range(reasoner.spec.num_thoughts):
            grown = beams * candidates // thoughts.shape[1]
            rows = torch.arange(len(hidden), device=ids.device).repeat_interleave(grown)
            new = self.thought(
                hidden[rows], fold(keys[:, None], Stream.BEAM, step, slots).flatten(), step
            )
            thoughts = torch.cat(
                [thoughts.repeat_interleave(grown, 1), new.view(questions, -1, 1, new.shape[-1])],
                dim=2,
            )
            whole = torch.cat(
                [
                    latent_rm.backbone.get_input_embeddings()(ids.repeat_interleave(len(slots), 0)),
                    thoughts.flatten(0, 1),
                ],
                1,
            )
            read = latent_rm.backbone(inputs_embeds=whole, use_cache=False).last_hidden_state[
                :, ids.shape[1] :
            ]
            self.tally.see(whole.shape[0] * whole.shape[1], [])
            scores = latent_rm.score_head(read).sum((1, 2)).view(questions, -1)
            best = scores.topk(beams, dim=1).indices
            thoughts = thoughts.gather(1, best[..., None, None].expand(-1, -1, *thoughts.shape[2:]))
            cache.batch_select_indices(rows[(best + offsets[:, None] * len(slots)).flatten()])
            hidden = self.read(thoughts[:, :, -1].flatten(0, 1)[:, None], cache)
        end = torch.full((len(hidden), 1), reasoner.end_id, device=ids.device)
        answers, hidden = [], self.read(reasoner.embed(end), cache)
        for position in range(self.tokens):
            answers.append(reasoner.logits(hidden).argmax(-1))
            if position < self.tokens - 1:
                hidden = self.read(reasoner.embed(answers[-1])[:, None], cache)
        return torch.stack(answers, 1).unflatten(0, (questions, beams))


class Measured(RolloutEngine):
    """The engine, with the same tally."""

    tally = Tally()

    def _read(self, branches: Branches, *args: Any) -> tuple[Tensor, Branches]:
        hidden, branches = super()._read(branches, *args)
        layers: Any = branches.cache.layers
        names = ("prefix_keys", "prefix_values", "keys", "values")
        self.tally.see(
            hidden.shape[0] * hidden.shape[1],
            [getattr(layer, name) for layer in layers for name in names],
        )
        return hidden, branches


class Bench:
    """Runs and times both, and prints a line for each."""

    def __init__(self, options: argparse.Namespace):
        self.options, self.rows = options, []
        torch.manual_seed(0)
        tokenizer = WordTokenizer(20).build()
        shape = {**SHAPES[options.model], "vocab_size": VOCABULARY[options.model]}
        reasoner = new_reasoner(
            "coconut", {**shape, "resid_pdrop": 0.0}, tokenizer, options.thoughts, options.tokens
        )
        reasoner.backbone.resize_token_embeddings(VOCABULARY[options.model], mean_resizing=False)
        reasoner.eos_id = VOCABULARY[
            options.model
        ]  # never predicted: every answer has all its tokens, for both alike
        dtype = getattr(torch, options.dtype)
        self.reasoner = reasoner.to(options.device, dtype=dtype).eval()
        self.latent_rm = LatentRM.from_reasoner(reasoner).to(options.device, dtype=dtype).eval()
        # the same weights, as mining and search have them
        self.ours, self.our_latent_rm = copy.deepcopy((self.reasoner, self.latent_rm))
        if options.layout != "none":
            for model in (self.ours, self.our_latent_rm):
                lay_out_for_reading(model)
        if options.layout == "both":
            self.reasoner, self.latent_rm = self.ours, self.our_latent_rm
        self.peak = next((p for name, p in PEAK.items() if name in self.machine()), None)
        parameters = sum(p.numel() for p in reasoner.backbone.parameters())
        self.body = parameters - reasoner.backbone.get_input_embeddings().weight.numel()
        shape_of = (
            f"prompt {options.prompt}, {options.thoughts} thoughts, {options.tokens} answer tokens"
        )
        size = f"{options.model} ({parameters / 1e6:.0f}M), {options.dtype}"
        print(f"{self.machine()}, {torch.get_num_threads()} threads, {size}; {shape_of}")

    def machine(self) -> str:
        return (
            torch.cuda.get_device_name()
            if self.options.device == "cuda"
            else f"{platform.processor() or 'CPU'}"
        )

    def prompts(self, questions: int) -> tuple[Tensor, Tensor, Tensor]:
        generator = torch.Generator().manual_seed(1)
        ids = torch.randint(10, 60, (questions, self.options.prompt), generator=generator).to(
            self.options.device
        )
        return (
            ids,
            torch.ones_like(ids),
            question_keys(0, list(range(questions))).to(self.options.device),
        )

    def timed(self, run: Callable[[], Any]) -> tuple[Any, float]:
        best, result = float("inf"), None
        clock = time.process_time if self.options.cpu_time else time.perf_counter
        for _ in range(self.options.repeats):
            self.sync()
            began = clock()
            result = run()
            self.sync()
            best = min(best, clock() - began)
        return result, best

    def sync(self) -> None:
        if self.options.device == "cuda":
            torch.cuda.synchronize()

    def memory(self) -> float | None:
        return torch.cuda.max_memory_allocated() / 1e9 if self.options.device == "cuda" else None

    def compare(
        self,
        name: str,
        questions: int,
        thoughts: int,
        ours: Callable[[Measured], Any],
        plain: Callable[[Baseline], Any] | None,
        agree: Callable[[Any, Any], float],
    ) -> float:
        """Times both ways, alternating nothing else; returns our seconds."""
        engine = Measured(
            self.ours, GaussianNoise(STD), self.options.token_budget, self.options.compile
        )
        row: dict[str, Any] = {"name": name, "questions": questions}
        for kind, runner, make in (("plain", plain, Baseline), ("ours", ours, None)):
            if runner is None:
                continue
            if self.options.device == "cuda":
                torch.cuda.reset_peak_memory_stats()
            subject: Any = engine if make is None else make(self.reasoner, self.options.tokens)

            def run(subject: Any = subject, runner: Any = runner) -> Any:
                subject.tally = Tally()
                return runner(subject)

            with engine.counting() as cost:  # of the last one, ours
                row[kind + "_result"], seconds = self.timed(run)
            tally = subject.tally
            row[kind] = {
                "seconds": seconds,
                "questions_per_s": questions / seconds,
                "thoughts_per_s": thoughts / seconds,
                "positions": tally.positions,
                "kv_mb": tally.kv_bytes / 1e6,
                "peak_gb": self.memory(),
            }
            if self.peak:
                size = torch.finfo(getattr(torch, self.options.dtype)).bits // 8
                row[kind]["of_peak_flops"] = (
                    2 * self.body * tally.positions / seconds / self.peak[0]
                )
                row[kind]["of_bandwidth"] = (
                    (self.body * size * tally.passes) / seconds / self.peak[1]
                )
        theirs, mine_ = row.pop("plain_result", None), row.pop("ours_result")
        row["ours"]["token_forward_ratio"] = cost.ratio
        ours_row = row["ours"]
        line = f"{name:24} ours {ours_row['seconds']:8.3f} s "
        line += f"{ours_row['questions_per_s']:8.2f} q/s "
        line += f"{ours_row['thoughts_per_s']:9.0f} thoughts/s  "
        line += f"KV {ours_row['kv_mb']:8.1f} MB  ratio {cost.ratio:.3f}"
        if plain is not None:
            row["speedup"] = row["plain"]["seconds"] / row["ours"]["seconds"]
            row["kv_saving"] = row["plain"]["kv_mb"] / row["ours"]["kv_mb"]
            row["agree"] = agree(theirs, mine_)
            line += f"  | plain {row['plain']['seconds']:8.3f} s, {row['speedup']:5.2f}x; "
            line += f"KV {row['kv_saving']:5.2f}x; agree {row['agree']:.3f}"
        if self.peak:
            line += f"  | {ours_row['of_peak_flops']:.1%} of peak, "
            line += f"{ours_row['of_bandwidth']:.1%} of bandwidth (weights)"
        print(line, flush=True)
        self.rows.append(row)
        return float(row["ours"]["seconds"])

    # -- what is compared

    def sampling(self, questions: int, samples: int, with_plain: bool = True) -> float:
        ids, mask, keys = self.prompts(questions)
        names = sample_keys(keys, samples)

        def same(theirs: tuple[Tensor, Tensor], mine_: Any) -> float:
            return float((theirs[1] == mine_.answer_ids.flatten(0, 1)).all(-1).float().mean())

        plain = (lambda plain: plain.sample(ids, names)) if with_plain else None
        thoughts = questions * samples * self.options.thoughts
        return self.compare(
            f"sampling N={samples}",
            questions,
            thoughts,
            lambda engine: engine.rollout(ids, mask, samples),
            plain,
            same,
        )

    def rollouts(self, questions: int, group: int) -> None:
        """What reinforcement explores with: groups whose thoughts are perturbed and answers drawn."""
        ids, mask, keys = self.prompts(questions)
        names = sample_keys(keys, group)
        drawn = SampledAnswers(GaussianNoise(STD), never=[self.reasoner.pad_id])

        def same(theirs: tuple[Tensor, Tensor], mine_: Any) -> float:
            return float((theirs[1].cpu() == mine_.answer_ids.flatten(0, 1)).all(-1).float().mean())

        self.compare(
            f"rollouts G={group}",
            questions,
            questions * group * self.options.thoughts,
            lambda engine: engine.with_sampler(drawn).rollout(ids, mask, group),
            lambda plain: replace(plain, sampler=drawn).sample(ids, names),
            same,
        )
        made = self.rows[-1]
        for kind in ("ours", "plain"):
            made[kind]["rollouts_per_s"] = questions * group / made[kind]["seconds"]
            print(f"{kind}: {made[kind]['rollouts_per_s']:.1f} rollouts per second")

    def operations(self, questions: int, samples: int) -> None:
        """Prints which operations our time on the CPU goes into."""
        ids, mask, _ = self.prompts(questions)
        engine = RolloutEngine(self.ours, GaussianNoise(STD), self.options.token_budget)
        with torch.profiler.profile(
            activities=[torch.profiler.ProfilerActivity.CPU], acc_events=True
        ) as profiler:
            engine.rollout(ids, mask, samples)
        spent = sorted(
            ((event.self_cpu_time_total, event.key) for event in profiler.key_averages()),
            reverse=True,
        )
        whole = sum(time for time, _ in spent)
        shares = ", ".join(f"{name} {time / whole:.1%}" for time, name in spent[:8])
        print(f"sampling N={samples}, share of our time: {shares}")

    def mining(self, questions: int, samples: int, rollouts: int) -> None:
        ids, mask, keys = self.prompts(questions)
        names = sample_keys(keys, samples)
        truths = [0] * questions

        def same(theirs: tuple[Tensor, Any], mined: Any) -> float:
            return float(
                torch.isclose(
                    theirs[0].float().cpu(), mined.trajectories.thoughts.flatten(0, 1), atol=1e-2
                )
                .float()
                .mean()
            )

        self.compare(
            f"mining N={samples} M={rollouts}",
            questions,
            questions * samples * self.options.thoughts,
            lambda engine: mine(engine, ids, mask, names, truths, rollouts),  # type: ignore[arg-type]
            lambda plain: plain.mine(ids, names, rollouts),
            same,
        )

    def beam(self, questions: int, beams: int, candidates: int) -> None:
        ids, mask, keys = self.prompts(questions)

        search = BeamSearch(beams, candidates)

        def same(theirs: Tensor, found: Any) -> float:
            return float((theirs == found.answer_ids).all(-1).float().mean())

        self.compare(
            f"beam {beams}x{candidates}",
            questions,
            questions * beams * candidates * self.options.thoughts,
            lambda engine: search.search(engine, self.our_latent_rm, ids, mask, keys),
            lambda plain: plain.beam(self.latent_rm, ids, keys, beams, candidates),
            same,
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=list(SHAPES), default="gpt2-small")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--prompt", type=int, default=80)
    parser.add_argument("--thoughts", type=int, default=6)
    parser.add_argument("--tokens", type=int, default=10)
    parser.add_argument("--questions", type=int, default=2)
    parser.add_argument("--group", type=int, default=32, help="rollouts of a question, as in GRPO")
    parser.add_argument("--mining-questions", type=int, default=1)
    parser.add_argument(
        "--token-budget", type=int, help="positions held at once; by default what the memory allows"
    )
    parser.add_argument(
        "--compile",
        action="store_true",
        help="torch.compile on the MLPs; the plain way uses the same modules",
    )
    parser.add_argument(
        "--layout",
        choices=["ours", "both", "none"],
        default="ours",
        help="who has weights laid out as mining and search have them on a CPU",
    )
    parser.add_argument(
        "--cpu-time",
        action="store_true",
        help="seconds of the processor instead of the clock's, where other work runs beside",
    )
    parser.add_argument("--repeats", type=int, default=1, help="the fastest counts")
    parser.add_argument(
        "--only",
        choices=["sampling", "rollouts", "mining", "beam", "scaling", "operations"],
        help="one part",
    )
    parser.add_argument("--out", help="JSON file for all numbers")
    options = parser.parse_args()
    bench = Bench(options)
    bench.sampling(1, 1, with_plain=False)  # warm up
    bench.rows.clear()
    if options.only in (None, "sampling"):
        seconds = {n: bench.sampling(options.questions, n) for n in (1, 4, 16, 64)}
        print(f"time at N = 64 over time at N = 1: {seconds[64] / seconds[1]:.1f}")
    if options.only in (None, "mining"):
        bench.mining(options.mining_questions, 8, 8)
    if options.only in (None, "beam"):
        bench.beam(options.questions, 8, 8)
    if options.only in (None, "scaling"):
        for questions in (1, 2, 4, 8, 16):
            bench.sampling(questions, 16, with_plain=False)
    if options.only in (None, "rollouts"):
        bench.rollouts(options.questions, options.group)
    if options.only in (None, "operations"):
        bench.operations(options.questions, 64)
    if options.out:
        with open(options.out, "w") as file:
            json.dump(
                {
                    "machine": bench.machine(),
                    "torch": torch.__version__,
                    **vars(options),
                    "rows": bench.rows,
                },
                file,
                indent=1,
            )


if __name__ == "__main__":
    main()
