"""The pages say what is so: lengths, links, names, commands and code of the documentation."""

import importlib.util
import inspect
import re
import shlex
import warnings
from pathlib import Path
from typing import Any

import hydra
import pytest
import torch
from hydra.utils import get_object
from lightning.pytorch import Trainer
from omegaconf import OmegaConf

from lightning_ltts import cli
from lightning_ltts.cli.hydra_front import config_folder
from lightning_ltts.files import write_json
from lightning_ltts.models import checkpoints
from lightning_ltts.models.families import FAMILIES
from lightning_ltts.models.folders import save_folder
from lightning_ltts.models.latent_lm import LatentReasoner, fingerprint, new_reasoner
from lightning_ltts.models.latent_rm import LatentRM
from tests.helpers import save_latent_rm, save_reasoner
from tests.models.helpers import codi_state, colar_checkpoint, make_base, save_adapters
from tests.pages import DOCS, PAGES, ROOT, anchors_of, blocks_of, commands_of, text_commands
from tests.test_layers import LAYERS
from tests.tiny import BACKBONES

GUIDE = DOCS / "checkpoints.md"
EXTENDING = DOCS / "extending.md"  # whose commands are run by test_extending.py


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


# -- lengths, links and names


def test_readme_fits() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


@pytest.mark.parametrize("target", ["demo", "test"])
def test_readme_shows_its_two_commands(target: str) -> None:
    """What it promises in a heading; continuous integration calls the second."""
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert sum(line.startswith(f"    make {target}  ") for line in lines) == 1
    assert f"\n{target}: env" in (ROOT / "Makefile").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_lines(page: Path) -> None:
    lines = enumerate(page.read_text(encoding="utf-8").splitlines(), start=1)
    assert [f"line {number}" for number, line in lines if len(line) > 100] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert not anchor or anchor in anchors_of(file), target


def test_every_page_is_in_the_index() -> None:
    linked = set(re.findall(r"\]\((\w+\.md)", (DOCS / "index.md").read_text()))
    assert linked == {page.name for page in DOCS.glob("*.md")} - {"index.md"}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_that_are_named_exist(page: Path) -> None:
    """Paths of code and configurations, written from the root, the package or the benchmarks."""
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"`([\w./*-]+/[\w./*-]+\.(?:py|yaml|md|html))`", text):
        if name.startswith(("my_", "logs/my_")):  # the reader's own
            continue
        places = (ROOT, ROOT / "lightning_ltts", page.parent)
        assert any(list(place.glob(name)) for place in places), name


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_experiments_that_are_named_exist(page: Path) -> None:
    groups = [folder.name for folder in (config_folder() / "experiment").iterdir()]
    pattern = rf"`((?:{'|'.join(groups)})/\w+)`"
    for name in re.findall(pattern, page.read_text(encoding="utf-8")):
        assert (config_folder() / "experiment" / f"{name}.yaml").exists(), name


def test_rooms_of_the_architecture() -> None:
    """In the order in which imports run down."""
    text = (DOCS / "architecture.md").read_text()
    rows = text[text.index("| room |") :].splitlines()[2:]
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])]
    assert named == [room for room in LAYERS if room != "__main__"]


# -- commands


def commands(start: str) -> list[Any]:
    """Every command of the pages that begins so, with its page as its name."""
    found = {}
    for page in PAGES:
        if page != EXTENDING:
            blocks = [block for block in blocks_of(page) if block.kind == "shell"]
            listed = [command for block in blocks for command in commands_of(block.text)]
            for command in (*listed, *text_commands(page)):
                if command.startswith(start):
                    found.setdefault(" ".join(command.split()), name_of(page))
    return [pytest.param(command, id=f"{page}: {command}") for command, page in found.items()]


COMPOSED = [
    param
    for param in commands("ltts ")
    if "experiment=" in param.values[0] and "--config-dir" not in param.values[0]
]


