"""Options that must be refused when a configuration's classes are made, before anything runs."""

from collections.abc import Callable, Mapping
from typing import Any

from lightning.pytorch import Callback, LightningDataModule, LightningModule

from lightning_ltts.cli.lightning_front import _Parser
from lightning_ltts.data.problems import ProblemSource
from lightning_ltts.prediction.ablation import ThoughtAblation
from lightning_ltts.sampling.samplers import Sampler
from lightning_ltts.search.search import Search
from tests.malformed.case import Case, Place

NAN, INFINITE = float("nan"), float("inf")
REASONER = "REASONER"  # stands for the checkpoint of a tiny model
GPT2 = {"model_type": "gpt2", "n_layer": 1, "n_embd": 8, "n_head": 2, "n_positions": 64}
LLAMA = {
    "model_type": "llama", "hidden_size": 8, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 8, "num_hidden_layers": 1, "max_position_embeddings": 64,
}  # fmt: skip
DATA, SAMPLING = "lightning_ltts.data.", "lightning_ltts.sampling.samplers."
WORDS = {"class_path": f"{DATA}tokenization.WordTokenizer", "init_args": {"max_number": 20}}
SCRATCH: dict[str, Any] = {"start": {"tokenizer": WORDS, "backbone": GPT2}}
PROBLEMS = {
    "class_path": f"{DATA}word_problems.WordProblems",
    "init_args": {"split": "train", "size": 4},
}
NOISE = {"class_path": f"{SAMPLING}GaussianNoise", "init_args": {"std": 0.1}}
# class -> its module, what kind of class is asked for in its place, and what it needs
CLASSES: dict[str, tuple[str, type, dict[str, Any]]] = {
    "WordProblems": ("data.word_problems", ProblemSource, PROBLEMS["init_args"]),  # type: ignore[dict-item]
    "GraphProblems": ("data.graph_problems", ProblemSource, PROBLEMS["init_args"]),  # type: ignore[dict-item]
    "ProblemFiles": ("data.problems", ProblemSource, {"paths": ["train.json"]}),
    "HubProblems": ("data.problems", ProblemSource, {"path": "owner/name"}),
    "PerturbedProblems": ("data.perturbation", ProblemSource, {"source": PROBLEMS}),
    "ProblemData": (
        "data.problem_data", LightningDataModule, {"train": PROBLEMS, "val": PROBLEMS},
    ),
    "MiningData": (
        "mining.data", LightningDataModule,
        {"reasoner": "r", "sampler": NOISE, "train": PROBLEMS, "val": PROBLEMS, "store": "s"},
    ),
    "GaussianNoise": ("sampling.samplers", Sampler, {}),
    "LearnedSpread": ("sampling.samplers", Sampler, {}),
    "MCDropout": ("sampling.samplers", Sampler, {}),
    "SingularValueNoise": ("sampling.singular_values", Sampler, {}),
    "ThoughtAblation": ("prediction.ablation", ThoughtAblation, {}),
    "BeamSearch": ("search.beam", Search, {}),
    "CoconutModule": ("training.coconut", LightningModule, SCRATCH),
    "CodiModule": ("training.codi", LightningModule, SCRATCH),
    "ColarModule": ("training.colar", LightningModule, SCRATCH),
    "GrpoModule": ("training.grpo", LightningModule, SCRATCH),
    "NoiseModule": ("training.noise", LightningModule, SCRATCH),
    "ColarGrpoModule": ("training.colar_grpo", LightningModule, SCRATCH),
    "LatentRMModule": ("training.latent_rm", LightningModule, {"reasoner": REASONER}),
    "LatentSearch": (
        "prediction.module", LightningModule, {"reasoner": REASONER, "sampler": NOISE},
    ),
    "FlatAccuracy": ("training.flat_accuracy", Callback, {}),
    "PredictionWriter": ("prediction.writer", Callback, {"folder": "p"}),
}  # fmt: skip
# class, option (a path into dictionaries), value, words of the message beside the option's name
OPTIONS: tuple[tuple[Any, ...], ...] = (
    # -- training
    ("CoconutModule", "lr", NAN, "nan", "above 0"),
    ("CoconutModule", "lr", INFINITE, "inf"),
    ("CoconutModule", "lr", 0.0, "above 0"),
    ("CoconutModule", "lr", -0.001, "-0.001"),
    ("CoconutModule", "lr", "fast", "fast"),
    ("CoconutModule", "lr", [0.1], "0.1"),
    ("CoconutModule", "lr", None, "lr"),
    ("CoconutModule", "weight_decay", -1.0, "of at least 0"),
    ("CoconutModule", "weight_decay", NAN, "nan"),
    ("CoconutModule", "warmup", 2.0, "from 0 to 1"),
    ("CoconutModule", "warmup", -0.1, "-0.1"),
    ("CoconutModule", "warmup", NAN, "nan"),
    ("CoconutModule", "schedule", "linear", "linear"),
    ("CoconutModule", "sampled_share", 1.5, "1.5"),
    ("CoconutModule", "sampled_share", NAN, "nan"),
    ("CoconutModule", "uniform_prob", -0.5, "-0.5"),
    ("CoconutModule", "uniform_prob", NAN, "nan"),
    ("CoconutModule", "step_factor", -1.0, "-1.0"),
    ("CoconutModule", "step_factor", INFINITE, "inf"),
    ("CoconutModule", "max_answer_tokens", 0, "from 1"),
    ("CoconutModule", "max_answer_tokens", 10**12, "1000000"),
    ("CoconutModule", "max_answer_tokens", 2.5, "2.5"),
    ("CoconutModule", "reset_optimizer", "maybe", "maybe"),
    ("CoconutModule", "curriculum.cot_epochs", -1, "-1"),
    ("CoconutModule", "curriculum.cot_epochs", 10**15, "100000"),
    ("CoconutModule", "curriculum.stage_epochs", [2, 0], "stage_epochs=0"),
    ("CoconutModule", "curriculum.stage_epochs", [10**9], "100000"),
    ("CoconutModule", "curriculum.stage_epochs", "all", "all"),
    ("CoconutModule", "curriculum.thoughts_per_step", 0, "from 1"),
    ("CoconutModule", "curriculum.thoughts_per_step", 10**9, "1000000"),
    ("CoconutModule", "curriculum.final_epochs", -2, "-2"),
    ("CoconutModule", "curriculum", {"cot_epochs": 0, "stage_epochs": []}, "one epoch"),
    ("CoconutModule", "curriculum.epochs", 3, "epochs"),
    ("CoconutModule", "nope", 1, "nope"),
    ("CoconutModule", "spec.num_toughts", 2, "num_toughts"),
    ("CoconutModule", "spec.num_thoughts", 9, "contradicts"),
    ("CoconutModule", "spec.prompt_template", "no place", "{question}"),
    ("CoconutModule", "spec.answer_which", "best", "best"),
    ("CoconutModule", "spec.tokens", {"start": "<|nope|>"}, "'eos'"),
    ("CoconutModule", "sampler.class_path", "lightning_ltts.Nope", "Nope"),
    ("CodiModule", "num_thoughts", 0, "from 1"),
    ("CodiModule", "num_thoughts", 10**9, "1000000"),
    ("CodiModule", "num_thoughts", True, "True"),
    ("CodiModule", "distill_factor", NAN, "nan"),
    ("CodiModule", "teacher_factor", -1.0, "-1.0"),
    ("CodiModule", "step_factor", -1.0, "-1.0"),
    ("CodiModule", "thought_head.hidden_size", 0, "from 1"),
    ("CodiModule", "thought_head.hidden_size", 2.5, "2.5"),
    ("CodiModule", "thought_head.dropout", NAN, "nan"),
    ("CodiModule", "thought_head.dropout", 1.5, "from 0 to 1"),
    ("CodiModule", "thought_head.nope", 1, "nope"),
    ("ColarModule", "compression", 9, "raise max_compression"),
    ("ColarModule", "compression", 0, "from 1"),
    ("ColarModule", "max_compression", 0, "from 1"),
    ("ColarModule", "embedding_std", 0.0, "above 0"),
    ("ColarModule", "embedding_std", NAN, "nan"),
    ("ColarModule", "token_weight", -1.0, "-1.0"),
    ("ColarModule", "latent_weight", INFINITE, "inf"),
    ("ColarModule", "num_thoughts", -3, "-3"),
    ("ColarModule", "seed", -1, "-1"),
    ("ColarModule", "seed", 2**32, "4294967296"),
    ("ColarModule", "sampler", {"class_path": f"{SAMPLING}LearnedSpread"}, "LearnedSpread"),
    ("GrpoModule", "group_size", 1, "from 2"),
    ("GrpoModule", "oversampling", 0, "at least 1"),
    ("GrpoModule", "passes", 0, "at least 1"),
    ("GrpoModule", "groups_at_once", 0, "at least 1"),
    ("GrpoModule", "kl_factor", -0.1, "-0.1"),
    ("GrpoModule", "kl_factor", NAN, "nan"),
    ("GrpoModule", "clip", 0.0, "above 0"),
    ("GrpoModule", "start.pretrained", None, "pretrained"),
    ("NoiseModule", "passes", 0, "at least 1"),
    ("NoiseModule", "group_size", 1, "from 2"),
    ("ColarGrpoModule", "group_size", 1, "from 2"),
    ("ColarGrpoModule", "group_size", 10**9, "1000000"),
    ("ColarGrpoModule", "update_size", 0, "at least 1"),
    ("ColarGrpoModule", "clip", 0.0, "above 0"),
    ("ColarGrpoModule", "clip", NAN, "nan"),
    ("ColarGrpoModule", "max_grad_norm", NAN, "nan"),
    ("ColarGrpoModule", "seed", -1, "-1"),
    ("ColarGrpoModule", "start.pretrained", None, "pretrained"),
    ("LatentRMModule", "hard_negatives", NAN, "nan"),
    ("LatentRMModule", "hard_negatives", 0.5, "of at least 1"),
    ("LatentRMModule", "lr", NAN, "above 0"),
    ("LatentRMModule", "warmup", 1.1, "from 0 to 1"),
    ("LatentRMModule", "loss", "mse", "mse"),
    ("LatentRMModule", "trained", "half", "half"),
    ("LatentRMModule", "extra_layers", -1, "-1"),
    ("LatentRMModule", "extra_layers", 10**7, "2000"),
    ("LatentRMModule", "backbone", {"model_type": "bert"}, "bert"),
    ("LatentRMModule", "backbone", {**GPT2, "n_head": 3}, "n_embd=8", "n_head=3"),
    ("LatentRMModule", "reasoner", "nope.ckpt", "nope.ckpt"),
    ("FlatAccuracy", "epochs", 0, "at least 1"),
    ("FlatAccuracy", "above", NAN, "nan"),
    # -- backbones and adapters
    ("CoconutModule", "start.backbone.n_embd", 0, "from 1"),
    ("CoconutModule", "start.backbone.n_embd", -8, "-8"),
    ("CoconutModule", "start.backbone.n_embd", 8.0, "8.0"),
    ("CoconutModule", "start.backbone.n_embd", "wide", "wide"),
    ("CoconutModule", "start.backbone.n_embd", 10**6, "GB"),
    ("CoconutModule", "start.backbone.n_embd", 10**15, "1000000"),
    ("CoconutModule", "start.backbone.n_head", 3, "n_embd=8", "multiple"),
    ("CoconutModule", "start.backbone.n_head", 0, "from 1"),
    ("CoconutModule", "start.backbone.n_layer", 10**7, "2000"),
    ("CoconutModule", "start.backbone.n_layer", 0, "from 1"),
    ("CoconutModule", "start.backbone.n_positions", 10**9, "100000000"),
    ("CoconutModule", "start.backbone.n_positions", 0, "from 1"),
    ("CoconutModule", "start.backbone.n_inner", -1, "-1"),
    ("CoconutModule", "start.backbone.activation_function", "nope", "nope"),
    ("CoconutModule", "start.backbone.resid_pdrop", 2.0, "2.0"),
    ("CoconutModule", "start.backbone.resid_pdrop", NAN, "nan"),
    ("CoconutModule", "start.backbone.layer_norm_epsilon", "small", "small"),
    ("CoconutModule", "start.backbone.model_type", "bert", "bert"),
    ("CoconutModule", "start.backbone.model_type", None, "None"),
    ("CoconutModule", "start.backbone", {**LLAMA, "num_attention_heads": 3}, "multiple"),
    ("CoconutModule", "start.backbone", {**LLAMA, "num_key_value_heads": 3}, "multiple"),
    ("CoconutModule", "start.backbone", {**LLAMA, "num_hidden_layers": 10**9}, "2000"),
    ("CoconutModule", "start.backbone", {**LLAMA, "intermediate_size": 0}, "intermediate_size=0"),
    ("CoconutModule", "start.backbone", {**LLAMA, "head_dim": 0}, "head_dim=0"),
    ("CoconutModule", "start.backbone", {**LLAMA, "rope_parameters": "yes"}, "backbone"),
    ("CoconutModule", "start.backbone", {**LLAMA, "quantization_config": {"x": 1}}, "quantization"),
    ("CoconutModule", "start.tokenizer.init_args.max_number", 0, "from 1"),
    ("CoconutModule", "start.pretrained", "gpt2", "either a pretrained model"),
    ("CoconutModule", "start.new_tokens_from", "no such token", "no such token"),
    ("CoconutModule", "start.lora", {"rank": 0}, "rank=0"),
    ("CoconutModule", "start.lora", {"rank": 10**9}, "100000"),
    ("CoconutModule", "start.lora", {"alpha": NAN}, "alpha=nan"),
    ("CoconutModule", "start.lora", {"alpha": 0.0}, "alpha=0.0"),
    ("CoconutModule", "start.lora", {"dropout": 1.0}, "dropout=1.0"),
    ("CoconutModule", "start.lora", {"dropout": NAN}, "dropout=nan"),
    ("CoconutModule", "start.lora", {"targets": ["nope"]}, "nope"),
    ("CoconutModule", "start.lora", {"targets": []}, "none given"),
    # -- sampling and searching
    ("GaussianNoise", "std", NAN, "nan"),
    ("GaussianNoise", "std", INFINITE, "inf"),
    ("GaussianNoise", "std", 1e38, "1e+38"),
    ("GaussianNoise", "std", 0.0, "use Deterministic"),
    ("GaussianNoise", "relative_std", NAN, "nan"),
    ("GaussianNoise", "relative_std", -0.5, "-0.5"),
    ("GaussianNoise", "std", None, "exactly one"),
    ("LearnedSpread", "scale", NAN, "nan"),
    ("LearnedSpread", "scale", -1.0, "-1.0"),
    ("MCDropout", "p", 1.0, "between 0 and 1"),
    ("MCDropout", "p", NAN, "nan"),
    ("MCDropout", "sites", [], "residual"),
    ("MCDropout", "sites", ["everywhere"], "everywhere"),
    ("MCDropout", "lifetime", "forever", "forever"),
    ("SingularValueNoise", "alpha", 0.0, "use Deterministic"),
    ("SingularValueNoise", "alpha", NAN, "nan"),
    ("SingularValueNoise", "target", "w", "w"),
    ("ThoughtAblation", "by", ["none"], "none"),
    ("ThoughtAblation", "pool", 1, "from 2"),
    ("BeamSearch", "beams", 0, "at least 1"),
    ("BeamSearch", "candidates", -4, "-4"),
    ("BeamSearch", "beams", 10**9, "limit of 4096"),
    ("BeamSearch", "subtrees", 3, "multiple"),
    ("BeamSearch", "limit", 0, "at least 1"),
    ("LatentSearch", "num_samples", 0, "from 1"),
    ("LatentSearch", "num_samples", 10**9, "1000000"),
    ("LatentSearch", "num_samples", 1e9, "num_samples"),
    ("LatentSearch", "num_samples", "many", "many"),
    ("LatentSearch", "seed", -1, "-1"),
    ("LatentSearch", "seed", 10**30, "4294967295"),
    ("LatentSearch", "token_budget", 0, "at least 1"),
    ("LatentSearch", "spec.num_thoughts", -1, "-1"),
    ("LatentSearch", "spec.num_thoughts", 10**12, "1000000"),
    ("LatentSearch", "spec.max_answer_tokens", 0, "from 1"),
    ("LatentSearch", "spec.method", "nope", "nope"),
    ("LatentSearch", "reasoner", "nope.ckpt", "does not exist"),
    ("LatentSearch", "reasoner", 5, "5"),
    ("LatentSearch", "latent_rm", REASONER, "LatentRM is needed"),
    ("LatentSearch", "beam", {"class_path": "lightning_ltts.search.beam.BeamSearch"}, "LatentRM"),
    ("PredictionWriter", "keep_thoughts", -1, "-1"),
    ("PredictionWriter", "temperature", 0.0, "above 0"),
    ("PredictionWriter", "temperature", NAN, "nan"),
    # -- data
    ("MiningData", "num_samples", 1, "from 2"),
    ("MiningData", "num_samples", 10**9, "1000000"),
    ("MiningData", "num_rollouts", -1, "-1"),
    ("MiningData", "val_num_samples", 0, "from 1"),
    ("MiningData", "seed", -5, "-5"),
    ("MiningData", "token_budget", 0, "at least 1"),
    ("MiningData", "shard_size", 0, "at least 1"),
    ("MiningData", "batch_size", 10**15, "1000000"),
    ("MiningData", "informative", 0, "at least 1"),
    ("ProblemData", "batch_size", 0, "from 1"),
    ("ProblemData", "eval_batch_size", 10**15, "1000000"),
    ("ProblemData", "seed", 2**33, "4294967295"),
    ("ProblemData", "train", "train.json", "train.json"),
    ("WordProblems", "size", 10**15, "raise max_size"),
    ("WordProblems", "size", 0, "from 1"),
    ("WordProblems", "split", "dev", "dev"),
    ("WordProblems", "num_steps", 10**6, "1000000"),
    ("WordProblems", "max_number", 10**15, "10"),
    ("WordProblems", "seed", -1, "-1"),
    ("GraphProblems", "split", "dev", "dev"),
    ("GraphProblems", "size", 10**15, "raise max_size"),
    ("GraphProblems", "hops", 0, "from 1 to 20"),
    ("GraphProblems", "distractors", 39, "40 names of concepts"),
    ("GraphProblems", "density", NAN, "nan"),
    ("GraphProblems", "persons", 1, "from 2"),
    ("ProblemFiles", "paths", [], "empty list"),
    ("ProblemFiles", "limit", 0, "leave it out"),
    ("ProblemFiles", "answers", "prose", "prose"),
    ("HubProblems", "columns", {"solution": "x"}, "solution"),
    ("HubProblems", "ids", "none", "none"),
    ("PerturbedProblems", "copies", 0, "from 1"),
    ("PerturbedProblems", "attempts", 10**9, "10000"),
    ("PerturbedProblems", "seed", -1, "-1"),
)


def made(owner: str, option: str, value: Any) -> Callable[[Place], object]:
    """Makes a class with this option as the command line does."""

    def make(place: Place) -> object:
        module, kind, needed = CLASSES[owner]
        *path, last = option.split(".")
        init_args: dict[str, Any] = _copy(needed)
        node = init_args
        for key in path:
            node = node.setdefault(key, {})
        node[last] = value
        files = {REASONER: str(place.reasoner)}
        init_args = {
            name: files.get(v, v) if isinstance(v, str) else v for name, v in init_args.items()
        }
        parser = _Parser()
        parser.add_subclass_arguments(kind, "x", fail_untyped=False)
        class_path = f"lightning_ltts.{module}.{owner}"
        config = parser.parse_object({"x": {"class_path": class_path, "init_args": init_args}})
        return parser.instantiate(config)

    return make


def _copy(value: Any) -> Any:
    return {key: _copy(inner) for key, inner in value.items()} if isinstance(value, dict) else value


CASES: Mapping[str, Case] = {
    f"{owner} {option}={str(value)[:40]} ({number})": Case(
        made(owner, option, value), (option.rsplit(".", 1)[-1] if not words else "", *words)
    )
    for number, (owner, option, value, *words) in enumerate(OPTIONS)
}
