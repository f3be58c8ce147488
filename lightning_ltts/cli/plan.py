"""`ltts plan`: what mining or searching would take, from a composed configuration, before it runs."""

import argparse
from collections.abc import Sequence
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from lightning_ltts.cli.hydra_front import run_hydra
from lightning_ltts.cli.verbs import PROG, OneLineParser, positive_count, positive_number
from lightning_ltts.errors import ConfigError

if TYPE_CHECKING:
    from lightning_ltts.engine.plan import Plan

TERA, GIGA = 1e12, 1e9


def run_plan(arguments: Sequence[str]) -> None:
    """Takes out the command's own options, composes the rest, and prints the plan."""
    options, overrides = _parser().parse_known_args(arguments)
    if options.shape is None and options.questions is not None:
        raise ConfigError(
            "--questions goes with --shape; without it the questions are those of the configuration"
        )
    run_hydra("plan", overrides, lambda tree: print(planned(tree, options)))


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(f"{PROG} plan", add_help=False)
    parser.add_argument("--devices", type=positive_count, default=1)
    parser.add_argument("--tflops", type=positive_number, default=312.0)
    parser.add_argument("--shape")
    parser.add_argument("--questions", type=positive_count)
    parser.add_argument("--prompt-tokens", type=positive_number)
    parser.add_argument("--answer-tokens", type=positive_number)
    parser.add_argument("--mixed", type=positive_number, default=1.0)
    return parser


def planned(tree: dict[str, Any], options: argparse.Namespace) -> str:
    """The plan of a configuration, as text.

    Args:
        tree: the composed configuration.
        options: of the command line.

    Raises:
        ConfigError: it neither mines nor searches.
    """
    from lightning_ltts.engine.plan import SHAPES

    kind = str((tree.get("data") or {}).get("class_path")).rpartition(".")[2]
    if kind not in ("MiningData", "PredictionData"):
        raise ConfigError(
            f"'ltts plan' is for what mines or searches, and the data is {kind}; give "
            "experiment=demo/latent_rm or experiment=demo/search, for instance"
        )
    if options.shape is not None and options.shape not in SHAPES:
        raise ConfigError(
            f"--shape {options.shape} is not known; use one of {', '.join(SHAPES)}, or leave it out "
            "and give reasoner=CHECKPOINT"
        )
    made = _mining(tree, options) if kind == "MiningData" else _search(tree, options)
    return made


def _mining(tree: dict[str, Any], options: argparse.Namespace) -> str:
    given = tree["data"]["init_args"]
    limit = given.get("informative")
    texts = {"samples": given.get("num_samples", 8), "rollouts": given.get("num_rollouts", 4)}
    texts["keep_clean"] = given.get("keep_clean", False)
    model = _Model(given, tree, options, "train")
    note = "" if limit is None else f"; mining ends with {limit} informative questions, or earlier"
    said = model.text({**texts, "mixed": min(options.mixed, 1.0)}, store=True, note=note)
    if options.shape is not None:  # a published backbone has no validation questions
        return said
    model.count(make(given["val"]).load())
    texts |= {"samples": given.get("val_num_samples", 32), "rollouts": 0}
    return f"{said}\n{model.validation(texts)}"


def _search(tree: dict[str, Any], options: argparse.Namespace) -> str:
    given = tree["model"]["init_args"]
    search = make(given["beam"]) if given.get("beam") else None
    texts = {"samples": given.get("num_samples", 32)}
    if search is not None and hasattr(search, "beams"):
        texts |= {"beams": search.beams, "budget": search.budget}
    # what an option adds is said where it is not worked out
    extra = [name for name in ("tuned", "ablation", "step_decoder") if given.get(name)]
    extra += ["beam"] if search is not None and "beams" not in texts else []
    note = f"; without what {' and '.join(extra)} will take" if extra else ""
    texts |= _judge(given.get("latent_rm"), options.shape is not None)
    return _Model(given, tree, options, "problems").text(texts, store=False, note=note)


def _judge(latent_rm: str | None, supposed: bool) -> dict[str, bool]:
    """What the LatentRM reads; one that is only supposed reads everything."""
    if latent_rm is None or supposed:
        return {"scored": latent_rm is not None}
    from lightning_ltts.models.checkpoints import load_latent_rm

    spec = load_latent_rm(latent_rm).spec
    return {"scored": True, "reference": spec.reference, "reads_answer": spec.reads_answer}


