"""Checkpoints and model folders that must be refused, whatever reads them."""

import json
import os
import pickle
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from lightning_ltts import cli
from lightning_ltts.models.checkpoints import ENTRY
from tests.malformed.case import Case, Place

Content = dict[str, Any]
ADAPTER = "reasoner.backbone.transformer.h.0.attn.c_attn.lora_A.default.weight"


class Hostile:
    """Runs a command when it is unpickled."""

    def __init__(self, function: Callable[..., Any], *arguments: Any):
        self.what = (function, arguments)

    def __reduce__(self) -> Any:
        return self.what


def export(source: str, *options: str) -> Callable[[Place], object]:
    """`ltts export SOURCE target`."""

    def use(place: Place) -> None:
        sys.argv = ["ltts", "export", source, "target", *options]
        cli.main()

    return use


def own(change: Callable[[Content], Any], *words: str) -> Case:
    """A checkpoint of training with something changed in it."""

    def make(place: Place) -> None:
        content = torch.load(place.reasoner, weights_only=True)
        change(content)
        torch.save(content, "bad.ckpt")

    return Case(export("bad.ckpt"), ("bad.ckpt", *words), make)


def holding(content: Any, *words: str) -> Case:
    """A file of PyTorch with something else in it."""
    return Case(
        export("bad.ckpt"),
        ("bad.ckpt", *words),
        lambda place: torch.save(content, "bad.ckpt"),
    )


def spec(change: Callable[[Content], Any], *words: str) -> Case:
    """One with something changed in its specification."""

    def change_spec(content: Content) -> None:
        change(content[ENTRY]["spec"])

    return own(change_spec, *words)


def state(change: Callable[[Content], Any], *words: str) -> Case:
    """One with something changed in its weights."""

    def change_state(content: Content) -> None:
        change(content["state_dict"])

    return own(change_state, *words)


def adapted(alpha: Any, *words: str) -> Case:
    """A checkpoint with adapters and this alpha, or none."""

    def change(content: Content) -> None:
        content["state_dict"][ADAPTER] = torch.zeros(2, 32)
        content["state_dict"][ADAPTER.replace("lora_A", "lora_B")] = torch.zeros(96, 2)
        content[ENTRY]["lora_alpha"] = alpha

    return own(change, *words)


def damaged(change: Callable[[bytes], bytes], *words: str, name: str = "bad.ckpt") -> Case:
    """A checkpoint with other bytes."""

    def make(place: Place) -> None:
        Path(name).write_bytes(change(place.reasoner.read_bytes()))

    return Case(export(name), (name, *words), make)


def folder(change: Callable[[Path], Any], *words: str, plain: bool = False) -> Case:
    """A folder that `ltts export` wrote, or as other programs write it, with something changed."""

    def make(place: Place) -> None:
        shutil.copytree(place.exported, "bad")
        if plain:
            Path("bad/lightning_ltts.json").unlink()
        change(Path("bad"))

    return Case(export("bad"), ("bad", *words), make)


def config(changes: Content, *words: str) -> Case:
    """A folder with other entries in its Hugging Face configuration."""
    return folder(lambda path: edit(path / "config.json", changes), *words, plain=True)


def edit(path: Path, changes: Content) -> None:
    """Changes entries of a JSON file."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def shards(names: Any) -> Callable[[Path], None]:
    """Replaces a folder's weights by shards of these names."""

    def change(path: Path) -> None:
        shutil.copy(path / "model.safetensors", path.parent / "outside.safetensors")
        (path / "model.safetensors").unlink()
        index = {"weight_map": names} if isinstance(names, dict) else names
        (path / "model.safetensors.index.json").write_text(json.dumps(index))

    return change


def weights(change: Callable[[Content], Any]) -> Callable[[Path], None]:
    """Changes the tensors of a folder."""

    def apply(path: Path) -> None:
        tensors = {
            key: tensor.clone() for key, tensor in load_file(path / "model.safetensors").items()
        }
        change(tensors)
        save_file(tensors, path / "model.safetensors", {"format": "pt"})

    return apply


