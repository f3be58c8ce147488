"""SIGKILL at random and at every rename: the same command afterwards ends with the same results.

The temporary folder is on another disk, where there is one: nothing may be moved from there, which
is copying, and can be torn.
"""

import json
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_ltts.analysis.predictions import read_rows
from lightning_ltts.analysis.thought_store import read_thoughts
from lightning_ltts.mining.store import TrajectoryStore
from lightning_ltts.models.checkpoints import ENTRY
from tests.crash.victims import Zygote, run, start
from tests.helpers import save_latent_rm, save_reasoner
from tests.tiny import make_reasoner

pytestmark = pytest.mark.crash
# which problems shared a pass changes them, and so the checksum of the predictions
COSTS = ("cost", "positions", "flops", "at_dearest", "computed_from")
KILLS, CHAIN = 20, 5  # random kills of each command, and how many of them one run survives
SMALL = [
    "trainer.accelerator=cpu",
    "trainer.enable_progress_bar=false",
    "trainer.check_val_every_n_epoch=1",
]
MINING = [
    "experiment=demo/latent_rm", "reasoner=r.ckpt", *SMALL, "data.init_args.train.init_args.size=24",
    "data.init_args.val.init_args.size=8", "data.init_args.val_num_samples=4", "data.init_args.batch_size=4",
    "data.init_args.shard_size=8", "data.init_args.keep_uninformative=true", "trainer.max_epochs=3",
    "data.init_args.informative=null",
    "model.init_args.loss=bce",  # no answer is right here, which leaves nothing to be contrasted
]  # fmt: skip


@dataclass(frozen=True)
class Verb:
    """A command, and where its results are."""

    command: str
    options: list[str]
    folder: str