@pytest.mark.slow
@pytest.mark.parametrize("command", COMPOSED)
def test_command_composes(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hydra knows the names; the classes have the options."""
    if "hydra/launcher=" in command:
        reason = "the launcher is not installed (pip install 'lightning-ltts[slurm]')"
        pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason=reason)
    _, verb, *overrides = shlex.split(command.split(">")[0])
    given = [override for override in overrides if "=" in override]
    values = [override.split(",")[0] for override in given] if "-m" in overrides else given
    open_keys = [f"++{x}" if "." in x.split("=")[0] else x for x in values]
    with hydra.initialize_config_dir(str(config_folder()), version_base="1.3"):
        cfg = hydra.compose(
            "config",
            [*open_keys, f"task={verb}", "hydra.runtime.output_dir=x"],
            return_hydra_config=True,
        )
    OmegaConf.set_readonly(cfg.hydra, False)
    cfg.hydra.runtime.choices = {"model": "m", "sampler": "s"}
    monkeypatch.setattr("hydra.core.hydra_config.HydraConfig.get", lambda: cfg.hydra)
    tree: Any = OmegaConf.to_container(cfg)
    resolved = {key: OmegaConf.to_container(cfg[key]) for key in ("model", "data", "callbacks")}
    check_options(resolved)
    unknown = tree["trainer"].keys() - inspect.signature(Trainer).parameters.keys()
    assert not unknown, unknown


def check_options(tree: Any) -> None:
    """Every `class_path` can be imported, and takes its `init_args`."""
    if isinstance(tree, list):
        for item in tree:
            check_options(item)
    if not isinstance(tree, dict):
        return
    if "class_path" in tree:
        # options that a class hands on are those of its bases
        bases = inspect.getmro(get_object(tree["class_path"]))
        known = {name for base in bases for name in inspect.signature(base.__init__).parameters}
        unknown = (tree.get("init_args") or {}).keys() - known
        assert not unknown, f"{tree['class_path']} has no {unknown}"
    for item in tree.values():
        check_options(item)


def test_options_of_the_report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr("sys.argv", ["ltts", "report", "--help"])
    with pytest.raises(SystemExit):
        cli.main()
    known = capsys.readouterr().out
    for param in commands("ltts report"):
        for option in re.findall(r" (--?[a-z][\w-]*)", param.values[0]):
            assert option in known, param.values[0]


@pytest.mark.parametrize("command", commands("python benchmarks/"))
def test_options_of_benchmarks(command: str) -> None:
    _, script, *arguments = shlex.split(command)
    source = (ROOT / script).read_text()
    for option in (argument for argument in arguments if argument.startswith("-")):
        assert f'"{option}"' in source, option


def test_targets_of_make() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    for param in commands("make "):
        assert set(param.values[0].split()[1:]) <= targets, param.values[0]


# -- code


@pytest.mark.slow
def test_readme_in_python(
    fetched: Path, gpt2: LatentReasoner, capsys: pytest.CaptureFixture
) -> None:
    torch.manual_seed(0)
    rm = LatentRM.from_reasoner(gpt2, reference=True, reads_answer=True)  # as the demo's
    save_latent_rm(rm, fetched / "logs/demo/latent_rm/checkpoints/best.ckpt")
    (block,) = (block for block in blocks_of(ROOT / "README.md") if block.kind == "python")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of a tensor that requires a gradient, for instance
        exec(compile(block.text, "README.md", "exec"), {})
    shape, *answers = capsys.readouterr().out.splitlines()
    assert shape == "torch.Size([1, 8, 3])"
    assert len(answers) == 8


@pytest.fixture
def fetched(
    tmp_path: Path, tokenizer, gpt2: LatentReasoner, latent_rm: LatentRM, monkeypatch
) -> Path:
    """A working directory, with what the Hub would give for the names in the guide."""
    hub, here = tmp_path / "hub", tmp_path / "here"
    for folder in (hub, here):
        folder.mkdir()
    torch.manual_seed(0)
    for name, family, head in (
        ("coconut", "gpt2", {}),
        ("codi", "gpt2", {"hidden_size": 8}),
        ("colar", "llama", {"embedding_std": 0.018}),
    ):
        reasoner = new_reasoner(name, BACKBONES[family], tokenizer, 2, thought_head=head)
        save_folder(reasoner, hub / f"latent-tts-{name}")
    save_folder(latent_rm, hub / "latent-tts-rm")
    trained = make_base(hub / "gpt2", "gpt2", extra_rows=3)
    (hub / "coconut").mkdir()
    torch.save(
        {f"base_causallm.{k}": v for k, v in trained.state_dict().items()},
        hub / "coconut/checkpoint_22",
    )
    (hub / "SIM_COT-GPT2-Coconut").mkdir()
    torch.save(
        {
            f"{part}.{k}": v
            for k, v in trained.state_dict().items()
            for part in ("base_causallm", "expainable_llm")
        },
        hub / "SIM_COT-GPT2-Coconut/checkpoint_28",
    )
    (hub / "CODI-gpt2").mkdir()
    torch.save(codi_state(trained, "gpt2"), hub / "CODI-gpt2/pytorch_model.bin")
    (hub / "CoLaR").mkdir()
    colar_checkpoint(hub / "CoLaR")
    (hub / "CoLaR/base").rename(hub / "Llama-3.2-1B-Instruct")
    make_base(hub / "SmolLM2-135M-Instruct", "llama")

    def folder(repository: str, **_: object) -> str:
        return str(hub / repository.split("/")[1])

    def file(repository: str, path: str, **_: object) -> str:
        return str(hub / repository.split("/")[1] / Path(path).name)

    monkeypatch.setattr(checkpoints, "snapshot_download", folder)
    monkeypatch.setattr(checkpoints, "hf_hub_download", file)
    monkeypatch.setitem(FAMILIES["llama"].embedding_std, 32, 0.018)  # the real base's is known
    monkeypatch.chdir(here)
    run = here / "logs/demo"
    for part in ("reasoner", "latent_rm"):
        (run / part / "checkpoints").mkdir(parents=True)
    save_reasoner(gpt2, run / "reasoner/checkpoints/best.ckpt")
    save_latent_rm(latent_rm, run / "latent_rm/checkpoints/best.ckpt")
    (run / "search").mkdir()
    write_json(run / "search/predictions.manifest.json", {"reasoner": fingerprint(gpt2)})
    write_json(run / "search/summary.json", {"num_problems": 4, "results": {}})
    save_adapters(hub / "SmolLM2-135M-Instruct", here / "my_adapters")
    return here


@pytest.mark.slow
def test_guide(
    fetched: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = GUIDE.read_text()
    listed = [command for block in blocks_of(GUIDE) for command in commands_of(block.text)]
    listed = [command for command in listed if re.match(r"ltts (import|export) ", command)]
    assert len(listed) == 14
    for command in listed:
        if "$" in command:  # needs the package; GGUF files have a test of their own
            continue
        monkeypatch.setattr("sys.argv", shlex.split(command))
        cli.main()
    assert {path.name for path in (fetched / "models").iterdir()} == {
        "coconut", "codi", "colar", "latent-rm", "meta-coconut", "codi-gpt2", "sim-cot", "colar-raw", "smollm2", "demo",
        "demo-rm", "merged", "mine",
    }  # fmt: skip
    for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
        exec(compile(block, str(GUIDE), "exec"), {})
    assert "tensor([[3, 3, 3, 3]])" in capsys.readouterr().out


@pytest.mark.slow
def test_figures_are_those_of_the_tables(tmp_path: Path) -> None:
    """A figure says which tables it was drawn from: `python benchmarks/figures.py results`."""
    specification = importlib.util.spec_from_file_location(
        "figures", ROOT / "benchmarks/figures.py"
    )
    assert specification is not None
    assert specification.loader is not None
    figures = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(figures)
    for name, (draw, source) in figures.sources().items():
        assert any(f"({name})" in page.read_text() for page in PAGES), name
        assert figures.sign(source) in (DOCS / name).read_text(), name
        figures.save(draw(source), tmp_path / name, figures.sign(source))
        assert figures.sign(source) in (tmp_path / name).read_text()