def write(name: str, content: str | bytes) -> Callable[[Path], None]:
    """Replaces a file of a folder."""
    raw = content.encode() if isinstance(content, str) else content
    return lambda path: (path / name).write_bytes(raw) and None


def flip(place: int) -> Callable[[bytes], bytes]:
    """Flips one byte, counted as a per cent of all."""
    return lambda raw: bytes(
        byte ^ 0xFF if i == len(raw) * place // 100 else byte for i, byte in enumerate(raw)
    )


OWN = {
    "truncated": damaged(lambda raw: raw[: len(raw) // 2], "cut off"),
    "last byte missing": damaged(lambda raw: raw[:-1], "bad.ckpt"),
    "first byte missing": damaged(lambda raw: raw[1:], "bad.ckpt"),
    "empty": damaged(lambda raw: b"", "bad.ckpt"),
    "one byte": damaged(lambda raw: b"P", "bad.ckpt"),
    "text": damaged(lambda raw: b"not a checkpoint\n", "bad.ckpt"),
    "zeros": damaged(lambda raw: bytes(1000), "bad.ckpt"),
    "JSON": damaged(lambda raw: b'{"a": 1}', "bad.ckpt"),
    **{f"byte flipped at {p} %": damaged(flip(p), "bad.ckpt") for p in (1, 30, 50, 70, 90)},
    "archive of nothing": damaged(lambda raw: b"PK\x05\x06" + bytes(18), "bad.ckpt"),
    "safetensors by name": damaged(lambda raw: raw, "cut off", name="bad.safetensors"),
    "GGUF by its first bytes": damaged(lambda raw: b"GGUF" + raw, "GGUF", name="bad.gguf"),
    "safetensors with a huge header": damaged(
        lambda raw: (2**62).to_bytes(8, "little") + raw, "bad", name="bad.safetensors"
    ),
    "other suffix": damaged(lambda raw: raw[:100], "bad.pt", name="bad.pt"),
    "a list": holding([1, 2], "list"),
    "a tensor": holding(torch.zeros(3), "Tensor"),
    "a number": holding(5, "int"),
    "empty dictionary": holding({}, "none"),
    "keys are numbers": holding({1: torch.zeros(1)}, "state_dict"),
    "another program's": holding({"epoch": 1, "model": {}}, "'epoch'"),
    "no state dict": own(lambda c: c.pop("state_dict"), "state_dict"),
    "state dict is a list": own(lambda c: c.update(state_dict=[]), "state_dict"),
    "state dict is None": own(lambda c: c.update(state_dict=None), "state_dict"),
    "state dict is empty": own(lambda c: c.update(state_dict={}), "lacks"),
    "entry is a text": own(lambda c: c.update({ENTRY: "reasoner"}), "describe"),
    "entry is None": own(lambda c: c.update({ENTRY: None}), "describe"),
    "entry without kind": own(lambda c: c[ENTRY].pop("kind"), "describe"),
    "kind is a list": own(lambda c: c[ENTRY].update(kind=["reasoner"]), "describe"),
    "unknown kind": own(lambda c: c[ENTRY].update(kind="teacher"), "describe"),
    "wrong kind": own(lambda c: c[ENTRY].update(kind="latent_rm"), "bad.ckpt"),
    "no specification": own(lambda c: c[ENTRY].pop("spec"), "describe"),
    "specification is a list": own(lambda c: c[ENTRY].update(spec=[]), "describe"),
    "lora_alpha is a text": adapted("x", "lora_alpha"),
    "lora_alpha is NaN": adapted(float("nan"), "lora_alpha"),
    "lora_alpha is missing": adapted(None, "lora_alpha"),
}  # fmt: skip
SPECIFICATION = {
    "no method": spec(lambda s: s.pop("method"), "method"),
    "unknown method": spec(lambda s: s.update(method="nope"), "nope"),
    "method is a list": spec(lambda s: s.update(method=["coconut"]), "bad.ckpt"),
    "unknown field": spec(lambda s: s.update(nope=1), "nope"),
    "no backbone": spec(lambda s: s.pop("backbone"), "backbone"),
    "backbone is a text": spec(lambda s: s.update(backbone="gpt2"), "bad.ckpt"),
    "backbone without type": spec(lambda s: s["backbone"].pop("model_type"), "None"),
    "unknown backbone": spec(lambda s: s["backbone"].update(model_type="bert"), "bert"),
    "ten million layers": spec(lambda s: s["backbone"].update(n_layer=10**7), "2000"),
    "negative layers": spec(lambda s: s["backbone"].update(n_layer=-1), "-1"),
    "width 0": spec(lambda s: s["backbone"].update(n_embd=0), "n_embd=0"),
    "huge width": spec(lambda s: s["backbone"].update(n_embd=10**12), "n_embd"),
    "heads do not divide": spec(lambda s: s["backbone"].update(n_head=5), "multiple"),
    "vocabulary of another size": spec(lambda s: s["backbone"].update(vocab_size=9), "bad.ckpt"),
    "quantized": spec(
        lambda s: s["backbone"].update(quantization_config={"bits": 4}), "quantization"
    ),
    "tokenizer is no JSON": spec(lambda s: s.update(tokenizer="{"), "bad.ckpt"),
    "tokenizer is None": spec(lambda s: s.update(tokenizer=None), "bad.ckpt"),
    "tokenizer of nothing": spec(lambda s: s.update(tokenizer="{}"), "bad.ckpt"),
    "thoughts are a text": spec(lambda s: s.update(num_thoughts="3"), "num_thoughts"),
    "thoughts are NaN": spec(lambda s: s.update(num_thoughts=float("nan")), "num_thoughts"),
    "negative thoughts": spec(lambda s: s.update(num_thoughts=-1), "num_thoughts=-1"),
    "no answer tokens": spec(lambda s: s.update(max_answer_tokens=0), "max_answer_tokens=0"),
    "template without a place": spec(lambda s: s.update(prompt_template="Q"), "{question}"),
    "template is None": spec(lambda s: s.update(prompt_template=None), "bad.ckpt"),
    "unknown answer rule": spec(lambda s: s.update(answer_which="best"), "best"),
    "tokens are a list": spec(lambda s: s.update(tokens=["a"]), "bad.ckpt"),
    "no eos": spec(lambda s: s["tokens"].pop("eos"), "eos"),
    "no end": spec(lambda s: s["tokens"].pop("end"), "end"),
    "token there is not": spec(lambda s: s["tokens"].update(end="<nope>"), "<nope>"),
    "unknown option of the head": spec(lambda s: s.update(thought_head={"x": 1}), "thought_head"),
}
STATES = {
    "missing weight": state(lambda s: s.pop("reasoner.backbone.transformer.ln_f.bias"), "ln_f.bias"),
    "no embedding": state(
        lambda s: [s.pop(k) for k in list(s) if "wte" in k or "lm_head" in k] and None, "wte"
    ),
    "unknown weight": state(lambda s: s.update({"reasoner.x": torch.zeros(1)}), "x"),
    "weight is a text": state(lambda s: s.update({next(iter(s)): "text"}), "str"),
    "weight is None": state(lambda s: s.update({next(iter(s)): None}), "NoneType"),
    "weight is a number": state(lambda s: s.update({next(iter(s)): 1.5}), "float"),
    "name is a number": state(lambda s: s.update({5: torch.zeros(1)}), "state_dict"),
    "another shape": state(lambda s: s.update({next(iter(s)): torch.zeros(3)}), "(3,)"),
    "integers": state(
        lambda s: s.update({k: v.long() for k, v in s.items()}), "int64"
    ),
    "sparse weight": state(
        lambda s: s.update({next(iter(s)): next(iter(s.values())).to_sparse()}), "sparse"
    ),
    "adapter without weights": state(
        lambda s: s.update({ADAPTER: torch.zeros(128, 32)}), "lora_B"
    ),
}  # fmt: skip
HOSTILE = {
    name: own(lambda c, thing=thing: c.update({ENTRY: thing}), "refused", word)
    for name, thing, word in (
        ("os.system", Hostile(os.system, "touch owned"), "system"),
        ("exec", Hostile(exec, "open('owned', 'w')"), "exec"),
        ("eval", Hostile(eval, "open('owned', 'w')"), "eval"),
        ("open", Hostile(open, "owned", "w"), "open"),
        ("getattr", Hostile(getattr, "text", "upper"), "getattr"),
        ("mkdir", Hostile(os.mkdir, "owned"), "mkdir"),
        ("a class", Hostile(Path, "owned"), "Path"),
        ("loads", Hostile(pickle.loads, pickle.dumps(1)), "loads"),
    )
} | {
    "plain pickle": damaged(lambda raw: pickle.dumps(Hostile(os.mkdir, "owned")), "bad.ckpt"),
    "old pickle": damaged(lambda raw: b"cos\nmkdir\n(S'owned'\ntR.", "bad.ckpt"),
    "endless recursion": damaged(lambda raw: b"\x80\x02" + b"(" * 100_000 + b".", "bad.ckpt"),
    "hostile weights of a folder": folder(
        lambda path: (
            (path / "model.safetensors").unlink(),
            torch.save({"a": Hostile(os.mkdir, "owned")}, path / "pytorch_model.bin"),
        ),
        "refused",
        "mkdir",
    ),
}
FOLDERS = {
    "empty folder": Case(export("bad"), ("bad", "no weights"), lambda place: Path("bad").mkdir()),
    "entry is cut": folder(write("lightning_ltts.json", '{"kind": "reas'), "damaged"),
    "entry is a list": folder(write("lightning_ltts.json", "[]"), "damaged"),
    "entry is not UTF-8": folder(write("lightning_ltts.json", b"\xff\xfe"), "damaged"),
    "entry is deep": folder(write("lightning_ltts.json", "[" * 100_000), "damaged"),
    "kind of an entry": folder(
        lambda path: edit(path / "lightning_ltts.json", {"kind": "teacher"}), "teacher"
    ),
    "names of an entry": folder(
        lambda path: edit(path / "lightning_ltts.json", {"names": {}}), "names"
    ),
    "names of numbers": folder(
        lambda path: edit(path / "lightning_ltts.json", {"names": [[1, 2]]}), "names"
    ),
    "extras of an entry": folder(
        lambda path: edit(path / "lightning_ltts.json", {"extras": 5}), "damaged"
    ),
    "specification of an entry": folder(
        lambda path: edit(path / "lightning_ltts.json", {"spec": []}), "damaged"
    ),
    "no configuration": folder(lambda path: (path / "config.json").unlink(), "config"),
    "no tokenizer": folder(lambda path: (path / "tokenizer.json").unlink(), "tokenizer"),
    "tokenizer is cut": folder(write("tokenizer.json", '{"version"'), "tokenizer"),
    "no weights": folder(lambda path: (path / "model.safetensors").unlink(), "no weights"),
    "weights are cut": folder(
        lambda path: write(
            "model.safetensors", (path / "model.safetensors").read_bytes()[:5000]
        )(path),
        "model.safetensors", "cut off",
    ),
    "weights are text": folder(write("model.safetensors", "none"), "model.safetensors"),
    "weights are a folder": folder(
        lambda path: ((path / "model.safetensors").unlink(), (path / "model.safetensors").mkdir()),
        "no weights",
    ),
    "a weight is missing": folder(
        weights(lambda t: t.pop("transformer.ln_f.bias")), "ln_f.bias"
    ),
    "a weight too many": folder(weights(lambda t: t.update(x=torch.zeros(1))), "'x'"),
    "a weight of another shape": folder(
        weights(lambda t: t.update({"transformer.ln_f.bias": torch.zeros(5)})), "(5,)"
    ),
    "no embedding": folder(
        weights(lambda t: [t.pop(k) for k in list(t) if "wte" in k or "lm_head" in k]), "wte",
    ),
    "no embedding of a plain folder": folder(
        weights(lambda t: [t.pop(k) for k in list(t) if "wte" in k or "lm_head" in k]),
        "embeddings", plain=True,
    ),
    "shard above the folder": folder(shards({"a": "../outside.safetensors"}), "outside"),
    "shard at the root": folder(shards({"a": "/etc/hostname"}), "/etc/hostname"),
    "shard is a number": folder(shards({"a": 5}), "index"),
    "shard is empty": folder(shards({"a": ""}), "index"),
    "shard is missing": folder(shards({"a": "b.safetensors"}), "b.safetensors", "missing"),
    "index is a list": folder(shards([1]), "index"),
    "index names a list": folder(shards({"weight_map": 3}["weight_map"]), "index"),
    "index of nothing": folder(shards({}), "index"),
    "index is not UTF-8": folder(
        lambda path: (
            (path / "model.safetensors").unlink(),
            (path / "model.safetensors.index.json").write_bytes(b"\xff"),
        ),
        "index",
    ),
}  # fmt: skip
CONFIGURATIONS = {
    "ten million layers": config({"n_layer": 10**7}, "2000"),
    "layers are a text": config({"n_layer": "two"}, "n_layer"),
    "no layers": config({"n_layer": 0}, "n_layer=0"),
    "width 0": config({"n_embd": 0}, "n_embd=0"),
    "width of another model": config({"n_embd": 64}, "shape"),
    "width is NaN": config({"n_embd": float("nan")}, "n_embd"),
    "heads do not divide": config({"n_head": 5}, "multiple"),
    "heads are 0": config({"n_head": 0}, "n_head=0"),
    "unknown type": config({"model_type": "bert"}, "bert"),
    "type is None": config({"model_type": None}, "supported model"),
    "type is a list": config({"model_type": ["gpt2"]}, "supported model"),
    "type that there is not": config({"model_type": "nope-9000"}, "nope-9000"),
    "own code": config(
        {"model_type": "own", "auto_map": {"AutoConfig": "own.Config"}}, "supported model"
    ),
    "quantized": config({"quantization_config": {"quant_method": "gptq"}}, "quantization"),
    "quantized by a text": config({"quantization_config": "int8"}, "supported model"),
    "activation there is not": config({"activation_function": "nope"}, "nope"),
    "dropout of 2": config({"resid_pdrop": 2.0}, "2.0"),
    "epsilon is a text": config({"layer_norm_epsilon": "x"}, "layer_norm_epsilon"),
    "epsilon is infinite": config({"layer_norm_epsilon": float("inf")}, "inf"),
    "no JSON": folder(write("config.json", "{'n_layer': 2}"), "config", plain=True),
    "a list": folder(write("config.json", "[]"), "configuration", plain=True),
    "not UTF-8": folder(write("config.json", b"\xff\xfe\x00"), "config", plain=True),
    "nested deeply": folder(write("config.json", '{"a":' * 50_000), "config", plain=True),
}
CASES: Mapping[str, Case] = {
    f"{kind}: {name}": case
    for kind, cases in (
        ("checkpoint", OWN),
        ("specification", SPECIFICATION),
        ("state dict", STATES),
        ("hostile", HOSTILE),
        ("folder", FOLDERS),
        ("config.json", CONFIGURATIONS),
    )
    for name, case in cases.items()
} | {
    "checkpoint: nowhere": Case(export("nope.ckpt"), ("nope.ckpt", "does not exist")),
    "checkpoint: base for one that needs none": Case(
        lambda place: export(str(place.reasoner), "--base", str(place.reasoner))(place),
        ("base", "leave it out"),
    ),
    "checkpoint: base for a folder that needs none": Case(
        lambda place: export(str(place.exported), "--base", str(place.exported))(place),
        ("base", "leave it out"),
    ),
}