VERBS = {
    "reasoner": Verb(
        "fit",
        [
            "experiment=demo/reasoner", *SMALL, "trainer.max_epochs=3", "model.init_args.curriculum.cot_epochs=1",
            "model.init_args.start.backbone.n_embd=16", "model.init_args.start.backbone.n_layer=1",
            "data.init_args.train.init_args.size=64", "data.init_args.val.init_args.size=8",
            "data.init_args.batch_size=16",
        ],
        "logs/demo/reasoner",
    ),
    "latent_rm": Verb("fit", MINING, "logs/demo/latent_rm"),
    "mine": Verb("mine", MINING, "logs/demo/latent_rm"),
    "predict": Verb(
        "predict",
        [
            "experiment=demo/search", "reasoner=r.ckpt", "latent_rm=rm.ckpt", *SMALL,
            "data.init_args.problems.init_args.size=12", "model.init_args.num_samples=4",
            "model.init_args.token_budget=400", "model.init_args.beam.init_args.beams=2",
            "model.init_args.beam.init_args.candidates=2", "callbacks.writer.init_args.keep_thoughts=2",
        ],
        "logs/demo/search",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    made = Zygote()
    yield made
    made.close()


@dataclass
class Scene:
    """Fresh folders in which one command runs, and what it ends with when nobody kills it."""

    verb: Verb
    zygote: Zygote
    root: Path
    composed: str  # its configuration, with the folder's name in it
    environment: dict[str, str]
    made: int = 0
    expected: Any = None
    calls: tuple[str, ...] = ()
    seconds: float = 0.0

    def fresh(self) -> tuple[Path, list[str]]:
        """A folder, and the command in it; without Hydra, which takes half of the time."""
        self.made += 1
        folder = self.root / f"{self.made:03d}"
        folder.mkdir()
        for name in ("r.ckpt", "rm.ckpt"):
            (folder / name).hardlink_to(self.root / "composed" / name)
        (folder / "run.yaml").write_text(self.composed.replace("FOLDER", str(folder)))
        return folder, [self.verb.command, "--config", "run.yaml"]

    def run(self, folder: Path, arguments: list[str], **options: Any) -> int:
        return run(self.zygote, folder, arguments, environment=self.environment, **options)

    def check(self, folder: Path) -> None:
        """The results are those of a run that nobody killed, and nothing else is left."""
        place = folder / self.verb.folder
        assert_same(results(place, folder), self.expected, "results")
        left = [
            x
            for x in place.rglob("*")
            if x.suffix in (".tmp", ".lock") or x.name == ".lock" or ".rank" in x.name
        ]
        assert not left, left


@pytest.fixture(scope="module", params=VERBS)
def scene(request, zygote: Zygote, tmp_path_factory: pytest.TempPathFactory, tokenizer) -> Scene:
    root, verb = tmp_path_factory.mktemp(request.param), VERBS[request.param]
    folder = root / "composed"
    folder.mkdir()
    from lightning_ltts.models.latent_rm import LatentRM

    reasoner = make_reasoner("gpt2", tokenizer)
    # dropout draws from a state that no checkpoint holds: a resumed training draws other masks
    still = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    reasoner.backbone.config.update(still)
    reasoner.spec = replace(reasoner.spec, backbone={**reasoner.spec.backbone, **still})
    save_reasoner(reasoner, folder / "r.ckpt")
    save_latent_rm(LatentRM.from_reasoner(reasoner), folder / "rm.ckpt")
    name = f"name={verb.folder.removeprefix('logs/')}"  # or else what is printed has a new one
    assert run(zygote, folder, [verb.command, *verb.options, name, "--print_config"]) == 0
    output = (folder / "output.txt").read_text()
    composed = output[output.index("seed_everything") :].replace(str(folder), "FOLDER")
    scene = Scene(verb, zygote, root, composed, other_disk(root))
    for _ in range(2):  # the second one finds all files in the cache
        whole, arguments = scene.fresh()
        began = time.monotonic()
        assert scene.run(whole, arguments) == 0, (whole / "output.txt").read_text()
        scene.seconds = time.monotonic() - began
    scene.calls = tuple(json.loads((whole / "output.txt.calls").read_text()))
    scene.expected = results(whole / verb.folder, whole)
    return scene


def other_disk(root: Path) -> dict[str, str]:
    """A temporary folder on another file system than the results, where there is one."""
    shared = Path("/dev/shm")
    elsewhere = shared.is_dir() and shared.stat().st_dev != root.stat().st_dev
    return {"TMPDIR": str(shared)} if elsewhere else {}


def results(place: Path, folder: Path) -> dict[str, Any]:
    """Everything that a command leaves and that must not depend on kills."""
    found: dict[str, Any] = {}
    for path in place.glob("checkpoints/*.ckpt"):
        content = torch.load(path, weights_only=True)
        kept = ("epoch", "global_step", "state_dict", "optimizer_states", "lr_schedulers", ENTRY)
        found[path.name] = {name: content[name] for name in kept}
        callbacks = content["callbacks"]
        names = ("best_model_score", "best_model_path", "kth_value")
        found[path.name]["best"] = {
            key: {name: state[name] for name in names}
            for key, state in callbacks.items()
            if "ModelCheckpoint" in key
        }
    manifest = place / "fit.manifest.json"
    if manifest.exists():
        found["manifest"] = json.loads(manifest.read_text())
        metrics = found["manifest"]["finished"]["metrics"]
        for name in [name for name in metrics if "per_second" in name]:
            del metrics[name]
    for path in place.glob("trajectories/*/manifest.json"):
        store = TrajectoryStore(path.parent)
        counts = {
            name: value for name, value in store.manifest["counts"].items() if name != "seconds"
        }
        examples = [store[i].tensors() for i in range(len(store))]
        found[path.parent.name] = {
            "counts": counts,
            "settings": store.manifest["settings"],
            "examples": examples,
        }
    if (place / "predictions.jsonl").exists():
        # costs depend on which problems shared a pass, and scores' last digits
        found["rows"] = [{k: v for k, v in row.items() if k != "cost"} for row in read_rows(place)]
        found["thoughts"] = [(x.id, x.samples.float(), x.counts) for x in read_thoughts(place)]
        found["summary"] = json.loads((place / "summary.json").read_text())
    assert found, "there must be something to compare"
    return json_paths(found, str(folder))


def json_paths(value: Any, folder: str) -> Any:
    """The same without the name of the folder."""
    if isinstance(value, dict):
        return {key: json_paths(inner, folder) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [json_paths(inner, folder) for inner in value]
    return value.replace(folder, "") if isinstance(value, str) else value


def assert_same(one: Any, two: Any, name: str) -> None:
    """Equal; scores and thoughts of predictions to rounding: problems that share a pass change them."""
    if isinstance(one, dict):
        assert one.keys() == two.keys(), name
        for key in one:
            if key not in COSTS:
                assert_same(one[key], two[key], f"{name}.{key}")
    elif isinstance(one, list):
        assert len(one) == len(two), name
        for number, (a, b) in enumerate(zip(one, two, strict=True)):
            assert_same(a, b, f"{name}.{number}")
    elif isinstance(one, torch.Tensor):
        close = (
            torch.allclose(one, two, atol=1e-2)
            if "thoughts." in name and ".samples" not in name
            else False
        )
        assert torch.equal(one, two) or (name.startswith("results.thoughts") and close), name
    elif isinstance(one, float) and name.startswith(("results.rows", "results.summary")):
        assert one == pytest.approx(two, abs=1e-3), name
    else:
        both_nan = one != one and two != two  # the recall of no mixed question
        assert one == two or both_nan, name


def test_random_kills(scene: Scene) -> None:
    """Chains of kills, each followed by the same command; the last one is left alone."""
    chance, killed, attempts = random.Random(0), 0, 0
    while killed < KILLS:
        folder, arguments = scene.fresh()
        for _ in range(CHAIN):
            attempts += 1
            victim = start(scene.zygote, folder, arguments, environment=scene.environment)
            time.sleep(chance.uniform(0.2, 1) * scene.seconds)
            killed += victim.kill() != 0
        assert scene.run(folder, arguments) == 0, (folder / "output.txt").read_text()[-3000:]
        scene.check(folder)
        assert attempts < 5 * KILLS, "most runs were over before they could be killed"


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_kills_at_every_rename(scene: Scene, after: bool) -> None:
    """Before a file gets its name, when both are there, and right after it."""
    renames = [
        number for number, call in enumerate(scene.calls, 1) if call in ("replace", "rename")
    ]
    assert len(renames) >= 5
    for number in renames:
        folder, arguments = scene.fresh()
        died = scene.run(folder, arguments, die={"at": number, "after": after})
        assert died == -9, (folder / "output.txt").read_text()[-3000:]
        assert scene.run(folder, arguments) == 0, (folder / "output.txt").read_text()[-3000:]
        scene.check(folder)
