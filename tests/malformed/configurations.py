"""Configuration files and command lines that must be refused before anything is made of them."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from lightning_ltts import cli
from tests.malformed.case import Case, Place

ALIASES = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12)
)
# what a file holds, and words of the message beside the file's name
FILES: dict[str, tuple[str | bytes, ...]] = {
    "bracket left open": ("trainer: [1\nb: {", "line 2"),
    "JSON cut off": ('{"trainer": ', "not YAML"),
    "tab": ("trainer:\n\tmax_epochs: 1\n", "line 2"),
    "wrong indentation": ("trainer:\n    max_epochs: 1\n  devices: 1\n", "line 3"),
    "quote left open": ('seed_everything: "0\n', "not YAML"),
    "control character": (b"seed_everything: \x00\n", "control characters"),
    "random bytes": (bytes(range(128, 256)), "UTF-8"),
    "Latin-1": ("name: caf\xe9\n".encode("latin-1"), "UTF-8", "byte 9"),
    "UTF-16": ("seed_everything: 0\n".encode("utf-16"), "UTF-8"),
    "two documents": ("trainer: {}\n---\ntrainer: {}\n", "another document"),
    "alias bomb": (ALIASES, "stands for more than 100,000 values"),
    "refers to itself": ("a: &a [*a]\n", "'a'"),
    "refers to nothing": ("a: *b\n", "'b'"),
    "nested deeply": ("trainer: " + "[" * 5000 + "]" * 5000, "100 levels"),
    "nested deeply as mappings": ("a: " + "{b: " * 3000, "100 levels"),
    "11 MB": ("a: " + "x" * 11_000_000, "10,000,000 bytes"),
    "200,000 values": ("a: [" + "1," * 200_000 + "1]", "100,000"),
    "number of 10,000 digits": ("seed_everything: " + "9" * 10_000, "digits"),
    "python object": ("model: !!python/object/apply:os.mkdir ['owned']\n", "tag"),
    "python name": ("model: !!python/name:os.system ''\n", "tag"),
    "unknown tag": ("model: !nope x\n", "!nope"),
    "merge of a number": ("trainer:\n  <<: 5\n", "mapping"),
    "list as a key": ("[1, 2]: x\n", "not YAML"),
    "key twice": ("trainer: {max_epochs: 1}\ntrainer: {max_epochs: 2}\n", "'trainer' twice"),
    "inner key twice": ("trainer:\n  max_epochs: 1\n  max_epochs: 2\n", "line 3", "'max_epochs'"),
    "a list": ("- trainer\n- model\n", "a list"),
    "a text": ("trainer\n", "a str"),
    "number as a key": ("5: 6\n", "5"),
    "date as a key": ("2024-01-01: x\n", "date"),
    "class is a number": ("model:\n  class_path: 5\n", "class_path=5"),
    "class is a list": ("data:\n  class_path: [a]\n", "class_path=['a']"),
    "options are a list": ("model:\n  init_args: [1]\n", "init_args=[1]"),
    "options are a text": ("model:\n  init_args: lr\n", "init_args='lr'"),
}  # fmt: skip
# what the file given as --config holds, and words of the message
OPTIONS: dict[str, tuple[str, ...]] = {
    "nothing": ("", "bad.yaml", "nothing"),
    "null": ("null\n", "bad.yaml", "nothing"),
    "unknown option": ("nope: 1\n", "nope"),
    "unknown option of the trainer": ("trainer:\n  nope: 1\n", "trainer.nope"),
    "epochs in words": ("trainer:\n  max_epochs: many\n", "trainer.max_epochs"),
    "class there is not": ("model:\n  class_path: lightning_ltts.Nope\n", "Nope"),
    "module there is not": ("model:\n  class_path: nope.Nope\n", "nope"),
    "another kind of class": ("model:\n  class_path: os.system\n", "os.system"),
    "model is a list": ("model: [1]\n", "model"),
    "seed in words": ("seed_everything: many\n", "seed_everything"),
}
# experiments in a folder of the user's, of which Hydra composes the configuration
EXPERIMENTS: dict[str, tuple[str, ...]] = {
    "refers to nothing": ("name: ${nope}\n", "nope"),
    "refers to itself": ("name: ${name}\n", "interpolation"),
    "reference left open": ("name: ${\n", "${"),
    "unknown resolver": ("name: ${nope:1}\n", "nope"),
    "defaults are a number": ("defaults: 5\n", "defaults"),
    "default there is not": ("defaults:\n  - override /model: nope\n", "model/nope"),
    "group there is not": ("defaults:\n  - /nope: nope\n", "nope/nope"),
    "trainer is a number": ("trainer: 5\n", "trainer=5"),
    "trainer is nothing": ("trainer: null\n", "trainer=None"),
    "callback is a number": ("callbacks:\n  x: 5\n", "callbacks"),
    "callbacks are a list": ("callbacks: [1]\n", "not as a list"),
    "model is a list": ("model: [1]\n", "bad"),
}
LINES: dict[str, tuple[str, str]] = {
    "no such command": ("frobnicate", "frobnicate"),
    "no such configuration": ("fit --config nope.yaml", "nope.yaml"),
    "folder as a configuration": ("fit --config .", "config"),
    "configuration without a name": ("fit --config", "--config"),
    "no such experiment": ("fit experiment=nope", "experiment/nope"),
    "no such group": ("fit nope=1", "nope"),
    "no such sampler": ("fit sampler=nope", "sampler/nope"),
    "broken override": ("fit model.init_args.lr=[1", "lr"),
    "override of nothing": ("fit =1", "override"),
    "--json of fit": ("fit --json", "--json"),
    "--overwrite of predict": ("predict --overwrite", "--overwrite"),
    "no such flag": ("fit --nope", "--nope"),
    "report of nothing": ("report", "predictions"),
    "export without a target": ("export x", "target"),
    "unknown data type": ("export x y --dtype int4", "int4"),
}


def run(line: str) -> Callable[[Place], object]:
    """`ltts LINE`."""

    def use(place: Place) -> None:
        sys.argv = ["ltts", *line.split()]
        cli.main()

    return use


def written(path: str, content: str | bytes) -> Callable[[Place], object]:
    """Writes a file."""

    def make(place: Place) -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(content.encode() if isinstance(content, str) else content)

    return make


def files() -> dict[str, Case]:
    """Every malformed file, given in both forms of the command line."""
    package = b"# @package _global_\n"
    cases = {}
    for name, (content, *words) in FILES.items():
        raw = content.encode() if isinstance(content, str) else content
        texts = tuple(map(str, words))
        cases[f"--config: {name}"] = Case(
            run("fit --config bad.yaml"), ("bad.yaml", *texts), written("bad.yaml", raw)
        )
        if "line" in texts[0] or name in ("UTF-16", "Latin-1"):
            continue  # the line is another below the package's
        cases[f"experiment: {name}"] = Case(
            run("fit --config-dir own experiment=bad"),
            ("own/experiment/bad.yaml", *texts),
            written("own/experiment/bad.yaml", package + raw),
        )
    return cases


CASES: Mapping[str, Case] = {
    **files(),
    **{
        f"options: {name}": Case(
            run("fit --config bad.yaml"), tuple(words), written("bad.yaml", content)
        )
        for name, (content, *words) in OPTIONS.items()
    },
    **{
        f"composed: {name}": Case(
            run("fit --config-dir own experiment=bad"),
            tuple(words),
            written("own/experiment/bad.yaml", "# @package _global_\n" + content),
        )
        for name, (content, *words) in EXPERIMENTS.items()
    },
    **{f"ltts {line}: {name}": Case(run(line), (word,)) for name, (line, word) in LINES.items()},
}