class _Model:
    """The reasoner, its sampler and the questions of a configuration, as far as a plan needs them."""

    def __init__(
        self, given: dict[str, Any], tree: dict[str, Any], options: argparse.Namespace, source: str
    ):
        self.options = options
        self.sampler = make(given["sampler"])
        if options.shape is not None:
            self._suppose()
        else:
            self._load(given["reasoner"], make(tree["data"]["init_args"][source]).load())

    def _suppose(self) -> None:
        """A published backbone with questions of GSM8K's size."""
        from lightning_ltts.engine.plan import SHAPES

        self.shape, self.thoughts = SHAPES[self.options.shape], 6
        self.prompt = self.options.prompt_tokens or 60.0
        self.answer = self.options.answer_tokens or 6.0
        self.questions = self.options.questions or 385_000

    def _load(self, reasoner: str, problems: Any) -> None:
        """A checkpoint, and its own tokens of the questions and answers."""
        from lightning_ltts.engine.plan import Shape
        from lightning_ltts.models.checkpoints import load_reasoner
        from lightning_ltts.models.cost import flops_per_position

        self.reasoner = model = load_reasoner(reasoner)
        config = model.backbone.config
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        width = (
            getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        )
        head = model.backbone.get_output_embeddings().weight
        self.shape = Shape(
            flops_per_position(model.backbone.base_model) // 2,
            head.shape[0],
            model.hidden_size,
            config.num_hidden_layers,
            heads * width,
            model.backbone.dtype.itemsize,
        )
        self.thoughts = model.spec.num_thoughts
        self.count(problems)

    def count(self, problems: Any) -> None:
        """Takes these problems' number and lengths."""
        from lightning_ltts.data.tokenization import encode_template, encode_text

        model, self.questions = self.reasoner, len(problems)
        marker = len(encode_template(model.tokenizer, model.spec.answer_marker))
        prompts = answers = 0
        for problem in problems:
            prompts += len(model.encode_prompt(problem.question, problem.source))
            answers += marker + len(encode_text(model.tokenizer, f" {problem.answer}", ""))
        self.prompt = self.options.prompt_tokens or prompts / len(problems)
        self.answer = self.options.answer_tokens or answers / len(problems)

    def plan(self, task: dict[str, Any]) -> "Plan":
        """What a task takes for one of the questions."""
        from lightning_ltts.engine.plan import Task, plan

        return plan(
            Task(
                self.prompt,
                self.thoughts,
                self.answer,
                own_passes=self.sampler.perturbs_forward,
                own_prompts=self.sampler.perturbs_prompt,
                **task,
            )
        )

    def hours(self, found: "Plan") -> float:
        """Of one device, for all questions."""
        return found.device_hours(self.shape, self.questions, self.options.tflops * TERA)

    def validation(self, task: dict[str, Any]) -> str:
        """What the validation store takes besides, in one line."""
        found = self.plan(task)
        size = found.store_bytes(self.shape) * self.questions
        return (
            f"validation store, besides: {self.questions:,} questions with {task['samples']} "
            f"samples each, positions in all: {found.read * self.questions:,.3g}, FLOPs: "
            f"{found.flops(self.shape) * self.questions:,.3g}, {size / 2**20:,.1f} MiB, "
            f"{self.hours(found):,.3g} device-hours"
        )

    def text(self, task: dict[str, Any], store: bool, note: str = "") -> str:
        """The plan in lines."""
        from lightning_ltts.engine.plan import PEAK_SHARE

        found = self.plan(task)
        flops, hours = found.flops(self.shape), self.hours(found)
        parts = ", ".join(f"{name} {value:.0f}" for name, value in found.positions.items())
        parts += f", LatentRM {found.scored:.0f}" if found.scored else ""
        lines = [
            f"{self.questions:,} questions of {self.prompt:.0f} tokens, {self.thoughts} thoughts, "
            f"answers of {self.answer:.1f} tokens{note}",
            f"positions per question: {found.read:,.0f} ({parts})",
            f"positions in all: {found.read * self.questions:,.3g}",
            f"FLOPs: {flops / GIGA:,.4g} x 10^9 per question, {flops * self.questions:,.3g} in all",
            f"keys and values: {self.shape.cache_bytes:,} bytes per position, "
            f"{found.cache_bytes(self.shape) / 2**20:,.1f} MiB for one question at once",
        ]
        if store:
            size = found.store_bytes(self.shape)
            lines.append(
                f"store: {size / 2**10:,.0f} KiB per kept question, at most "
                f"{size * self.questions / 2**30:,.1f} GiB"
            )
        lines.append(
            f"time: {hours:,.3g} device-hours at {PEAK_SHARE:.0%} of {self.options.tflops:g} "
            f"TFLOPs/s, {hours / self.options.devices:,.3g} hours on {self.options.devices} device"
            + ("s" if self.options.devices > 1 else "")
        )
        return "\n".join(lines)


def make(node: Any) -> Any:
    """What a part of a configuration describes: its classes made, with what they hold."""
    if isinstance(node, list):
        return [make(inner) for inner in node]
    if not isinstance(node, dict):
        return node
    if "class_path" not in node:
        return {key: make(inner) for key, inner in node.items()}
    options = make(node.get("init_args") or {})
    try:
        return resolve_name(node["class_path"])(**options)
    except (TypeError, AttributeError, ImportError, ValueError) as error:
        raise ConfigError(f"{node['class_path']} cannot be made: {error}") from None
